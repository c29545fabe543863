use tokenizers::NormalizerWrapper;

use crate::error::{Fail, Result};

/// Bytes that one byte of text may become. Released tokenizers have 3: a space turned into "▁".
const MOST: usize = 256;
const LONGEST_PREFIX: usize = 1024;

/// Refuses a chain of replacements that could turn a short prompt into more than memory holds.
pub fn check(normalizer: Option<&NormalizerWrapper>) -> Result<()> {
    let factor = normalizer.map_or(Ok(1), growth)?;
    if factor > MOST {
        return Err(Fail::corrupt(format!(
            "got a normalizer that makes a text {factor} times as long; need at most {MOST}"
        )));
    }
    Ok(())
}

fn growth(normalizer: &NormalizerWrapper) -> Result<usize> {
    match normalizer {
        NormalizerWrapper::Sequence(steps) => {
            let mut factor: usize = 1;
            for step in steps.as_ref() {
                factor = factor.saturating_mul(growth(step)?);
            }
            Ok(factor)
        }
        NormalizerWrapper::Replace(step) => Ok(step.content.len().max(1)),
        NormalizerWrapper::Prepend(step) if step.prepend.len() > LONGEST_PREFIX => {
            Err(Fail::corrupt(format!(
                "got a normalizer that prepends {} bytes; need at most {LONGEST_PREFIX}",
                step.prepend.len()
            )))
        }
        _ => Ok(1),
    }
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
        assert!(check(None).is_ok());
        let steps = vec![
            NormalizerWrapper::Prepend(Prepend::new("▁".into())),
            NormalizerWrapper::Replace(Replace::new(" ", "▁").unwrap()),
            replace(0),
        ];
        assert!(check(Some(&NormalizerWrapper::Sequence(Sequence::new(steps)))).is_ok());
    }

    #[test]
    fn refuses_bombs() {
        let chain = (0..5).map(|_| replace(100)).collect();
        assert!(check(Some(&NormalizerWrapper::Sequence(Sequence::new(chain)))).is_err());
        assert!(check(Some(&replace(257))).is_err());
        let long = Prepend::new("x".repeat(2000));
        assert!(check(Some(&NormalizerWrapper::Prepend(long))).is_err());
    }
}
