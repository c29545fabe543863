use serde_json::Value;
use tokenizers::NormalizerWrapper;

use crate::error::{Fail, Result};

/// Bytes that one byte of text may become. Released tokenizers have 12: a piece of one space with
/// "▁" in front, every space turned into "▁".
const MOST: usize = 256;
const MOST_STEPS: usize = 64;
/// Up to so much, what a text costs is still in proportion to it.
const MODEST: usize = 16;
/// Above that, what a normalizer may make of one text.
const MOST_MADE: usize = 4 << 20;
/// Memory that a byte of text takes while it is cut into words: 80 bytes for English, 300 where each
/// digit is a word.
const ENCODE_BYTES: usize = 300;

/// Bytes that the normalizer may make of one. Refuses a chain of replacements that could turn a
/// short prompt into more than memory holds, and one that the `tokenizers` crate panics on.
pub fn of(normalizer: Option<&NormalizerWrapper>) -> Result<usize> {
    let mut steps = 0;
    let factor = normalizer.map_or(Ok(1), |n| growth(n, &mut steps))?;
    if factor > MOST {
        return Err(Fail::corrupt(format!(
            "got a normalizer that makes a text {factor} times as long; need at most {MOST}"
        )));
    }
    Ok(factor)
}

/// The most bytes of memory that encoding takes for each byte of a text. Modest growth is left out:
/// it is for texts of nothing but spaces, which are few words.
pub fn encode_cost(growth: usize) -> usize {
    ENCODE_BYTES * if growth > MODEST { growth } else { 1 }
}

/// Refuses a text of so many bytes that might grow too long.
pub fn check_text(growth: usize, bytes: usize) -> Result<()> {
    let most = MOST_MADE / growth;
    if growth > MODEST && bytes > most {
        return Err(Fail::invalid(format!(
            "got a text of {bytes} bytes for a normalizer that makes it up to {growth} times as \
             long; need at most {most} bytes"
        )));
    }
    Ok(())
}

fn growth(normalizer: &NormalizerWrapper, steps: &mut usize) -> Result<usize> {
    *steps += 1;
    if *steps > MOST_STEPS {
        return Err(Fail::corrupt(format!(
            "got a normalizer of more than {MOST_STEPS} steps; need fewer"
        )));
    }
    match normalizer {
        NormalizerWrapper::Sequence(list) => {
            let mut factor: usize = 1;
            for step in list.as_ref() {
                factor = factor.saturating_mul(growth(step, steps)?);
            }
            Ok(factor)
        }
        NormalizerWrapper::Replace(step) => {
            let made = step.content.len();
            Ok(match pattern_len(step)? {
                Some(replaced) => made.div_ceil(replaced).max(1),
                None => made + 1, // an expression may match nothing in front of every byte
            })
        }
        // In front of every piece between added tokens, which may have one byte.
        NormalizerWrapper::Prepend(step) => Ok(step.prepend.len() + 1),
        // Two bytes for each that is not printable ASCII; spaces around each Chinese character.
        NormalizerWrapper::ByteLevel(_) | NormalizerWrapper::BertNormalizer(_) => Ok(2),
        // Unicode's own forms: repeating one changes nothing.
        _ => Ok(1),
    }
}

/// Bytes of the string that is replaced; none for an expression. The crate keeps the pattern to
/// itself, but writes it down.
fn pattern_len(step: &impl serde::Serialize) -> Result<Option<usize>> {
    let json = serde_json::to_value(step).unwrap_or_default();
    let pattern = |kind: &str| json.pointer(kind).and_then(Value::as_str);
    let string = pattern("/pattern/String");
    if string.or(pattern("/pattern/Regex")) == Some("") {
        return Err(Fail::corrupt(
            "got a normalizer that replaces an empty pattern; need one of at least a byte",
        ));
    }
    Ok(string.map(str::len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::normalizers::{Prepend, Replace, Sequence};

    fn replace(len: usize) -> NormalizerWrapper {
        NormalizerWrapper::Replace(Replace::new("a", "b".repeat(len)).unwrap())
    }

    #[test]
    fn takes_what_tokenizers_do() {
        assert!(of(None).is_ok());
        let steps = vec![
            NormalizerWrapper::Prepend(Prepend::new("▁".into())),
            NormalizerWrapper::Replace(Replace::new(" ", "▁").unwrap()),
            replace(0),
        ];
        assert!(of(Some(&NormalizerWrapper::Sequence(Sequence::new(steps)))).is_ok());
    }

    #[test]
    fn counts_a_replaced_string_in_full() {
        let step = NormalizerWrapper::Replace(Replace::new("aaaa", "b".repeat(8)).unwrap());
        assert_eq!(of(Some(&step)).unwrap(), 2);
        let space = NormalizerWrapper::Replace(Replace::new(" ", "▁").unwrap());
        assert_eq!(of(Some(&space)).unwrap(), 3);
    }

    #[test]
    fn refuses_long_texts_only_where_they_grow() {
        assert!(check_text(12, 1 << 30).is_ok());
        assert!(check_text(256, 1 << 14).is_ok());
        assert!(check_text(256, (1 << 14) + 1).is_err());
    }

    #[test]
    fn refuses_what_panics() {
        let empty = NormalizerWrapper::Replace(Replace::new("", "a").unwrap());
        assert!(of(Some(&empty)).is_err());
    }

    #[test]
    fn refuses_bombs() {
        let chain = (0..5).map(|_| replace(100)).collect();
        assert!(of(Some(&NormalizerWrapper::Sequence(Sequence::new(chain)))).is_err());
        assert!(of(Some(&replace(257))).is_err());
        let long = Prepend::new("x".repeat(2000));
        assert!(of(Some(&NormalizerWrapper::Prepend(long))).is_err());
    }
}
