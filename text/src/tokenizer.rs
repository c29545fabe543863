use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use tokenizers::{Model, ModelWrapper, NormalizerWrapper, OffsetReferential, OffsetType, Token};

use crate::added::{Added, AddedTokens, Parse};
use crate::automaton::check_lengths;
use crate::error::{Fail, Kind, Result};
use crate::growth;
use crate::guided::LazyVocabulary;
use crate::pre::PreStep;
use crate::regex::{TimeBudget, Unbounded};

/// What one id is.
pub struct Entry {
    pub id: u32,
    /// As the vocabulary spells it.
    pub text: String,
    /// What it stands for.
    pub bytes: Vec<u8>,
}

/// Begin, end and template, wherever they came from.
#[derive(Default)]
pub struct Identity {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub end: Vec<u32>,
    pub adds_bos: bool,
    pub chat_template: String,
    pub description: String,
}

/// A tokenizer made of the `tokenizers` crate's parts, whatever file it came from.
pub struct TextTokenizer {
    pub model: ModelWrapper,
    pub normalizer: Option<NormalizerWrapper>,
    pub pre: Vec<PreStep>,
    pub added: AddedTokens,
    /// Every id there is, ascending.
    pub entries: Vec<Entry>,
    pub ids: HashMap<String, u32>,
    pub identity: Identity,
    /// The decoder drops one leading space of a text.
    pub strip_space: bool,
    /// Bytes that the normalizer may make of one.
    pub growth: usize,
    pub guided: LazyVocabulary,
    /// Control ids that the model itself may not produce from ordinary text.
    guarded: HashSet<u32>,
}

/// The parts a loader has to find.
pub struct Parts {
    pub model: ModelWrapper,
    pub normalizer: Option<NormalizerWrapper>,
    pub pre: Vec<PreStep>,
    pub added: Vec<Added>,
    pub entries: Vec<Entry>,
    pub identity: Identity,
    pub strip_space: bool,
    pub unk: Option<u32>,
}

impl TextTokenizer {
    pub fn new(parts: Parts) -> Result<TextTokenizer> {
        let growth = growth::of(parts.normalizer.as_ref())?;
        let names = parts.added.iter().map(|token| token.content.as_str());
        growth::check_text(growth, check_lengths(names)?)?; // they are normalized, too
        let mut entries = parts.entries;
        entries.sort_by_key(|entry| entry.id);
        let mut ids = HashMap::with_capacity(entries.len());
        for entry in entries.iter().rev() {
            ids.insert(entry.text.clone(), entry.id);
        }
        let control = parts
            .added
            .iter()
            .filter(|token| token.control)
            .map(|token| token.id);
        let guarded = control.filter(|&id| Some(id) != parts.unk).collect();
        let added = AddedTokens::new(parts.added, parts.normalizer.as_ref())?;
        Ok(TextTokenizer {
            model: parts.model,
            normalizer: parts.normalizer,
            pre: parts.pre,
            added,
            entries,
            ids,
            identity: parts.identity,
            strip_space: parts.strip_space,
            growth,
            guided: LazyVocabulary::default(),
            guarded,
        })
    }

    pub fn encode(&self, text: &str, parse: Parse) -> Result<Vec<i32>> {
        growth::check_text(self.growth, text.len())?;
        let _budget = TimeBudget::start(text.len());
        self.try_encode(text, parse).map_err(|e| {
            let need = if e.is::<Unbounded>() {
                "a text (or tokenizer) whose pattern matches in bounded time"
            } else {
                "a tokenizer that covers it"
            };
            Fail::invalid(format!(
                "got a text that cannot be tokenized: {e}; need {need}"
            ))
        })
    }

    fn try_encode(&self, text: &str, parse: Parse) -> tokenizers::Result<Vec<i32>> {
        let mut pieces = self.added.extract(self.normalizer.as_ref(), text, parse)?;
        for step in &self.pre {
            step.apply(&mut pieces)?;
        }
        let mut ids = Vec::new();
        let words = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
        for (word, _, added) in words {
            // One word at a time: all tokens of a long text would take more than the text's pieces.
            let tokens = match added {
                Some(tokens) => Cow::Borrowed(tokens),
                None => Cow::Owned(self.tokenize(word)?),
            };
            for token in tokens.iter() {
                ids.push(i32::try_from(token.id)?);
            }
        }
        Ok(ids)
    }

    /// The model's tokens for one word. A vocabulary may hold a control token's spelling as one of
    /// its pieces; halving the word keeps it out of the result.
    fn tokenize(&self, word: &str) -> tokenizers::Result<Vec<Token>> {
        let tokens = self.model.tokenize(word)?;
        if !tokens.iter().any(|token| self.guarded.contains(&token.id)) {
            return Ok(tokens);
        }
        let count = word.chars().count();
        let Some((middle, _)) = word.char_indices().nth(count / 2).filter(|_| count > 1) else {
            return Ok(tokens);
        };
        let mut halves = self.tokenize(&word[..middle])?;
        halves.extend(self.tokenize(&word[middle..])?);
        Ok(halves)
    }

    pub fn text_of(&self, id: Option<u32>) -> &str {
        let found = id.and_then(|id| self.entries.binary_search_by_key(&id, |e| e.id).ok());
        found.map_or("", |index| &self.entries[index].text)
    }
}

/// Names of tokens that end a turn or a text in released models.
pub const END_NAMES: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<|eot|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<|return|>",
    "<|call|>",
];

/// Tokens that end a text: what the file names, and the end-of-turn tokens among the added ones.
pub fn end_tokens(named: &[Option<u32>], added: &[Added]) -> Vec<u32> {
    let has = |name: &str| added.iter().any(|token| token.content == name);
    // In the harmony format <|end|> closes a message, not the answer.
    let harmony = has("<|return|>") && has("<|call|>");
    let mut end: Vec<u32> = named.iter().flatten().copied().collect();
    for token in added {
        let name = token.content.as_str();
        if END_NAMES.contains(&name) && !(harmony && name == "<|end|>") {
            end.push(token.id);
        }
    }
    end.sort_unstable();
    end.dedup();
    end
}

/// Tables by id are dense, so ids must not be spread out.
pub fn check_ids(largest: u32, count: usize) -> Result<()> {
    let limit = (count as u64 * 8 + 65536).min(i32::MAX as u64);
    if u64::from(largest) >= limit {
        return Err(Fail::new(
            Kind::Corrupt,
            format!("got token id {largest} among {count} tokens; need ids below {limit}"),
        ));
    }
    Ok(())
}
