use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

const LARGEST_OUTPUT: usize = 16 << 20;
/// Everything a template makes, never given back: bounds its memory. A template that copies each of
/// a long chat's messages a few times needs some tens of megabytes.
const LARGEST_TOTAL: usize = 256 << 20;
const MOST_NODES: usize = 1 << 20;
const DEEPEST: usize = 150;
const LONGEST_RUN: Duration = Duration::from_secs(10);

/// Counts what a template costs in bytes and time. Fuel counts instructions, but one instruction
/// can double a string.
pub struct Meter {
    emitted: AtomicUsize,
    made: AtomicUsize,
    deadline: Instant,
    raised: Mutex<Option<String>>,
}

pub fn refuse(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn add(counter: &AtomicUsize, bytes: usize, limit: usize, what: &str) -> Result<(), Error> {
    let before = counter.fetch_add(bytes.min(limit), Ordering::Relaxed);
    if before.saturating_add(bytes) > limit {
        return Err(refuse(format!(
            "a template that {what} more than {} MB; need at most that",
            limit >> 20
        )));
    }
    Ok(())
}

impl Meter {
    pub fn new() -> Meter {
        let deadline = Instant::now() + LONGEST_RUN;
        Meter {
            emitted: AtomicUsize::new(0),
            made: AtomicUsize::new(0),
            deadline,
            raised: Mutex::new(None),
        }
    }

    /// Keeps the template's own words for why it refuses these messages.
    pub fn raise(&self, message: &str) {
        if let Ok(mut raised) = self.raised.lock() {
            *raised = Some(message.to_string());
        }
    }

    pub fn raised(&self) -> Option<String> {
        self.raised.lock().ok()?.clone()
    }

    /// Text written, into the output or into a variable.
    pub fn emit(&self, bytes: usize) -> Result<(), Error> {
        add(&self.emitted, bytes, LARGEST_OUTPUT, "writes")
    }

    /// A value of so many bytes was or will be made.
    pub fn charge(&self, bytes: usize) -> Result<(), Error> {
        self.tick()?;
        add(&self.made, bytes, LARGEST_TOTAL, "makes")
    }

    pub fn tick(&self) -> Result<(), Error> {
        if Instant::now() > self.deadline {
            return Err(refuse("a template that takes too long; need at most 10 s"));
        }
        Ok(())
    }

    /// Charges a value that an instruction made. Lazy sequences are made real, so that none can be
    /// nested in another a million times.
    pub fn settle(&self, value: Value) -> Result<Value, Error> {
        self.tick()?;
        // Before any walk: some lazy sequences take a step for every element they pass over.
        if value.as_str().is_none() && value.len().is_some_and(|length| length > MOST_NODES) {
            return Err(refuse("a list of more than a million values; need fewer"));
        }
        let value = if value.kind() == ValueKind::Iterable {
            let mut items = Vec::new();
            for item in value.try_iter()? {
                if items.len() >= MOST_NODES {
                    return Err(refuse("a list of more than a million values; need fewer"));
                }
                items.push(item);
            }
            Value::from(items)
        } else {
            value
        };
        self.charge(self.size(&value)?)?;
        Ok(value)
    }

    /// Bytes of the value written out, about; an error where it is too deep or too large.
    pub fn size(&self, value: &Value) -> Result<usize, Error> {
        let mut nodes = 0;
        measure(value, 0, &mut nodes)
    }
}

fn measure(value: &Value, depth: usize, nodes: &mut usize) -> Result<usize, Error> {
    *nodes += 1;
    if depth > DEEPEST || *nodes > MOST_NODES {
        return Err(refuse(
            "a value that is too deep or too large; need a million parts at most",
        ));
    }
    if let Some(text) = value.as_str() {
        return Ok(text.len() + 32);
    }
    let mut bytes = 32usize;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                bytes = bytes.saturating_add(measure(&item, depth + 1, nodes)?);
            }
        }
        ValueKind::Map => {
            for key in value.try_iter()? {
                let item = value.get_item(&key)?;
                bytes = bytes.saturating_add(measure(&key, depth + 1, nodes)?);
                bytes = bytes.saturating_add(measure(&item, depth + 1, nodes)?);
            }
        }
        _ => {}
    }
    Ok(bytes)
}
