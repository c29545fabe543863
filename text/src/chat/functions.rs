use std::sync::Arc;

use minijinja::value::{Kwargs, Rest, Value};
use minijinja::{Environment, Error, FormatStyle};

use super::json::tojson;
use super::meter::{refuse, Meter};
use super::namespace::Namespace;
use super::pystr::text_of;

/// Names no template can write: what `rewrite` calls.
pub const CAT: &str = "\u{1}cat";
pub const MAKE: &str = "\u{1}make";
pub const SET_ATTR: &str = "\u{1}set_attr";
pub const NONZERO: &str = "\u{1}nonzero";
pub const TICK: &str = "\u{1}tick";

/// Functions and filters of transformers, and bounded twins of those that make text grow.
pub fn install(env: &mut Environment, meter: &Arc<Meter>) {
    internals(env, meter);
    env.remove_global("debug");
    for name in ["batch", "slice", "pprint", "urlencode", "zip", "chain"] {
        env.remove_filter(name);
    }
    let m = meter.clone();
    env.add_function(
        "raise_exception",
        move |message: Value| -> Result<Value, Error> {
            let text = text_of(&message, &m)?;
            m.raise(&text);
            Err(refuse(text))
        },
    );
    env.add_function("strftime_now", strftime_now);
    env.add_function("namespace", Namespace::make);
    let m = meter.clone();
    env.add_filter(
        "tojson",
        move |value: Value, indent: Option<Value>, kwargs: Kwargs| {
            tojson(&m, &value, indent, kwargs)
        },
    );
    let m = meter.clone();
    env.add_filter("string", move |value: Value| text_of(&value, &m));
    let m = meter.clone();
    env.add_filter(
        "join",
        move |list: Value, glue: Option<Value>, attribute: Option<String>| {
            let glue = glue.map_or(Ok(String::new()), |glue| text_of(&glue, &m))?;
            join(&m, &list, &glue, attribute.as_deref())
        },
    );
    let m = meter.clone();
    env.add_filter("replace", move |text: Value, from: String, to: String| {
        replace(&m, &text_of(&text, &m)?, &from, &to, usize::MAX)
    });
    let m = meter.clone();
    env.add_filter(
        "indent",
        move |text: String, width: Option<Value>, first: Option<bool>| {
            indent(&m, &text, width, first.unwrap_or(false))
        },
    );
    env.add_filter("format", |text: String, values: Rest<Value>| {
        format(FormatStyle::Printf, &text, &values)
    });
}

fn internals(env: &mut Environment, meter: &Arc<Meter>) {
    let m = meter.clone();
    env.add_function(
        CAT,
        move |left: Value, right: Value| -> Result<Value, Error> {
            let text = text_of(&left, &m)? + &text_of(&right, &m)?;
            m.charge(text.len())?;
            Ok(Value::from(text))
        },
    );
    let m = meter.clone();
    env.add_function(MAKE, move |value: Value| m.settle(value));
    let m = meter.clone();
    env.add_function(TICK, move || m.tick());
    env.add_function(SET_ATTR, Namespace::assign);
    env.add_function(NONZERO, |divisor: Value| -> Result<Value, Error> {
        if divisor.is_number() && !divisor.is_true() {
            return Err(refuse("a division by zero"));
        }
        Ok(Value::UNDEFINED)
    });
}

/// `separator.join(list)`, counted before it grows.
pub fn join(
    meter: &Meter,
    list: &Value,
    glue: &str,
    attribute: Option<&str>,
) -> Result<String, Error> {
    let mut out = String::new();
    for (index, item) in list.try_iter()?.enumerate() {
        let item = match attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        let text = text_of(&item, meter)?;
        meter.charge(text.len() + glue.len())?;
        if index > 0 {
            out.push_str(glue);
        }
        out.push_str(&text);
    }
    Ok(out)
}

pub fn replace(
    meter: &Meter,
    text: &str,
    from: &str,
    to: &str,
    most: usize,
) -> Result<String, Error> {
    let hits = text.matches(from).take(most).count();
    meter.charge(hits.saturating_mul(to.len()).saturating_add(text.len()))?;
    Ok(text.replacen(from, to, most))
}

fn indent(meter: &Meter, text: &str, width: Option<Value>, first: bool) -> Result<String, Error> {
    let margin = match width {
        None => "    ".to_string(),
        Some(width) => match width.as_str() {
            Some(margin) => margin.to_string(),
            None => " ".repeat(u16::try_from(width)?.min(4096).into()),
        },
    };
    let lines = text.matches('\n').count() + 1;
    meter.charge(
        lines
            .saturating_mul(margin.len())
            .saturating_add(text.len()),
    )?;
    let mut out = String::new();
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if !line.is_empty() && (index > 0 || first) {
            out.push_str(&margin);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// Formats, unless a width could make the result huge.
pub fn format(style: FormatStyle, text: &str, values: &[Value]) -> Result<String, Error> {
    let digits = text
        .split(|c: char| !c.is_ascii_digit())
        .any(|run| run.len() > 3);
    if digits || text.contains('*') || text.contains(":{") || text.len() > 4096 {
        return Err(refuse(
            "a format string with a width above 999; need a smaller one",
        ));
    }
    minijinja::format_filter(style, text, values)
}

/// The local time, by the C library's strftime.
fn strftime_now(format: String) -> Result<String, Error> {
    let bad = || refuse("a time format that strftime cannot print");
    let format = std::ffi::CString::new(format).map_err(|_| bad())?;
    if format.as_bytes().len() > 256 {
        return Err(bad());
    }
    let mut buffer = [0u8; 4096];
    let written = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut parts).is_null() {
            return Err(bad());
        }
        libc::strftime(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            format.as_ptr(),
            &parts,
        )
    };
    Ok(String::from_utf8_lossy(&buffer[..written]).into_owned())
}
