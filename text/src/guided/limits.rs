//! What a constraint may cost: to compile, and at each token.

use std::time::Duration;

use llguidance::api::ParserLimits;

use crate::error::{Fail, Result};

pub const SCHEMA_BYTES: usize = 256 << 10;
pub const CHOICE_BYTES: usize = 256 << 10;
pub const GRAMMAR_BYTES: usize = 64 << 10;
pub const REGEX_BYTES: usize = 16 << 10;
/// Each of \w, \d, \s and \p is hundreds of ranges, whatever surrounds it.
pub const UNICODE_CLASSES: usize = 512;
pub const COMPILE_TIME: Duration = Duration::from_secs(2);
/// Rules and definitions that lead to each other recurse; this is address space, not memory.
pub const COMPILE_STACK: usize = 256 << 20;
/// Compilations past their time that may still be running before new ones are refused.
pub const RUNAWAYS: usize = 2;

/// The fuels are the crate's defaults, at most some 20 ms each; its lexer states take up to 2 kB.
pub fn parser() -> ParserLimits {
    ParserLimits {
        max_lexer_states: 32_768,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

pub fn check_bytes(what: &str, text: &str, limit: usize) -> Result<()> {
    if text.trim().is_empty() {
        return Err(Fail::invalid(format!("got an empty {what}; need one")));
    }
    if text.len() > limit {
        return Err(Fail::invalid(format!(
            "got a {what} of {} bytes; need at most {limit}",
            text.len()
        )));
    }
    Ok(())
}

/// How many Unicode classes a pattern names.
pub fn unicode_classes(pattern: &str) -> usize {
    let mut classes = 0;
    let mut bytes = pattern.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && bytes.next().is_some_and(|b| b"wWdDsSpPbB".contains(&b)) {
            classes += 1;
        }
    }
    classes
}

/// The crate would take a backslash at the end for nothing.
pub fn check_escapes(pattern: &str) -> Result<()> {
    let slashes = pattern
        .bytes()
        .rev()
        .take_while(|&byte| byte == b'\\')
        .count();
    if slashes % 2 == 1 {
        return Err(Fail::invalid(
            "got a regular expression that ends in a single backslash; need what it escapes",
        ));
    }
    Ok(())
}

pub fn check_classes(classes: usize) -> Result<()> {
    if classes > UNICODE_CLASSES {
        return Err(Fail::invalid(format!(
            "got {classes} classes such as \\w and \\d in patterns; need at most {UNICODE_CLASSES} \
             (repeat one with {{m,n}}, or write [0-9])"
        )));
    }
    Ok(())
}
