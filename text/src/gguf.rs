use std::collections::HashMap;

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::{ModelWrapper, NormalizerWrapper};

use crate::added::{looks_control, Added};
use crate::bytes::{byte_token, Spelling};
use crate::error::{Fail, Result};
use crate::families;
use crate::tokenizer::{end_tokens, Entry, Identity, Parts, TextTokenizer};

const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER: i32 = 4;
const BYTE: i32 = 6;

/// The fields `tokenizer.ggml.*` of a GGUF file.
pub struct Source<'a> {
    pub model: &'a str,
    pub pre: &'a str,
    pub tokens: Vec<&'a str>,
    pub scores: &'a [f32],
    pub types: &'a [i32],
    pub merges: Vec<&'a str>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub eot: Option<u32>,
    pub unk: Option<u32>,
    pub add_bos: bool,
    pub add_space_prefix: bool,
    pub chat_template: &'a str,
}

impl Source<'_> {
    fn kind(&self, id: usize) -> i32 {
        self.types.get(id).copied().unwrap_or_else(|| {
            let token = self.tokens[id];
            if looks_control(token) || Some(id as u32) == self.bos || Some(id as u32) == self.eos {
                CONTROL
            } else if byte_token(token).is_some() && self.model == "llama" {
                BYTE
            } else {
                1
            }
        })
    }

    fn check(&self) -> Result<()> {
        let count = self.tokens.len();
        if count == 0 || count > 1 << 24 {
            return Err(Fail::corrupt(format!(
                "got {count} tokens; need 1 to {}",
                1 << 24
            )));
        }
        for (name, length) in [
            ("scores", self.scores.len()),
            ("token_type", self.types.len()),
        ] {
            if length != 0 && length != count {
                return Err(Fail::corrupt(format!(
                    "got {length} {name} for {count} tokens"
                )));
            }
        }
        let named = [
            ("bos", self.bos),
            ("eos", self.eos),
            ("eot", self.eot),
            ("unk", self.unk),
        ];
        for (name, id) in named {
            if id.is_some_and(|id| id as usize >= count) {
                let id = id.unwrap_or_default();
                return Err(Fail::corrupt(format!(
                    "got {name} token {id} of {count} tokens"
                )));
            }
        }
        Ok(())
    }
}

/// Turns a GGUF vocabulary into the tokenizer its model was trained with.
pub fn load(source: &Source) -> Result<TextTokenizer> {
    source.check()?;
    match source.model {
        "gpt2" => load_bpe(source),
        "llama" => load_sentence(source),
        other => Err(Fail::unsupported(format!(
            "got vocabulary '{other}'; need gpt2 or llama"
        ))),
    }
}

fn load_bpe(source: &Source) -> Result<TextTokenizer> {
    let words = families::words(source.pre)?;
    let mut merges = Vec::with_capacity(source.merges.len());
    for (number, line) in source.merges.iter().enumerate() {
        let Some((left, right)) = line
            .split_once(' ')
            .filter(|(l, r)| !(l.is_empty() || r.is_empty()))
        else {
            return Err(Fail::corrupt(format!(
                "got merge {number} '{line}'; need two tokens"
            )));
        };
        merges.push((left.to_string(), right.to_string()));
    }
    let model = BPE::builder()
        .vocab_and_merges(vocab(source), merges)
        .ignore_merges(words.ignore_merges)
        .build()
        .map_err(|e| Fail::corrupt(format!("got bad merges: {e}")))?;
    let pre = if source.pre.is_empty() {
        "default"
    } else {
        source.pre
    };
    let description = format!("BPE, {} tokens, pre-tokenizer {pre}", source.tokens.len());
    TextTokenizer::new(Parts {
        model: ModelWrapper::BPE(model),
        normalizer: words.normalizer,
        pre: words.steps,
        added: added(source),
        entries: entries(source, &Spelling::ByteLevel),
        identity: identity(source, description),
        strip_space: false,
        unk: None,
    })
}

