//! Tokenizers and chat templates behind one bridge. Every function here catches panics, and every
//! error's text begins with one letter that names its kind (see `error.rs`).

mod added;
mod automaton;
mod bytes;
mod chat;
mod config;
mod error;
mod families;
mod gguf;
mod growth;
mod guided;
mod hf;
mod pre;
mod regex;
mod scan;
mod tokenizer;

use added::Parse;
use chat::Chat;
use error::{guard, utf8, Fail, Kind, Result};
use guided::{Constraint, Spec};
use tokenizer::TextTokenizer;

#[cxx::bridge(namespace = "foveal::text")]
mod ffi {
    /// Strings laid end to end; `ends` has one entry a string.
    struct Strings<'a> {
        bytes: &'a [u8],
        ends: &'a [u64],
    }

    /// Ids are -1 where the file names none.
    struct GgufFields<'a> {
        model: &'a [u8],
        pre: &'a [u8],
        tokens: Strings<'a>,
        scores: &'a [f32],
        types: &'a [i32],
        merges: Strings<'a>,
        bos: i32,
        eos: i32,
        eot: i32,
        unk: i32,
        add_bos: bool,
        add_space_prefix: bool,
        chat_template: &'a [u8],
    }

    struct ChatFields<'a> {
        chat_template: &'a [u8],
        messages: &'a [u8],
        bos: &'a [u8],
        eos: &'a [u8],
        add_generation_prompt: bool,
        extra: &'a [u8],
    }

    /// Everything the C++ side needs to turn ids into bytes, ascending by id.
    struct Table {
        ids: Vec<i32>,
        bytes: Vec<u8>,
        ends: Vec<u64>,
        special: Vec<i32>,
        strip_space: bool,
    }

    struct About {
        bos: i32,
        eos: i32,
        end: Vec<i32>,
        adds_bos: bool,
        chat_template: String,
        description: String,
        /// The most bytes of memory that encoding takes for each byte of a text.
        encode_cost: u64,
    }

    /// `kind`: 0 any JSON object, 1 a JSON schema, 2 a regular expression, 3 choices, 4 a grammar.
    struct GuidedFields<'a> {
        kind: u8,
        text: &'a [u8],
        choices: Strings<'a>,
    }

    extern "Rust" {
        type TextTokenizer;
        fn load_json(json: &[u8], config: &[u8], jinja: &[u8]) -> Result<Box<TextTokenizer>>;
        fn load_gguf(fields: &GgufFields) -> Result<Box<TextTokenizer>>;
        fn encode(tokenizer: &TextTokenizer, text: &[u8], special: bool) -> Result<Vec<i32>>;
        fn token_id(tokenizer: &TextTokenizer, token: &[u8]) -> Result<i32>;
        fn render_chat(fields: &ChatFields) -> Result<String>;
        /// The template, begin and end are the tokenizer's own.
        fn encode_chat(tokenizer: &TextTokenizer, fields: &ChatFields) -> Result<Vec<i32>>;
        fn table(tokenizer: &TextTokenizer) -> Result<Table>;
        fn about(tokenizer: &TextTokenizer) -> Result<About>;

        type Constraint;
        fn guided(tokenizer: &TextTokenizer, fields: &GuidedFields) -> Result<Box<Constraint>>;
        fn guided_fork(constraint: &Constraint) -> Result<Box<Constraint>>;
        /// Writes the tokens that may come next, one bit each; true when the text may end here.
        fn guided_mask(constraint: &mut Constraint, words: &mut [u32]) -> Result<bool>;
        /// True when nothing but the end can follow.
        fn guided_accept(constraint: &mut Constraint, token: i32) -> Result<bool>;
    }
}

fn fails_on_load(panic: String) -> Fail {
    Fail::corrupt(format!(
        "got a tokenizer that cannot be built ({panic}); need an intact tokenizer file"
    ))
}

fn fails_on_text(panic: String) -> Fail {
    Fail::corrupt(format!(
        "got a tokenizer that fails on this text ({panic}); need an intact tokenizer file"
    ))
}

fn broken(panic: String) -> Fail {
    Fail::new(Kind::Internal, panic)
}

fn load_json(json: &[u8], config: &[u8], jinja: &[u8]) -> Result<Box<TextTokenizer>> {
    guard(fails_on_load, || {
        let as_corrupt = |e: Fail| Fail::corrupt(e.message);
        let json = utf8("a tokenizer.json", json).map_err(as_corrupt)?;
        let config = utf8("a tokenizer_config.json", config).map_err(as_corrupt)?;
        let jinja = utf8("a chat template", jinja).map_err(as_corrupt)?;
        Ok(Box::new(hf::load(json, config, jinja)?))
    })
}

fn load_gguf(fields: &ffi::GgufFields) -> Result<Box<TextTokenizer>> {
    guard(fails_on_load, || {
        let text = |what: &str, bytes| utf8(what, bytes).map_err(|e| Fail::corrupt(e.message));
        let id = |id: i32| u32::try_from(id).ok();
        let source = gguf::Source {
            model: text("a tokenizer model", fields.model)?,
            pre: text("a pre-tokenizer name", fields.pre)?,
            tokens: strings("a token", &fields.tokens)?,
            scores: fields.scores,
            types: fields.types,
            merges: strings("a merge", &fields.merges)?,
            bos: id(fields.bos),
            eos: id(fields.eos),
            eot: id(fields.eot),
            unk: id(fields.unk),
            add_bos: fields.add_bos,
            add_space_prefix: fields.add_space_prefix,
            chat_template: text("a chat template", fields.chat_template)?,
        };
        Ok(Box::new(gguf::load(&source)?))
    })
}

