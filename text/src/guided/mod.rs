//! Guided decoding: which tokens may come next so that a text follows a JSON schema, a regular
//! expression, a list of choices or a grammar. The crate `llguidance` does the work; this module
//! gives it our tokens and bounds what it may cost.

mod compile;
mod limits;
mod schema;
mod spec;
mod vocabulary;

use std::sync::Arc;

use llguidance::api::StopReason;
use llguidance::Matcher;

use crate::error::{Fail, Result};

pub use compile::compile;
pub use spec::Spec;
pub use vocabulary::{LazyVocabulary, Vocabulary};

/// One text's way through a compiled grammar.
pub struct Constraint {
    vocabulary: Arc<Vocabulary>,
    matcher: Matcher,
}

/// What a mask says beside its bits.
pub struct Allowed {
    /// The text may end here.
    pub may_end: bool,
}

impl Constraint {
    pub fn new(vocabulary: Arc<Vocabulary>, matcher: Matcher) -> Constraint {
        Constraint {
            vocabulary,
            matcher,
        }
    }

    /// Independent of this one from here on, caches and all.
    pub fn fork(&self) -> Constraint {
        Constraint {
            vocabulary: self.vocabulary.clone(),
            matcher: self.matcher.deep_clone(),
        }
    }

    /// Sets the bits of tokens that may come next and clears the others. Tokens that merely end the
    /// text are not among them: which those are is the request's matter.
    pub fn mask(&mut self, words: &mut [u32]) -> Result<Allowed> {
        let set = self.matcher.compute_mask().map_err(|e| self.failure(&e))?;
        let may_end = self.matcher.is_accepting().map_err(|e| self.failure(&e))?;
        words.fill(0);
        let known = set.as_slice();
        let count = known.len().min(words.len());
        words[..count].copy_from_slice(&known[..count]);
        if may_end {
            self.clear_ends(words);
            if words.iter().all(|&word| word == 0) {
                words[..count].copy_from_slice(&known[..count]); // there is nothing else
            }
        }
        Ok(Allowed { may_end })
    }

    fn clear_ends(&self, words: &mut [u32]) {
        for &end in &self.vocabulary.ends {
            if let Some(word) = words.get_mut(end as usize / 32) {
                *word &= !(1 << (end % 32));
            }
        }
    }

    /// Takes a token; true when nothing but the end can follow.
    pub fn accept(&mut self, token: u32) -> Result<bool> {
        let taken = self.matcher.consume_token(token);
        taken.map_err(|e| self.failure(&e))?;
        Ok(self.matcher.is_stopped())
    }

    fn failure(&self, error: &anyhow::Error) -> Fail {
        let reason = match self.matcher.stop_reason() {
            StopReason::NoExtension | StopReason::NoExtensionBias => "no token continues it",
            _ => "it takes too much work at this token, or does not allow it",
        };
        Fail::invalid(format!(
            "got a constraint that cannot go on: {reason} ({}); need a simpler one",
            first_line(error)
        ))
    }
}

/// An error of the crate in one line, without the state and backtraces that may follow.
pub fn first_line(error: &anyhow::Error) -> String {
    let text = error.to_string();
    let line: String = text
        .lines()
        .next()
        .unwrap_or("")
        .chars()
        .take(300)
        .collect();
    // A pattern's error draws a picture before it says what is wrong.
    match text.lines().find_map(|line| line.strip_prefix("error: ")) {
        Some(reason) => format!("{line} {}", reason.chars().take(300).collect::<String>()),
        None => line,
    }
}
