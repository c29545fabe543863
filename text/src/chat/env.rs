use std::borrow::Cow;
use std::sync::Arc;

use minijinja::machinery::{make_string_output, tokenize, CompiledTemplate, Token, Vm};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use serde_json::{Map, Value as Json};

use super::meter::Meter;
use super::{functions, methods, pystr, rewrite};
use crate::error::{Fail, Result};

const FUEL: u64 = 20_000_000;
const RECURSION: usize = 200;
const MOST_PRODUCTS: usize = 4;

fn fail(error: Error, meter: &Meter) -> Fail {
    if let Some(message) = meter.raised() {
        return Fail::invalid(format!(
            "got '{message}' from the template; need messages that it accepts"
        ));
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return Fail::invalid(format!(
            "got a template of too many steps; need at most {FUEL}"
        ));
    }
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_string);
    let need = match error.kind() {
        ErrorKind::SyntaxError => "valid Jinja",
        ErrorKind::UnknownFilter | ErrorKind::UnknownFunction | ErrorKind::UnknownTest => {
            "a name that Jinja or transformers defines"
        }
        _ => "a template and messages that suit each other",
    };
    // The meter's limits say themselves what they need.
    let (what, need) = what.split_once("; need ").unwrap_or((&what, need));
    let place = match error.line() {
        Some(line) => format!("at line {line} of the template"),
        None => "in the template".to_string(),
    };
    Fail::invalid(format!("got {what} {place}; need {need}"))
}

/// Renders with trim_blocks, lstrip_blocks and transformers' own functions and filters.
pub fn render(template: &str, variables: Map<String, Json>) -> Result<String> {
    let source = without_generation(template);
    let meter = Arc::new(Meter::new());
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION);
    functions::install(&mut env, &meter);
    methods::install(&mut env, &meter);
    let emit = meter.clone();
    env.set_formatter(move |out, _, value| {
        let text = pystr::text_of(value, &emit)?;
        emit.emit(text.len())?;
        out.write_str(&text).map_err(Error::from)
    });

    check_products(&source)?;
    let parsed = env
        .template_from_named_str("chat_template", &source)
        .map_err(|e| fail(e, &meter))?;
    let compiled: &CompiledTemplate = minijinja::machinery::get_compiled_template(&parsed);
    let main = rewrite::metered(&compiled.instructions)?;
    let mut blocks = std::collections::BTreeMap::new();
    for (name, block) in &compiled.blocks {
        blocks.insert(*name, rewrite::metered(block)?);
    }
    let mut text = String::new();
    let mut out = make_string_output(&mut text);
    let root = Value::from_serialize(variables);
    Vm::new(&env)
        .eval(&main, root, &blocks, &mut out, AutoEscape::None)
        .map_err(|e| fail(e, &meter))?;
    drop(out);
    Ok(text)
}

/// Products of constants are computed while compiling, out of the meter's sight, and each may make
/// 100 MB. Templates hardly ever multiply.
fn check_products(source: &str) -> Result<()> {
    let tokens = tokenize(source, false, Default::default(), Default::default());
    // After an error the tokens never end; parsing will say what is wrong.
    let good = tokens.map_while(|token| token.ok());
    let products = good
        .filter(|(token, _)| matches!(token, Token::Mul))
        .count();
    if products > MOST_PRODUCTS {
        return Err(Fail::unsupported(format!(
            "got a template with {products} multiplications; need at most {MOST_PRODUCTS}"
        )));
    }
    Ok(())
}

/// `{% generation %}` marks what a trainer learns from; for a prompt it is a block like any other.
fn without_generation(template: &str) -> Cow<'_, str> {
    if !template.contains("generation") {
        return Cow::Borrowed(template);
    }
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}").map(|end| end + 2) else {
            rest = tag;
            break;
        };
        let inner = tag[2..end - 2]
            .trim_matches(|c| c == '-' || c == '+')
            .trim();
        match inner {
            "generation" => out.push_str(&tag[..end].replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag[..end].replacen("endgeneration", "endif", 1)),
            _ => out.push_str(&tag[..end]),
        }
        rest = &tag[end..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}
