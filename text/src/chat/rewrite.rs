use minijinja::machinery::{Instruction, Instructions};
use minijinja::Value;

use super::functions::{CAT, MAKE, NONZERO, SET_ATTR, TICK};
use crate::error::{Fail, Result};

/// A copy of the program in which every instruction that makes a value hands it to the meter, and
/// every one that may take long looks at the clock.
pub fn metered<'s>(program: &Instructions<'s>) -> Result<Instructions<'s>> {
    let count = program.len() as u32;
    let mut starts = Vec::with_capacity(count as usize + 1);
    let mut steps = Vec::new();
    for index in 0..count {
        starts.push(steps.len() as u32);
        let instruction = program.get(index).expect("an index below the length");
        for step in expand(instruction)? {
            steps.push((step, index));
        }
    }
    starts.push(steps.len() as u32);

    let mut out = Instructions::new(program.name(), program.source());
    for (mut step, index) in steps {
        relocate(&mut step, &starts);
        match (program.get_span(index), program.get_line(index)) {
            (Some(span), _) => out.add_with_span(step, span),
            (None, Some(line)) => out.add_with_line(step, line as u16),
            (None, None) => out.add(step),
        };
    }
    Ok(out)
}

fn expand<'s>(instruction: &Instruction<'s>) -> Result<Vec<Instruction<'s>>> {
    use Instruction as I;
    let call = |name, count| I::CallFunction(name, Some(count));
    let same = instruction.clone();
    Ok(match instruction {
        // Raw text goes the same counted way as every other output.
        I::EmitRaw(text) => vec![I::LoadConst(Value::from(*text)), I::Emit],
        // Constants are folded while compiling, lazy lists of any length among them.
        I::LoadConst(value) if !value.is_number() && value.as_str().is_none() => {
            vec![same, call(MAKE, 1)]
        }
        // Python raises where the library gives infinity, or folds it into a constant.
        I::LoadConst(value) if is_infinite(value) => {
            let zero = I::LoadConst(Value::from(0));
            vec![zero, call(NONZERO, 1), I::DiscardTop, same]
        }
        I::Div | I::IntDiv | I::Rem => vec![I::DupTop, call(NONZERO, 1), I::DiscardTop, same],
        I::StringConcat => vec![call(CAT, 2)],
        I::SetAttr(name) => {
            vec![
                I::LoadConst(Value::from(*name)),
                call(SET_ATTR, 3),
                I::DiscardTop,
            ]
        }
        I::ApplyFilter(..)
        | I::CallMethod(..)
        | I::Add
        | I::Sub
        | I::Mul
        | I::Pow
        | I::Slice
        | I::GetItem
        | I::BuildMap(_)
        | I::BuildList(_)
        | I::EndCapture
        | I::CallFunction(..)
        | I::CallObject(_) => vec![same, call(MAKE, 1)],
        I::Eq
        | I::Ne
        | I::Gt
        | I::Gte
        | I::Lt
        | I::Lte
        | I::In
        | I::CompareAndPreserve(_)
        | I::PerformTest(..) => vec![call(TICK, 0), I::DiscardTop, same],
        I::LoadBlocks | I::Include(_) => {
            return Err(Fail::unsupported(
                "got a template that needs other templates",
            ))
        }
        _ => vec![same],
    })
}

fn is_infinite(value: &Value) -> bool {
    value.is_number() && f64::try_from(value.clone()).is_ok_and(|number| !number.is_finite())
}

fn relocate(step: &mut Instruction, starts: &[u32]) {
    use Instruction as I;
    match step {
        I::Iterate(target)
        | I::Jump(target)
        | I::JumpIfFalse(target)
        | I::JumpIfFalseOrPop(target)
        | I::JumpIfTrueOrPop(target)
        | I::BuildMacro(_, target, _) => {
            if let Some(&start) = starts.get(*target as usize) {
                *target = start;
            }
        }
        _ => {}
    }
}
