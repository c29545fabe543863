use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use minijinja::value::{Object, ObjectRepr, Rest, Value, ValueKind};
use minijinja::Error;

use super::meter::refuse;

/// Jinja's `namespace()`, but never one inside another: a cycle of them would be printed, compared
/// and dropped without end.
#[derive(Default)]
pub struct Namespace {
    fields: Mutex<BTreeMap<String, Value>>,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Namespace>")
    }
}

impl Object for Namespace {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.fields.lock().ok()?.get(key.as_str()?).cloned()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Namespace>")
    }
}

impl Namespace {
    /// `namespace(a=1)` or `namespace({'a': 1})`.
    pub fn make(values: Rest<Value>) -> Result<Value, Error> {
        let namespace = Namespace::default();
        for value in values.iter() {
            for key in value.try_iter()? {
                let Some(name) = key.as_str() else {
                    return Err(refuse("a namespace field whose name is not a string"));
                };
                namespace.set(name, value.get_item(&key)?)?;
            }
        }
        Ok(Value::from_object(namespace))
    }

    /// `{% set target.name = value %}`.
    pub fn assign(value: Value, target: Value, name: String) -> Result<(), Error> {
        match target.downcast_object_ref::<Namespace>() {
            Some(namespace) => namespace.set(&name, value),
            None => Err(refuse(format!(
                "an assignment to a field of a {}",
                target.kind()
            ))),
        }
    }

    fn set(&self, name: &str, value: Value) -> Result<(), Error> {
        if holds_namespace(&value)? {
            return Err(refuse("a namespace inside of a namespace"));
        }
        if let Ok(mut fields) = self.fields.lock() {
            fields.insert(name.to_string(), value);
        }
        Ok(())
    }
}

fn holds_namespace(value: &Value) -> Result<bool, Error> {
    if value.downcast_object_ref::<Namespace>().is_some() {
        return Ok(true);
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                if holds_namespace(&item)? {
                    return Ok(true);
                }
            }
        }
        ValueKind::Map => {
            for key in value.try_iter()? {
                if holds_namespace(&value.get_item(&key)?)? {
                    return Ok(true);
                }
            }
        }
        _ => {}
    }
    Ok(false)
}
