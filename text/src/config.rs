use serde_json::Value;

use crate::error::{Fail, Result};

/// What tokenizer_config.json says about a tokenizer.
#[derive(Default)]
pub struct Config {
    pub bos: Option<String>,
    pub eos: Option<String>,
    pub add_bos: Option<bool>,
    pub chat_template: String,
}

/// Reads a tokenizer_config.json; an empty text stands for a file that is not there.
pub fn parse(json: &str) -> Result<Config> {
    if json.is_empty() {
        return Ok(Config::default());
    }
    let config: Value = serde_json::from_str(json).map_err(|e| {
        Fail::corrupt(format!(
            "got a bad tokenizer_config.json: {e}; need an intact file"
        ))
    })?;
    if !config.is_object() {
        return Err(Fail::corrupt(
            "got a tokenizer_config.json that is no object; need {\"bos_token\": ..., ...}",
        ));
    }
    Ok(Config {
        bos: token(&config, "bos_token")?,
        eos: token(&config, "eos_token")?,
        add_bos: flag(&config, "add_bos_token")?,
        chat_template: template_of(&config),
    })
}

fn wrong(name: &str, need: &str) -> Fail {
    Fail::corrupt(format!(
        "got a wrong type for {name} in tokenizer_config.json; need {need}"
    ))
}

/// A token is a string or an object with `content`; null where there is none.
fn token(config: &Value, name: &str) -> Result<Option<String>> {
    let Some(value) = config.get(name).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let text = value.as_str().or_else(|| value.get("content")?.as_str());
    match text {
        Some(text) => Ok(Some(text.to_string())),
        None => Err(wrong(name, "a string, or an object with a string content")),
    }
}

fn flag(config: &Value, name: &str) -> Result<Option<bool>> {
    match config.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(wrong(name, "true or false")),
    }
}

/// `chat_template`: a string, or a list of named ones of which "default" counts.
fn template_of(config: &Value) -> String {
    let Some(value) = config.get("chat_template") else {
        return String::new();
    };
    let listed = value.as_array().and_then(|list| {
        let named = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
        list.iter().find(named)?.get("template")?.as_str()
    });
    value.as_str().or(listed).unwrap_or_default().to_string()
}
