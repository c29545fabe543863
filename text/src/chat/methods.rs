use std::sync::Arc;

use minijinja::value::{from_args, Value, ValueKind};
use minijinja::{Environment, Error, FormatStyle, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::functions::{format, join, replace};
use super::meter::{refuse, Meter};

/// Python's methods of strings, lists and dicts: minijinja-contrib's, those it lacks, and bounded
/// twins of those that make text grow.
pub fn install(env: &mut Environment, meter: &Arc<Meter>) {
    let meter = meter.clone();
    env.set_unknown_method_callback(move |state: &State, value, method, args| {
        if let (ValueKind::String, Some(text)) = (value.kind(), value.as_str()) {
            if let Some(result) = string_method(&meter, text, method, args)? {
                return Ok(result);
            }
        }
        unknown_method_callback(state, value, method, args)
    });
}

fn string_method(
    meter: &Meter,
    text: &str,
    method: &str,
    args: &[Value],
) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "replace" => {
            let (from, to, most): (&str, &str, Option<i64>) = from_args(args)?;
            let most = most
                .and_then(|most| usize::try_from(most).ok())
                .unwrap_or(usize::MAX);
            replace(meter, text, from, to, most)?.into()
        }
        "join" => {
            let (list,): (&Value,) = from_args(args)?;
            join(meter, list, text, None)?.into()
        }
        "format" => format(FormatStyle::StrFormat, text, args)?.into(),
        "count" => {
            let (what,): (&str,) = from_args(args)?;
            text.matches(what).count().into()
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "rsplit" => {
            let (glue, most): (&str, Option<i64>) = from_args(args)?;
            rsplit(text, glue, most)?
        }
        "partition" | "rpartition" => {
            let (glue,): (&str,) = from_args(args)?;
            partition(text, glue, method == "partition")?
        }
        "index" => {
            let (what,): (&str,) = from_args(args)?;
            let at = text
                .find(what)
                .ok_or_else(|| refuse("a substring that is not there"))?;
            text[..at].chars().count().into()
        }
        _ => return Ok(None),
    }))
}

fn rsplit(text: &str, glue: &str, most: Option<i64>) -> Result<Value, Error> {
    if glue.is_empty() {
        return Err(refuse("an empty separator"));
    }
    let most = most
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(usize::MAX - 1);
    let mut parts: Vec<&str> = text.rsplitn(most + 1, glue).collect();
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

fn partition(text: &str, glue: &str, first: bool) -> Result<Value, Error> {
    if glue.is_empty() {
        return Err(refuse("an empty separator"));
    }
    let cut = if first {
        text.split_once(glue)
    } else {
        text.rsplit_once(glue)
    };
    let parts = match cut {
        Some((left, right)) => [left, glue, right],
        None if first => [text, "", ""],
        None => ["", "", text],
    };
    Ok(parts.into_iter().map(Value::from).collect())
}
