use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::Error;

use super::meter::{refuse, Meter};
use super::pystr;

/// `tojson` as transformers defines it: json.dumps with ensure_ascii off, keys in their own order,
/// nothing escaped for HTML.
pub fn tojson(
    meter: &Meter,
    value: &Value,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let named: Option<Value> = kwargs.get("indent")?;
    let ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    let sort: Option<bool> = kwargs.get("sort_keys")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    kwargs.assert_all_used()?;
    let indent = indent
        .or(named)
        .filter(|value| !value.is_none() && !value.is_undefined());
    let indent = match indent {
        None => None,
        Some(value) => Some(match value.as_str() {
            Some(text) if text.len() <= 64 => text.to_string(),
            Some(_) => return Err(refuse("an indent of more than 64 characters")),
            None => " ".repeat(u8::try_from(value)?.min(64).into()),
        }),
    };
    let default = if indent.is_some() {
        [",", ": "]
    } else {
        [", ", ": "]
    };
    let (item, key) = match separators.as_deref() {
        None => (default[0].to_string(), default[1].to_string()),
        Some([item, key]) if item.len() + key.len() <= 64 => (item.clone(), key.clone()),
        Some(_) => return Err(refuse("separators that are not two short strings")),
    };
    meter.charge(meter.size(value)?)?;
    let mut writer = Writer {
        meter,
        out: String::new(),
        indent,
        item,
        key,
        ascii: ascii.unwrap_or(false),
        sort: sort.unwrap_or(false),
    };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer<'m> {
    meter: &'m Meter,
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sort: bool,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if let Some(text) = value.as_str() {
            self.text(text);
            return Ok(());
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => {
                let text = match pystr::number(value).as_str() {
                    "nan" => "NaN".to_string(),
                    "inf" => "Infinity".to_string(),
                    "-inf" => "-Infinity".to_string(),
                    other => other.to_string(),
                };
                self.out.push_str(&text);
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list('[', ']', depth, &items, |writer, item| {
                    writer.value(item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                self.list('{', '}', depth, &keys, |writer, key| {
                    let name = pystr::text_of(key, writer.meter)?;
                    writer.text(&name);
                    writer.out.push_str(&writer.key.clone());
                    writer.value(&value.get_item(key)?, depth + 1)
                })?;
            }
            other => return Err(refuse(format!("{other}, which is not JSON serializable"))),
        }
        Ok(())
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: &[Value],
        write: impl Fn(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.line(depth + 1)?;
            write(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth)?;
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            self.meter.charge(indent.len() * depth)?;
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 => self.out.push_str(&format!("\\u{:04x}", c as u32)),
                c if self.ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}
