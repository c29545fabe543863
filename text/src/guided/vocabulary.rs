//! The tokens of one tokenizer as the trie that masks are computed from.

use std::sync::{Arc, Mutex};

use llguidance::toktrie::{
    ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, INVALID_TOKEN,
};
use llguidance::ParserFactory;

use crate::error::{Fail, Kind, Result};
use crate::tokenizer::TextTokenizer;

use super::limits;

/// A trie node stores how many bytes to go back in ten bits.
const LONGEST_TOKEN: usize = 1000;
/// Ids have 24 bits there, subtree sizes 22.
const MOST_TOKENS: usize = 1 << 21;

/// Made when a constraint is first asked for: most users never do, and it takes a while.
#[derive(Default)]
pub struct LazyVocabulary(Mutex<Option<Arc<Vocabulary>>>);

pub struct Vocabulary {
    pub factory: ParserFactory,
    /// Tokens that the tokenizer says end a text.
    pub ends: Vec<u32>,
}

impl LazyVocabulary {
    pub fn get(&self, tokenizer: &TextTokenizer) -> Result<Arc<Vocabulary>> {
        // Whoever panicked under the lock left nothing half done.
        let mut slot = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(vocabulary) = slot.as_ref() {
            return Ok(vocabulary.clone());
        }
        let vocabulary = Arc::new(Vocabulary::new(tokenizer)?);
        *slot = Some(vocabulary.clone());
        Ok(vocabulary)
    }
}

impl Vocabulary {
    fn new(tokenizer: &TextTokenizer) -> Result<Vocabulary> {
        let words = words(tokenizer)?;
        let in_range = |id: &u32| (*id as usize) < words.len();
        let ends: Vec<u32> = tokenizer.identity.end.iter().copied().collect();
        let ends: Vec<u32> = ends.into_iter().filter(in_range).collect();
        let info = TokRxInfo::new(
            words.len() as u32,
            ends.first().copied().unwrap_or(INVALID_TOKEN),
        );
        let mut trie = TokTrie::from(&info, &words);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        // Not "canonical": tokens are chosen by the model among all spellings of an allowed text, one
        // at a time, and none is forced on it.
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let caps = InferenceCapabilities::default();
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, caps, &slices)
            .map_err(|e| Fail::new(Kind::Internal, super::first_line(&e)))?;
        factory.quiet();
        *factory.limits_mut() = limits::parser();
        Ok(Vocabulary { factory, ends })
    }
}

/// The bytes of every id. Control tokens are spelled behind a byte that no text has; ids that stand
/// for nothing, or for what no text has, are empty and never allowed.
fn words(tokenizer: &TextTokenizer) -> Result<Vec<Vec<u8>>> {
    let count = tokenizer
        .entries
        .last()
        .map_or(0, |last| last.id as usize + 1);
    if count == 0 || count > MOST_TOKENS {
        return Err(Fail::unsupported(format!(
            "got a vocabulary of {count} tokens; need at most {MOST_TOKENS}"
        )));
    }
    let mut words = vec![Vec::new(); count];
    for entry in &tokenizer.entries {
        if entry.bytes.len() <= LONGEST_TOKEN
            && !entry.bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER)
        {
            words[entry.id as usize] = entry.bytes.clone();
        }
    }
    let control = tokenizer
        .added
        .tokens()
        .iter()
        .filter(|t| t.special || t.control);
    let named = control.map(|token| (token.id, token.content.as_str()));
    let ends = tokenizer.identity.end.iter();
    for (id, name) in named.chain(ends.map(|&id| (id, tokenizer.text_of(Some(id))))) {
        if let Some(word) = words.get_mut(id as usize) {
            word.clear();
            if name.len() <= LONGEST_TOKEN {
                word.push(TokTrie::SPECIAL_TOKEN_MARKER);
                word.extend_from_slice(name.as_bytes());
            }
        }
    }
    Ok(words)
}
