//! Chat templates: Jinja as transformers runs it, in a sandbox.

mod encode;
mod env;
mod functions;
mod json;
mod mark;
mod meter;
mod methods;
mod namespace;
mod pystr;
mod rewrite;

pub use encode::encode_chat;

use serde_json::{Map, Value as Json};

use crate::error::{Fail, Kind, Result};

/// Templates of released models have up to 30 KB.
const LARGEST_TEMPLATE: usize = 256 << 10;
/// Macros and values nest to fixed depths; parsing and compiling recurse, but a template cannot nest
/// deeper than it is long.
const STACK_BASE: usize = 16 << 20;
const STACK_PER_BYTE: usize = 1 << 10;

/// What a template may refer to.
pub struct Chat {
    pub messages: Json,
    pub bos: String,
    pub eos: String,
    pub add_generation_prompt: bool,
    pub extra: Map<String, Json>,
}

impl Chat {
    pub fn parse(messages: &str, extra: &str) -> Result<Chat> {
        let parse = |what: &str, text: &str| -> Result<Json> {
            serde_json::from_str(text)
                .map_err(|e| Fail::invalid(format!("got bad {what}: {e}; need JSON")))
        };
        let messages = parse("messages", messages)?;
        let list = messages.as_array();
        if !list.is_some_and(|list| list.iter().all(Json::is_object)) {
            return Err(Fail::invalid(
                "got messages that are not a list of objects; need [{\"role\": ..., \"content\": ...}, ...]",
            ));
        }
        for (at, message) in list.into_iter().flatten().enumerate() {
            check_message(at, message)?;
        }
        let extra = match parse("template variables", extra)? {
            Json::Object(map) => map,
            _ => return Err(Fail::invalid(
                "got template variables that are not a JSON object; need {\"name\": value, ...}",
            )),
        };
        Ok(Chat {
            messages,
            bos: String::new(),
            eos: String::new(),
            add_generation_prompt: true,
            extra,
        })
    }

    fn variables(&self) -> Map<String, Json> {
        let mut all = Map::new();
        all.insert("tools".into(), Json::Null);
        all.insert("documents".into(), Json::Null);
        all.insert("bos_token".into(), self.bos.clone().into());
        all.insert("eos_token".into(), self.eos.clone().into());
        all.extend(self.extra.clone());
        all.insert("messages".into(), self.messages.clone());
        all.insert(
            "add_generation_prompt".into(),
            self.add_generation_prompt.into(),
        );
        all
    }
}

/// What every template takes for granted. Without it the error would blame the template.
fn check_message(at: usize, message: &Json) -> Result<()> {
    if !message["role"].is_string() {
        return Err(Fail::invalid(format!(
            "got no role in message {at}; need a string, such as user"
        )));
    }
    if message.get("content").is_none() && message.get("tool_calls").is_none() {
        return Err(Fail::invalid(format!(
            "got no content in message {at}; need a string, or a list of parts"
        )));
    }
    Ok(())
}

/// The error for a template on which the library panics.
pub fn fails(panic: String) -> Fail {
    Fail::invalid(format!(
        "got a template that cannot be rendered ({panic}); need one that minijinja takes"
    ))
}

/// The prompt text of a chat. Runs on a thread of its own, whose stack suits the template.
pub fn render(template: &str, chat: &Chat) -> Result<String> {
    if template.len() > LARGEST_TEMPLATE {
        return Err(Fail::unsupported(format!(
            "got a template of {} bytes; need at most {LARGEST_TEMPLATE}",
            template.len()
        )));
    }
    let variables = chat.variables();
    let work = || crate::error::guard(fails, || env::render(template, variables));
    let stack = STACK_BASE + STACK_PER_BYTE * template.len();
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(stack);
        let thread = builder.spawn_scoped(scope, work).map_err(|e| {
            let stack_mb = stack.div_ceil(1 << 20);
            Fail::new(
                Kind::Memory,
                format!("got no thread with a stack of {stack_mb} MB ({e}); need more memory"),
            )
        })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Fail::new(Kind::Internal, "the template's thread ended")))
    })
}
