//! Compiles one constraint within bounded time, on a thread of its own with room to recurse.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};

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
        Fail::new(Kind::Memory, format!("got no thread to compile a constraint ({e}); need one"))
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
    Fail::invalid(format!("got a constraint that cannot be compiled ({panic}); need a simpler one"))
}

fn compile_here(vocabulary: &Arc<Vocabulary>, spec: &Spec) -> Result<Constraint> {
    let grammar = spec.grammar()?;
    let parser = vocabulary.factory.create_parser(grammar).map_err(|e| {
        let name = spec.name();
        Fail::invalid(format!("got a {name} that cannot be used: {}; need another", first_line(&e)))
    })?;
    Ok(Constraint::new(vocabulary.clone(), Matcher::new(Ok(parser))))
}
