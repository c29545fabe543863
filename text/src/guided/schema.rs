//! Bounds what a JSON schema costs before it is compiled. Combining schemas (allOf, and keywords
//! beside anyOf, oneOf or $ref) multiplies their alternatives, and the compiler follows references
//! while it does so: a few hundred bytes can ask for more than any machine has.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::error::{Fail, Result};

use super::limits;

/// Schemas that combining may make, about 400 bytes each.
const MOST_COMBINED: f64 = 250_000.0;
/// These are compared pair by pair.
const MOST_PATTERN_PROPERTIES: usize = 32;
const MOST_ONE_OF: usize = 256;

const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "x-guidance",
];

/// About how many schemas one becomes with all its references followed, and into how many
/// alternatives it (or a part of it) splits. Floating point, because it saturates.
#[derive(Clone, Copy)]
struct Weight {
    size: f64,
    alternatives: f64,
}

const ONE: Weight = Weight {
    size: 1.0,
    alternatives: 1.0,
};

struct Walk<'a> {
    root: &'a Value,
    known: HashMap<*const Value, Weight>,
    classes: usize,
}

pub fn check(schema: &Value) -> Result<()> {
    if !schema.is_object() && !schema.is_boolean() {
        return Err(Fail::invalid(
            "got a JSON schema that is neither an object nor a boolean; need one",
        ));
    }
    let mut walk = Walk {
        root: schema,
        known: HashMap::new(),
        classes: 0,
    };
    walk.count_classes(schema);
    limits::check_classes(walk.classes)?;
    walk.weigh(schema)?;
    // Definitions that nothing refers to are compiled as well.
    for key in ["$defs", "definitions"] {
        if let Some(Value::Object(definitions)) = schema.get(key) {
            for definition in definitions.values() {
                walk.weigh(definition)?;
            }
        }
    }
    Ok(())
}

impl<'a> Walk<'a> {
    fn count_classes(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.classes += limits::unicode_classes(text),
            Value::Array(items) => items.iter().for_each(|item| self.count_classes(item)),
            Value::Object(fields) => {
                for (key, field) in fields {
                    self.classes += limits::unicode_classes(key);
                    self.count_classes(field);
                }
            }
            _ => {}
        }
    }

    fn weigh(&mut self, schema: &'a Value) -> Result<Weight> {
        let Value::Object(fields) = schema else {
            return Ok(ONE);
        };
        if let Some(&weight) = self.known.get(&(schema as *const Value)) {
            return Ok(weight);
        }
        self.known.insert(schema, ONE); // for what refers to itself
        check_lists(fields)?;
        check_patterns(fields)?;
        let mut factors = vec![];
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(options)) = fields.get(key) {
                factors.push(self.sum(options.iter(), true)?);
            }
        }
        if let Some(Value::Array(parts)) = fields.get("allOf") {
            for part in parts {
                factors.push(self.weigh(part)?);
            }
        }
        if let Some(Value::String(target)) = fields.get("$ref") {
            if let Some(found) = lookup(self.root, target) {
                factors.push(self.weigh(found)?);
            }
        }
        let combining = ["anyOf", "oneOf", "allOf", "$ref"];
        let plain = |key: &&String| {
            !combining.contains(&key.as_str()) && !ANNOTATIONS.contains(&key.as_str())
        };
        if factors.is_empty() || fields.keys().any(|key| plain(&key)) {
            factors.push(self.own(fields)?);
        }
        let weight = combine(&factors)?;
        self.known.insert(schema, weight);
        Ok(weight)
    }

    /// What the schema says itself: its children, which are not combined with each other.
    fn own(&mut self, fields: &'a Map<String, Value>) -> Result<Weight> {
        let mut weight = ONE;
        if let Some(Value::Array(types)) = fields.get("type") {
            weight.alternatives = types.len().max(1) as f64;
        }
        let mut children: Vec<&Value> = vec![];
        for key in ["properties", "patternProperties", "dependentSchemas"] {
            if let Some(Value::Object(named)) = fields.get(key) {
                children.extend(named.values());
            }
        }
        let single = [
            "additionalProperties",
            "items",
            "additionalItems",
            "contains",
            "not",
            "if",
            "then",
            "else",
            "propertyNames",
            "unevaluatedProperties",
            "unevaluatedItems",
        ];
        children.extend(single.iter().filter_map(|key| fields.get(*key)));
        for key in ["prefixItems", "items"] {
            if let Some(Value::Array(listed)) = fields.get(key) {
                children.extend(listed.iter());
            }
        }
        let below = self.sum(children.into_iter(), false)?;
        weight.size += below.size;
        weight.alternatives = weight.alternatives.max(below.alternatives);
        Ok(weight)
    }

    fn sum(
        &mut self,
        schemas: impl Iterator<Item = &'a Value>,
        alternatives: bool,
    ) -> Result<Weight> {
        let mut total = Weight {
            size: 0.0,
            alternatives: 0.0,
        };
        for schema in schemas {
            let weight = self.weigh(schema)?;
            total.size += weight.size;
            if alternatives {
                total.alternatives += weight.alternatives;
            } else {
                total.alternatives = total.alternatives.max(weight.alternatives);
            }
        }
        total.alternatives = total.alternatives.max(1.0);
        Ok(total)
    }
}

/// As the compiler finds it: names are taken as they are written.
fn lookup<'a>(root: &'a Value, target: &str) -> Option<&'a Value> {
    let path = target.strip_prefix('#')?;
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(root);
    }
    path.split('/').try_fold(root, |at, name| match at {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        other => other.get(name),
    })
}

fn check_lists(fields: &Map<String, Value>) -> Result<()> {
    let length = |key: &str| match fields.get(key) {
        Some(Value::Array(list)) => list.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    };
    for (key, limit) in [
        ("patternProperties", MOST_PATTERN_PROPERTIES),
        ("oneOf", MOST_ONE_OF),
    ] {
        if length(key) > limit {
            return Err(Fail::invalid(format!(
                "got a JSON schema with {} entries in {key}; need at most {limit}",
                length(key)
            )));
        }
    }
    Ok(())
}

fn check_patterns(fields: &Map<String, Value>) -> Result<()> {
    if let Some(Value::String(pattern)) = fields.get("pattern") {
        limits::check_escapes(pattern)?;
    }
    if let Some(Value::Object(patterns)) = fields.get("patternProperties") {
        for pattern in patterns.keys() {
            limits::check_escapes(pattern)?;
        }
    }
    Ok(())
}

fn combine(factors: &[Weight]) -> Result<Weight> {
    if let [single] = factors {
        return Ok(*single);
    }
    let alternatives: f64 = factors.iter().map(|factor| factor.alternatives).product();
    let sizes = factors
        .iter()
        .map(|factor| factor.size / factor.alternatives);
    let size = sizes.sum::<f64>() * alternatives;
    if !(size <= MOST_COMBINED) {
        return Err(Fail::invalid(format!(
            "got a JSON schema whose combined parts (allOf, or keywords beside anyOf, oneOf or \
             $ref) become some {size:.0} schemas; need at most {MOST_COMBINED:.0}"
        )));
    }
    Ok(Weight { size, alternatives })
}
