use serde_json::Value;
use tokenizers::pattern::Invert;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{PreTokenizedString, PreTokenizer, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::error::{Fail, Result};
use crate::regex::BoundedRegex;

/// One step of cutting a text into words.
pub enum PreStep {
    /// Our own, so that a hostile expression ends with an error.
    Regex {
        regex: BoundedRegex,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    Library(PreTokenizerWrapper),
}

impl PreStep {
    pub fn isolated(pattern: &str) -> Result<PreStep> {
        let regex = BoundedRegex::new(pattern)?;
        Ok(PreStep::Regex {
            regex,
            behavior: SplitDelimiterBehavior::Isolated,
            invert: false,
        })
    }

    /// Bytes to the printable alphabet, no splitting.
    pub fn byte_level() -> PreStep {
        let step = ByteLevel::new(false, true, false);
        PreStep::Library(PreTokenizerWrapper::ByteLevel(step))
    }

    pub fn apply(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        match self {
            PreStep::Library(step) => step.pre_tokenize(text),
            PreStep::Regex {
                regex,
                behavior,
                invert: false,
            } => text.split(|_, piece| piece.split(regex, *behavior)),
            PreStep::Regex {
                regex,
                behavior,
                invert: true,
            } => text.split(|_, piece| piece.split(Invert(regex), *behavior)),
        }
    }
}

fn bad(what: impl std::fmt::Display) -> Fail {
    Fail::corrupt(format!("got a bad pre_tokenizer: {what}"))
}

/// Reads the `pre_tokenizer` of a tokenizer.json into a flat list of steps.
pub fn parse(json: &Value) -> Result<Vec<PreStep>> {
    let mut steps = Vec::new();
    collect(json, &mut steps)?;
    Ok(steps)
}

fn collect(json: &Value, steps: &mut Vec<PreStep>) -> Result<()> {
    if json.is_null() {
        return Ok(());
    }
    if let Some(list) = json.get("pretokenizers").and_then(Value::as_array) {
        return list.iter().try_for_each(|step| collect(step, steps));
    }
    let split = json.get("type").and_then(Value::as_str) == Some("Split");
    let pattern = json.pointer("/pattern/Regex").and_then(Value::as_str);
    let step = match pattern {
        Some(pattern) if split => {
            let behavior = json.get("behavior").cloned().unwrap_or_default();
            PreStep::Regex {
                regex: BoundedRegex::new(pattern)?,
                behavior: serde_json::from_value(behavior).map_err(bad)?,
                invert: json.get("invert").and_then(Value::as_bool).unwrap_or(false),
            }
        }
        _ => PreStep::Library(serde_json::from_value(json.clone()).map_err(bad)?),
    };
    steps.push(step);
    Ok(())
}
