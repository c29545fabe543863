use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::error::{Fail, Result};

/// Released tokenizers have added tokens of up to about 100 bytes. A search may look so far ahead
/// at every byte of a text, so this bounds its time, too.
const LONGEST_TOKEN: usize = 1024;
/// All patterns together: an automaton needs some tens of bytes for each of theirs.
const MOST_BYTES: usize = 16 << 20;

/// Refuses what no automaton can be made of in bounded time and memory; bytes of all together.
pub fn check_lengths<'t>(tokens: impl Iterator<Item = &'t str>) -> Result<usize> {
    let mut total = 0;
    for token in tokens {
        if token.len() > LONGEST_TOKEN {
            return Err(Fail::corrupt(format!(
                "got an added token of {} bytes; need at most {LONGEST_TOKEN}",
                token.len()
            )));
        }
        total += token.len();
    }
    if total > MOST_BYTES {
        return Err(Fail::corrupt(format!(
            "got added tokens of {total} bytes together; need at most {MOST_BYTES}"
        )));
    }
    Ok(total)
}

/// Finds the leftmost, then longest, of the tokens in a text. Built in linear time: the crate's own
/// choice for few patterns, a DFA, walks all of a token's prefixes for each of its bytes.
pub fn leftmost_longest<'t>(tokens: impl Iterator<Item = &'t str> + Clone) -> Result<AhoCorasick> {
    check_lengths(tokens.clone())?;
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(tokens)
        .map_err(|e| Fail::corrupt(format!("got added tokens that cannot be indexed: {e}")))
}