fn load_sentence(source: &Source) -> Result<TextTokenizer> {
    let bad = |e: tokenizers::Error| Fail::corrupt(format!("got a bad vocabulary: {e}"));
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab(source), merges_of_scores(source)?)
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some(unk) = source.unk {
        builder = builder.unk_token(source.tokens[unk as usize].to_string());
    }
    let mut steps = Vec::new();
    if source.add_space_prefix {
        steps.push(NormalizerWrapper::Prepend(Prepend::new("▁".to_string())));
    }
    steps.push(NormalizerWrapper::Replace(
        Replace::new(" ", "▁").map_err(bad)?,
    ));
    let spelling = Spelling::Sentence {
        space: "▁".to_string(),
        byte_fallback: true,
    };
    let description = format!("SentencePiece BPE, {} tokens", source.tokens.len());
    TextTokenizer::new(Parts {
        model: ModelWrapper::BPE(builder.build().map_err(bad)?),
        normalizer: Some(NormalizerWrapper::Sequence(Sequence::new(steps))),
        pre: Vec::new(),
        added: added(source),
        entries: entries(source, &spelling),
        identity: identity(source, description),
        strip_space: source.add_space_prefix,
        unk: source.unk,
    })
}

/// The first of several equal spellings wins.
fn vocab(source: &Source) -> tokenizers::models::bpe::Vocab {
    let numbered = source.tokens.iter().enumerate().rev();
    numbered
        .map(|(id, token)| (token.to_string(), id as u32))
        .collect()
}

/// SentencePiece joins the neighbours whose union scores best. As merges: every split of every
/// normal token into two tokens, best score first (the order transformers' converter gives).
fn merges_of_scores(source: &Source) -> Result<Vec<(String, String)>> {
    if source.scores.is_empty() {
        return Err(Fail::corrupt("got a llama vocabulary without scores"));
    }
    let ids: HashMap<&str, usize> = source
        .tokens
        .iter()
        .enumerate()
        .rev()
        .map(|(id, token)| (*token, id))
        .collect();
    let usable = |id: &usize| matches!(source.kind(*id), 1 | USER);
    let mut merges: Vec<(f32, usize, usize)> = Vec::new();
    for (id, token) in source.tokens.iter().enumerate() {
        // A token of n characters costs n substrings of up to n bytes.
        if source.kind(id) != 1 || token.len() > 1024 {
            continue;
        }
        let first = merges.len();
        for (at, _) in token.char_indices().skip(1) {
            let pair = (ids.get(&token[..at]), ids.get(&token[at..]));
            if let (Some(left), Some(right)) = pair {
                if usable(left) && usable(right) {
                    merges.push((source.scores[id], *left, *right));
                }
            }
        }
        merges[first..].sort_by_key(|&(_, left, right)| (left, right));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let text = |id: usize| source.tokens[id].to_string();
    Ok(merges
        .into_iter()
        .map(|(_, left, right)| (text(left), text(right)))
        .collect())
}

fn added(source: &Source) -> Vec<Added> {
    let mut list = Vec::new();
    for (id, token) in source.tokens.iter().enumerate() {
        let kind = source.kind(id);
        if token.is_empty() || !matches!(kind, UNKNOWN | CONTROL | USER) {
            continue;
        }
        list.push(Added {
            id: id as u32,
            content: token.to_string(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: kind != USER,
            control: kind != USER || looks_control(token),
        });
    }
    list
}

fn entries(source: &Source, spelling: &Spelling) -> Vec<Entry> {
    let entry = |(id, token): (usize, &&str)| {
        let raw = matches!(source.kind(id), UNKNOWN | CONTROL | USER);
        let bytes = if raw {
            token.as_bytes().to_vec()
        } else {
            spelling.bytes_of(token)
        };
        Entry {
            id: id as u32,
            text: token.to_string(),
            bytes,
        }
    };
    source.tokens.iter().enumerate().map(entry).collect()
}

fn identity(source: &Source, description: String) -> Identity {
    Identity {
        bos: source.bos,
        eos: source.eos,
        end: end_tokens(&[source.eos, source.eot], &added(source)),
        adds_bos: source.add_bos && source.bos.is_some(),
        chat_template: source.chat_template.to_string(),
        description,
    }
}
