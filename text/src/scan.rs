//! What reading a model loses: the library keeps the last of two equal keys, and any of two tokens
//! with one id.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{short, Fail, Result};

/// Released tokenizers have "##" and "@@".
const LONGEST_PREFIX: usize = 64;

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(default, rename = "vocab")]
    _vocab: Distinct,
    #[serde(default, borrow)]
    continuing_subword_prefix: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    merges: Option<&'a RawValue>,
}

/// Refuses the `model` of a tokenizer.json that contradicts itself.
pub fn check(json: &str) -> Result<()> {
    let bad = |e| {
        Fail::corrupt(format!(
            "got a bad model: {e}; need an intact tokenizer.json"
        ))
    };
    let model: Model = serde_json::from_str(json).map_err(bad)?;
    let prefix = model.continuing_subword_prefix.unwrap_or_default();
    if prefix.len() > LONGEST_PREFIX {
        return Err(Fail::corrupt(format!(
            "got a continuing_subword_prefix of {} bytes; need at most {LONGEST_PREFIX}",
            prefix.len()
        )));
    }
    match model.merges {
        Some(merges) if !prefix.is_empty() => check_merges(merges.get(), &prefix),
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Line(#[serde(borrow)] Cow<'a, str>),
    Pair(IgnoredAny, #[serde(borrow)] Cow<'a, str>),
}

/// The library cuts the prefix off a merge's right half without looking.
fn check_merges(json: &str, prefix: &str) -> Result<()> {
    let merges: Vec<Merge> = serde_json::from_str(json)
        .map_err(|e| Fail::corrupt(format!("got bad merges: {e}; need a list of pairs")))?;
    for (number, merge) in merges.iter().enumerate() {
        let right = match merge {
            Merge::Line(line) => line.split_once(' ').map_or("", |(_, right)| right),
            Merge::Pair(_, right) => right,
        };
        if !right.starts_with(prefix) {
            return Err(Fail::corrupt(format!(
                "got merge {number} with '{}'; need a token that begins with '{prefix}'",
                short(right)
            )));
        }
    }
    Ok(())
}

/// A vocabulary of which nothing is kept. A list, which Unigram has, numbers its tokens itself.
#[derive(Default)]
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Distinct)
    }
}

#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Distinct {
    type Value = Distinct;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a vocabulary")
    }

    fn visit_unit<E: Error>(self) -> std::result::Result<Distinct, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Distinct, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Distinct, A::Error> {
        let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
        while let Some((key, id)) = map.next_entry::<Key, u32>()? {
            let name = short(&key.0);
            if !ids.insert(id) {
                return Err(A::Error::custom(format!(
                    "two tokens of id {id}, one '{name}'"
                )));
            }
            if keys.contains(&key) {
                return Err(A::Error::custom(format!("token '{name}' twice")));
            }
            keys.insert(key);
        }
        Ok(self)
    }
}
