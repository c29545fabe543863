use aho_corasick::{AhoCorasick, Input};
use serde_json::{Map, Value as Json};

use crate::automaton::leftmost_longest;
use crate::error::{Fail, Result};

/// Roles that templates compose tokens from (`'<|' + role + '|>'`); any other is a stranger's text.
const ROLES: &[&str] = &[
    "system",
    "developer",
    "user",
    "assistant",
    "model",
    "tool",
    "function",
    "ipython",
    "observation",
    "environment",
    "context",
    "documents",
    "tool_response",
];

/// Puts a mark, a private-use character, into strings that come from outside. Marks are taken out
/// of the rendered text again; where one was, no control token may reach over.
pub struct Marker {
    mark: char,
    spelled: AhoCorasick,
    first: Vec<char>,
    last: Vec<char>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Zeal {
    /// Breaks up every control token that a string spells out. Templates see other strings as they
    /// are, so their own logic holds.
    Spelled,
    /// Also breaks every place where a token could begin or end, whatever a template does to the
    /// strings (cuts them apart, joins them with others).
    Everywhere,
}

impl Marker {
    /// None where there is no control token.
    pub fn new<'t>(
        control: impl Iterator<Item = &'t str>,
        texts: &[&Json],
        template: &str,
    ) -> Result<Option<Marker>> {
        let control: Vec<&str> = control.filter(|token| !token.is_empty()).collect();
        if control.is_empty() {
            return Ok(None);
        }
        let mut taken = template.to_string();
        texts.iter().for_each(|json| collect(json, &mut taken));
        let mark = ('\u{f0000}'..'\u{ffffd}').find(|&c| !taken.contains(c));
        let mark = mark.ok_or_else(|| {
            Fail::invalid("got every private-use character; need one that is not used")
        })?;
        let spelled = leftmost_longest(control.iter().copied())?;
        let ends = |pick: fn(&str) -> Option<char>| {
            let mut chars: Vec<char> = control.iter().filter_map(|token| pick(token)).collect();
            chars.sort_unstable();
            chars.dedup();
            chars
        };
        let first = ends(|token| token.chars().next());
        let last = ends(|token| token.chars().next_back());
        Ok(Some(Marker {
            mark,
            spelled,
            first,
            last,
        }))
    }

    pub fn messages(&self, messages: &Json, zeal: Zeal) -> Json {
        let message = |message: &Json| match message {
            Json::Object(fields) => {
                let field = |(name, value): (&String, &Json)| match value.as_str() {
                    Some(role) if name == "role" => (name.clone(), self.role(role).into()),
                    _ => (
                        self.text(name, Zeal::Spelled),
                        self.value(name, value, zeal),
                    ),
                };
                Json::Object(fields.iter().map(field).collect())
            }
            other => self.value("", other, zeal),
        };
        messages
            .as_array()
            .map_or(Json::Null, |list| list.iter().map(message).collect())
    }

    /// Marks the values of template variables, not their names.
    pub fn variables(&self, extra: &Map<String, Json>, zeal: Zeal) -> Map<String, Json> {
        extra
            .iter()
            .map(|(name, value)| (name.clone(), self.value(name, value, zeal)))
            .collect()
    }

    fn value(&self, name: &str, value: &Json, zeal: Zeal) -> Json {
        match value {
            // A template may put its own text around a whole content.
            Json::String(text)
                if zeal == Zeal::Everywhere && matches!(name, "content" | "text") =>
            {
                self.hug(&self.text(text, zeal)).into()
            }
            Json::String(text) => self.text(text, zeal).into(),
            Json::Array(list) => list
                .iter()
                .map(|item| self.value(name, item, zeal))
                .collect(),
            Json::Object(fields) => {
                let field = |(name, value): (&String, &Json)| {
                    (
                        self.text(name, Zeal::Spelled),
                        self.value(name, value, zeal),
                    )
                };
                Json::Object(fields.iter().map(field).collect())
            }
            other => other.clone(),
        }
    }

    fn role(&self, role: &str) -> String {
        if ROLES.contains(&role) {
            return role.to_string();
        }
        self.hug(&self.text(role, Zeal::Everywhere))
    }

    /// A mark on either side, inside of any blanks so that trimming works as without.
    fn hug(&self, text: &str) -> String {
        let inner = text.trim();
        if inner.is_empty() {
            return text.to_string();
        }
        let before = &text[..text.len() - text.trim_start().len()];
        let after = &text[text.trim_end().len()..];
        let mark = self.mark;
        format!("{before}{mark}{inner}{mark}{after}")
    }

    fn text(&self, text: &str, zeal: Zeal) -> String {
        let mut out = String::with_capacity(text.len() + 16);
        if zeal == Zeal::Everywhere {
            for c in text.chars() {
                if self.last.contains(&c) {
                    out.push(self.mark);
                }
                out.push(c);
                if self.first.contains(&c) {
                    out.push(self.mark);
                }
            }
            return out;
        }
        let (mut done, mut from) = (0, 0);
        while let Some(hit) = self.spelled.find(Input::new(text).span(from..text.len())) {
            // Behind the first character; what begins at the second is looked for again.
            let after = hit.start() + text[hit.start()..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[done..after]);
            out.push(self.mark);
            (done, from) = (after, after);
        }
        out.push_str(&text[done..]);
        out
    }

    /// The text without marks, and the byte positions where they were.
    pub fn strip(&self, text: &str) -> (String, Vec<usize>) {
        let mut out = String::with_capacity(text.len());
        let mut cuts = Vec::new();
        for (number, piece) in text.split(self.mark).enumerate() {
            if number > 0 && cuts.last() != Some(&out.len()) {
                cuts.push(out.len());
            }
            out.push_str(piece);
        }
        (out, cuts)
    }
}

fn collect(json: &Json, out: &mut String) {
    match json {
        Json::String(text) => out.push_str(text),
        Json::Array(list) => list.iter().for_each(|item| collect(item, out)),
        Json::Object(fields) => fields.iter().for_each(|(name, value)| {
            out.push_str(name);
            collect(value, out);
        }),
        _ => {}
    }
}
