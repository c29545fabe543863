//! What a request asks for, as a grammar that the crate `llguidance` compiles.

use llguidance::api::TopLevelGrammar;
use serde_json::{json, Value};

use crate::error::{short, Fail, Result};

use super::{limits, schema};

/// Between JSON tokens: a bound, for small models like to fill the rest of a text with blanks.
const BLANKS: &str = r"[\x20\x0A\x0D\x09]{1,64}";

pub enum Spec {
    JsonObject,
    JsonSchema(String),
    Regex(String),
    Choice(Vec<String>),
    Grammar(String),
}

impl Spec {
    pub fn name(&self) -> &'static str {
        match self {
            Spec::JsonObject => "JSON object",
            Spec::JsonSchema(_) => "JSON schema",
            Spec::Regex(_) => "regular expression",
            Spec::Choice(_) => "list of choices",
            Spec::Grammar(_) => "grammar",
        }
    }

    /// Checks what can be known without compiling. Deeply nested input takes a large stack.
    pub fn grammar(&self) -> Result<TopLevelGrammar> {
        match self {
            Spec::JsonObject => Ok(from_schema(json!({"type": "object"}))),
            Spec::JsonSchema(text) => {
                limits::check_bytes(self.name(), text, limits::SCHEMA_BYTES)?;
                let parsed: Value = serde_json::from_str(text).map_err(|e| {
                    Fail::invalid(format!(
                        "got a JSON schema that is not JSON: {e}; need JSON"
                    ))
                })?;
                schema::check(&parsed)?;
                Ok(from_schema(parsed))
            }
            Spec::Regex(text) => {
                limits::check_bytes(self.name(), text, limits::REGEX_BYTES)?;
                limits::check_classes(limits::unicode_classes(text))?;
                limits::check_escapes(text)?;
                Ok(TopLevelGrammar::from_regex(text))
            }
            Spec::Choice(choices) => from_choices(choices),
            Spec::Grammar(text) => {
                limits::check_bytes(self.name(), text, limits::GRAMMAR_BYTES)?;
                limits::check_classes(limits::unicode_classes(text))?;
                check_nested_schemas(text)?;
                Ok(TopLevelGrammar::from_lark(text.clone()))
            }
        }
    }
}

fn from_schema(mut schema: Value) -> TopLevelGrammar {
    if let Some(fields) = schema.as_object_mut() {
        if !fields.contains_key("x-guidance") {
            fields.insert("x-guidance".into(), json!({"whitespace_pattern": BLANKS}));
        }
    }
    TopLevelGrammar::from_json_schema(schema)
}

fn from_choices(choices: &[String]) -> Result<TopLevelGrammar> {
    let bytes: usize = choices.iter().map(String::len).sum();
    if choices.is_empty() || bytes > limits::CHOICE_BYTES {
        return Err(Fail::invalid(format!(
            "got {} choices of {bytes} bytes; need at least one, and at most {} bytes",
            choices.len(),
            limits::CHOICE_BYTES
        )));
    }
    if choices.iter().any(String::is_empty) {
        return Err(Fail::invalid("got an empty choice; need some text in each"));
    }
    let escaped: Vec<String> = choices.iter().map(|choice| escape(choice)).collect();
    Ok(TopLevelGrammar::from_regex(&escaped.join("|")))
}

/// The text as a pattern that matches only it.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            out.push_str(&format!("\\x{{{:x}}}", c as u32));
        } else {
            out.push(c);
        }
    }
    out
}

/// A grammar may hold JSON schemas; they obey the same bounds.
fn check_nested_schemas(grammar: &str) -> Result<()> {
    for (at, mark) in grammar.match_indices("%json") {
        let rest = &grammar[at + mark.len()..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(nested)) if nested.is_object() => schema::check(&nested)?,
            // A comment or a string; if not, compiling it fails as well.
            _ => {}
        }
    }
    if grammar.matches("%lark").count() > 64 {
        return Err(Fail::invalid(format!(
            "got a grammar with many nested ones ('{}...'); need at most 64 %lark",
            short(grammar)
        )));
    }
    Ok(())
}
