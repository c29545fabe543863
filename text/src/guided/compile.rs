//! Compiles one constraint within bounded time, on a thread of its own with room to recurse.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};

use llguidance::api::GrammarInit;
use llguidance::earley::lexerspec::LexerSpec;
use llguidance::Matcher;

use crate::error::{guard, Fail, Kind, Result};

use super::{first_line, limits, Constraint, Spec, Vocabulary};

const RUNNING: u8 = 0;
const DONE: u8 = 1;
const LEFT: u8 = 2;

/// Compilations that nobody waits for any more. What `limits` and `schema` let through ends, but a
/// thread cannot be stopped from outside.
static RUNAWAYS: AtomicUsize = AtomicUsize::new(0);

pub fn compile(vocabulary: Arc<Vocabulary>, spec: Spec) -> Result<Constraint> {
    if RUNAWAYS.load(Ordering::Relaxed) >= limits::RUNAWAYS {
        return Err(Fail::new(
            Kind::Memory,
            "got a constraint while others still compile past their time; need a later try",
        ));
    }
    let name = spec.name();
    let state = Arc::new(AtomicU8::new(RUNNING));
    let (sender, receiver) = mpsc::sync_channel(1);
    let theirs = state.clone();
    let thread = std::thread::Builder::new()
        .name("foveal-guided".into())
        .stack_size(limits::COMPILE_STACK);
    let spawned = thread.spawn(move || {
        let result = guard(fails_to_compile, || compile_here(&vocabulary, &spec));
        let _ = sender.send(result); // dropped here when nobody waits
        if theirs.swap(DONE, Ordering::AcqRel) == LEFT {
            RUNAWAYS.fetch_sub(1, Ordering::Relaxed);
        }
    });
    spawned.map_err(|e| {
        Fail::new(
            Kind::Memory,
            format!("got no thread to compile a constraint ({e}); need one"),
        )
    })?;
    if let Ok(result) = receiver.recv_timeout(limits::COMPILE_TIME) {
        return result;
    }
    RUNAWAYS.fetch_add(1, Ordering::Relaxed);
    if state.swap(LEFT, Ordering::AcqRel) == DONE {
        RUNAWAYS.fetch_sub(1, Ordering::Relaxed);
    }
    Err(Fail::invalid(format!(
        "got a {name} that takes more than {} s to compile; need a simpler one",
        limits::COMPILE_TIME.as_secs()
    )))
}

fn fails_to_compile(panic: String) -> Fail {
    Fail::invalid(format!(
        "got a constraint that cannot be compiled ({panic}); need a simpler one"
    ))
}

fn compile_here(vocabulary: &Arc<Vocabulary>, spec: &Spec) -> Result<Constraint> {
    let refuse = |e| explain(spec.name(), &first_line(&e));
    let factory = &vocabulary.factory;
    let (grammar, lexer) = GrammarInit::Serialized(spec.grammar()?)
        .to_internal(Some(factory.tok_env().clone()), limits::parser())
        .map_err(refuse)?;
    check_first_bytes(&lexer).map_err(refuse)?;
    let init = GrammarInit::Internal(grammar, lexer);
    let parser = factory
        .create_parser_from_init_default(init)
        .map_err(refuse)?;
    let mut matcher = Matcher::new(Ok(parser));
    // The first mask is the dearest by far, and here nobody else waits for it. What allows no text at
    // all is found out as well.
    matcher.compute_mask().map_err(refuse)?;
    Ok(Constraint::new(vocabulary.clone(), matcher))
}

/// The crate looks at every first byte without a limit, which takes for ever where terminals are
/// intersected or negated. The same work with a limit shows whether it ends.
fn check_first_bytes(lexer: &LexerSpec) -> anyhow::Result<()> {
    let mut limits = limits::parser();
    let mut automaton = lexer.to_regex_vec(&mut limits)?;
    automaton.set_fuel(limits.initial_lexer_fuel);
    let start = automaton.initial_state(&lexer.all_lexemes());
    for byte in 0..=255 {
        automaton.transition(start, byte);
        anyhow::ensure!(
            !automaton.has_error(),
            "its patterns take too much work to combine"
        );
    }
    Ok(())
}

fn explain(name: &str, error: &str) -> Fail {
    if error.contains("oneOf constraints are not supported") {
        return Fail::invalid(format!(
            "got a {name} with oneOf whose options may both match; need anyOf, or options that differ \
             in type or in a required constant"
        ));
    }
    let error = error.replace("NoExtensionBias", "it allows no text");
    Fail::invalid(format!(
        "got a {name} that cannot be used: {error}; need another"
    ))
}
