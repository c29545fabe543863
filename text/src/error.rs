use std::any::Any;
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

/// Mirrors the `foveal::ErrorKind` values this crate can cause; the letter crosses the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Invalid,
    Corrupt,
    Unsupported,
    Memory,
    Internal,
}

#[derive(Debug)]
pub struct Fail {
    pub kind: Kind,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, Fail>;

impl Fail {
    pub fn new(kind: Kind, message: impl Into<String>) -> Fail {
        Fail {
            kind,
            message: message.into(),
        }
    }
    pub fn invalid(message: impl Into<String>) -> Fail {
        Fail::new(Kind::Invalid, message)
    }
    pub fn corrupt(message: impl Into<String>) -> Fail {
        Fail::new(Kind::Corrupt, message)
    }
    pub fn unsupported(message: impl Into<String>) -> Fail {
        Fail::new(Kind::Unsupported, message)
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.kind {
            Kind::Invalid => 'I',
            Kind::Corrupt => 'C',
            Kind::Unsupported => 'U',
            Kind::Memory => 'M',
            Kind::Internal => 'X',
        };
        write!(f, "{letter}{}", self.message)
    }
}

fn panic_text(payload: Box<dyn Any + Send>) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_string()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_string()
    }
}

/// Runs one bridge function. Dependencies panic on some hostile files; that must end as the error
/// that `on_panic` makes of the panic's text, and without a line on stderr.
pub fn guard<T>(on_panic: fn(String) -> Fail, f: impl FnOnce() -> Result<T>) -> Result<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result,
        Err(payload) => Err(on_panic(panic_text(payload))),
    }
}

/// The start of a token or name from a file, for a message: it may be megabytes long.
pub fn short(text: &str) -> &str {
    let end = text.char_indices().nth(64).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// The bytes as text, or an error that says where they stop being UTF-8.
pub fn utf8<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|e| {
        Fail::invalid(format!(
            "got {what} with a wrong byte at {}; need UTF-8",
            e.valid_up_to()
        ))
    })
}
