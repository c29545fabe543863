use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;
use tokenizers::{Model, ModelWrapper, NormalizerWrapper};

use crate::added::{looks_control, Added};
use crate::bytes::Spelling;
use crate::config::{self, Config};
use crate::error::{short, Fail, Result};
use crate::pre;
use crate::regex::set_limits;
use crate::scan;
use crate::tokenizer::{check_ids, end_tokens, Entry, Identity, Parts, TextTokenizer};

#[derive(Deserialize)]
struct Json<'a> {
    #[serde(default)]
    added_tokens: Vec<AddedJson>,
    #[serde(default)]
    normalizer: Option<NormalizerWrapper>,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(borrow)]
    model: &'a RawValue,
}

#[derive(Deserialize)]
struct AddedJson {
    #[serde(default)]
    id: Option<u32>,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

/// Reads a tokenizer.json; `config` is the text of tokenizer_config.json and `template` that of
/// chat_template.jinja, both empty where there is none.
pub fn load(json: &str, config: &str, template: &str) -> Result<TextTokenizer> {
    set_limits();
    let bad = |e| {
        Fail::corrupt(format!(
            "got a bad tokenizer.json: {e}; need an intact file"
        ))
    };
    let file: Json = serde_json::from_str(json).map_err(bad)?;
    scan::check(file.model.get())?;
    let mut model: ModelWrapper = serde_json::from_str(file.model.get()).map_err(bad)?;
    let config = config::parse(config)?;
    if let ModelWrapper::BPE(model) = &mut model {
        model.dropout = None; // a training aid: it would make encoding random
    }
    let added = number(&file.added_tokens, &model)?;
    let (spelling, strip_space) = spelling(&file.decoder)?;
    let entries = entries(&model, &added, &spelling)?;
    let unk = unk_of(&model);
    let count = entries.len();
    let kind = match &model {
        ModelWrapper::BPE(_) => "BPE",
        ModelWrapper::Unigram(_) => "Unigram",
        ModelWrapper::WordLevel(_) => "WordLevel",
        ModelWrapper::WordPiece(_) => "WordPiece",
    };
    let first = first_special(&file.post_processor);
    let mut identity = identity(first, &model, config, &added)?;
    if !template.is_empty() {
        identity.chat_template = template.to_string();
    }
    identity.description = format!("{kind}, {count} tokens, from tokenizer.json");
    TextTokenizer::new(Parts {
        pre: pre::parse(&file.pre_tokenizer)?,
        model,
        normalizer: file.normalizer,
        added,
        entries,
        identity,
        strip_space,
        unk,
    })
}

/// Added tokens with the ids the `tokenizers` crate gives them: the model's where it has the
/// spelling, else the next free one. The file's own must agree: what was trained with another id
/// would be read as some other token.
fn number(tokens: &[AddedJson], model: &ModelWrapper) -> Result<Vec<Added>> {
    let mut next = u32::try_from(model.get_vocab_size())
        .map_err(|_| Fail::corrupt("got a vocabulary of more than 2^32 tokens"))?;
    let mut seen = HashSet::new();
    let mut list = Vec::new();
    for token in tokens {
        if token.content.is_empty() || !seen.insert(token.content.as_str()) {
            continue;
        }
        let id = model.token_to_id(&token.content).unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        if let Some(wrong) = token.id.filter(|&said| said != id) {
            return Err(Fail::corrupt(format!(
                "got id {wrong} for added token '{}'; need {id}, the vocabulary's or the next free one",
                short(&token.content)
            )));
        }
        list.push(Added {
            id,
            content: token.content.clone(),
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            normalized: token.normalized,
            special: token.special,
            control: token.special || looks_control(&token.content),
        });
    }
    Ok(list)
}

fn entries(model: &ModelWrapper, added: &[Added], spelling: &Spelling) -> Result<Vec<Entry>> {
    let raw: HashSet<u32> = added.iter().map(|token| token.id).collect();
    let vocab = model.get_vocab();
    let largest = vocab.values().chain(raw.iter()).max().copied().unwrap_or(0);
    check_ids(largest, vocab.len() + added.len())?;
    let mut entries = Vec::with_capacity(vocab.len() + added.len());
    for (text, id) in vocab {
        if !raw.contains(&id) {
            let bytes = spelling.bytes_of(&text);
            entries.push(Entry { id, text, bytes });
        }
    }
    for token in added {
        let (text, bytes) = (token.content.clone(), token.content.clone().into_bytes());
        entries.push(Entry {
            id: token.id,
            text,
            bytes,
        });
    }
    if entries.is_empty() {
        return Err(Fail::corrupt("got a tokenizer.json without tokens"));
    }
    Ok(entries)
}

fn unk_of(model: &ModelWrapper) -> Option<u32> {
    match model {
        ModelWrapper::BPE(model) => model.token_to_id(model.unk_token.as_ref()?),
        ModelWrapper::WordLevel(model) => model.token_to_id(&model.unk_token),
        ModelWrapper::WordPiece(model) => model.token_to_id(&model.unk_token),
        // Its unknown id is private; the released ones call it <unk>.
        ModelWrapper::Unigram(model) => model.token_to_id("<unk>"),
    }
}

/// How the decoder turns tokens into bytes, and whether it drops a text's first space.
fn spelling(decoder: &Value) -> Result<(Spelling, bool)> {
    let steps: Vec<&Value> = match decoder.get("decoders").and_then(Value::as_array) {
        Some(list) => list.iter().collect(),
        None => vec![decoder],
    };
    let mut space = None;
    let (mut byte_fallback, mut strip) = (false, false);
    for step in steps {
        let text = |name: &str| step.get(name).and_then(Value::as_str);
        match text("type") {
            Some("ByteLevel") => return Ok((Spelling::ByteLevel, false)),
            Some("ByteFallback") => byte_fallback = true,
            Some("Fuse") => {}
            Some("Metaspace") => {
                space = Some(text("replacement").unwrap_or("▁").to_string());
                let legacy = step.get("add_prefix_space").and_then(Value::as_bool);
                strip |=
                    text("prepend_scheme").unwrap_or("always") != "never" && legacy.unwrap_or(true);
            }
            Some("Replace") if text("content") == Some(" ") => {
                let pattern = step.pointer("/pattern/String").and_then(Value::as_str);
                space = pattern.filter(|p| !p.is_empty()).map(str::to_string);
            }
            Some("Strip") => strip |= step.get("start").and_then(Value::as_u64).unwrap_or(0) > 0,
            other => {
                let name = other.unwrap_or("none").to_string();
                return Err(Fail::unsupported(format!(
                    "got decoder '{name}'; need ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip"
                )));
            }
        }
    }
    let space = space.unwrap_or_else(|| "▁".to_string());
    Ok((
        Spelling::Sentence {
            space,
            byte_fallback,
        },
        strip,
    ))
}

fn identity(
    first: Option<&str>,
    model: &ModelWrapper,
    config: Config,
    added: &[Added],
) -> Result<Identity> {
    let id_of = |text: &str| {
        let found = added
            .iter()
            .find(|token| token.content == text)
            .map(|token| token.id);
        found.or_else(|| model.token_to_id(text))
    };
    let first = first.and_then(id_of);
    let named = config.bos.as_deref();
    let known = named.and_then(id_of);
    if let (Some(name), None, Some(true)) = (named, known, config.add_bos) {
        return Err(Fail::corrupt(format!(
            "got bos_token '{}', which the vocabulary lacks, and add_bos_token; need a token of it",
            short(name)
        )));
    }
    let bos = known.or(first);
    let eos = config.eos.as_deref().and_then(id_of);
    Ok(Identity {
        bos,
        eos,
        end: end_tokens(&[eos], added),
        adds_bos: bos.is_some() && config.add_bos.unwrap_or(first == bos),
        chat_template: config.chat_template,
        description: String::new(),
    })
}

/// The special token that the post-processor puts in front of a text.
fn first_special(processor: &Value) -> Option<&str> {
    if let Some(list) = processor.get("processors").and_then(Value::as_array) {
        return list.iter().find_map(first_special);
    }
    processor.pointer("/single/0/SpecialToken/id")?.as_str()
}