fn guided(tokenizer: &TextTokenizer, fields: &ffi::GuidedFields) -> Result<Box<Constraint>> {
    guard(broken, || {
        let text = |what: &str| utf8(what, fields.text).map(str::to_string);
        let spec = match fields.kind {
            0 => Spec::JsonObject,
            1 => Spec::JsonSchema(text("a JSON schema")?),
            2 => Spec::Regex(text("a regular expression")?),
            3 => {
                let choices = strings("a choice", &fields.choices);
                let choices = choices.map_err(|e| Fail::invalid(e.message))?;
                Spec::Choice(choices.into_iter().map(str::to_string).collect())
            }
            _ => Spec::Grammar(text("a grammar")?),
        };
        let vocabulary = tokenizer.guided.get(tokenizer)?;
        Ok(Box::new(guided::compile(vocabulary, spec)?))
    })
}

fn guided_fork(constraint: &Constraint) -> Result<Box<Constraint>> {
    guard(broken, || Ok(Box::new(constraint.fork())))
}

fn guided_mask(constraint: &mut Constraint, words: &mut [u32]) -> Result<bool> {
    guard(broken, || Ok(constraint.mask(words)?.may_end))
}

fn guided_accept(constraint: &mut Constraint, token: i32) -> Result<bool> {
    guard(broken, || {
        let token = u32::try_from(token);
        constraint.accept(token.map_err(|_| Fail::invalid("got a negative token; need an id"))?)
    })
}

fn strings<'a>(what: &str, list: &ffi::Strings<'a>) -> Result<Vec<&'a str>> {
    let mut start = 0usize;
    let mut out = Vec::with_capacity(list.ends.len());
    for (number, &end) in list.ends.iter().enumerate() {
        let bytes = list.bytes.get(start..end as usize);
        let bytes = bytes.ok_or_else(|| Fail::corrupt(format!("got {what} out of bounds")))?;
        let text = std::str::from_utf8(bytes);
        out.push(text.map_err(|_| Fail::corrupt(format!("got {what} {number} not in UTF-8")))?);
        start = end as usize;
    }
    Ok(out)
}

fn encode(tokenizer: &TextTokenizer, text: &[u8], special: bool) -> Result<Vec<i32>> {
    guard(fails_on_text, || {
        let parse = if special { Parse::All } else { Parse::Plain };
        tokenizer.encode(utf8("a text", text)?, parse)
    })
}

fn chat_of(fields: &ffi::ChatFields) -> Result<Chat> {
    let messages = utf8("messages", fields.messages)?;
    let mut chat = Chat::parse(messages, utf8("template variables", fields.extra)?)?;
    chat.bos = utf8("a begin token", fields.bos)?.to_string();
    chat.eos = utf8("an end token", fields.eos)?.to_string();
    chat.add_generation_prompt = fields.add_generation_prompt;
    Ok(chat)
}

fn render_chat(fields: &ffi::ChatFields) -> Result<String> {
    guard(chat::fails, || {
        chat::render(
            utf8("a chat template", fields.chat_template)?,
            &chat_of(fields)?,
        )
    })
}

fn encode_chat(tokenizer: &TextTokenizer, fields: &ffi::ChatFields) -> Result<Vec<i32>> {
    guard(fails_on_text, || {
        chat::encode_chat(tokenizer, chat_of(fields)?)
    })
}

fn token_id(tokenizer: &TextTokenizer, token: &[u8]) -> Result<i32> {
    guard(broken, || {
        let found = std::str::from_utf8(token)
            .ok()
            .and_then(|token| tokenizer.ids.get(token));
        Ok(found.map_or(-1, |&id| id as i32))
    })
}

fn table(tokenizer: &TextTokenizer) -> Result<ffi::Table> {
    guard(broken, || {
        let mut table = ffi::Table {
            ids: Vec::with_capacity(tokenizer.entries.len()),
            bytes: Vec::new(),
            ends: Vec::with_capacity(tokenizer.entries.len()),
            special: Vec::new(),
            strip_space: tokenizer.strip_space,
        };
        for entry in &tokenizer.entries {
            table.ids.push(entry.id as i32);
            table.bytes.extend_from_slice(&entry.bytes);
            table.ends.push(table.bytes.len() as u64);
        }
        let special = tokenizer
            .added
            .tokens()
            .iter()
            .filter(|token| token.special);
        table.special = special.map(|token| token.id as i32).collect();
        Ok(table)
    })
}

fn about(tokenizer: &TextTokenizer) -> Result<ffi::About> {
    guard(broken, || {
        let identity = &tokenizer.identity;
        let id = |id: Option<u32>| id.map_or(-1, |id| id as i32);
        Ok(ffi::About {
            bos: id(identity.bos),
            eos: id(identity.eos),
            end: identity.end.iter().map(|&id| id as i32).collect(),
            adds_bos: identity.adds_bos,
            chat_template: identity.chat_template.clone(),
            description: identity.description.clone(),
            encode_cost: growth::encode_cost(tokenizer.growth) as u64,
        })
    })
}
