//! A failing run made smaller: fewer faults, the same broken rule.
//!
//! Leaving a fault out changes all that comes after it, so a smaller run is another run; it counts if it
//! breaks the same rule. Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing
//! Input" (ddmin).

use std::collections::BTreeSet;

use crate::plan::{Plan, Wishes};
use crate::run::{Failure, run_seed};

/// The smallest failing run that leaving out faults has led to. `tell` hears of every success.
pub fn shrink(failure: &Failure, tell: &mut dyn FnMut(String)) -> Failure {
    let all = Plan::of(failure.seed, &failure.wishes).strikes.len();
    let mut smallest = copy(failure);
    let mut chunk = all.div_ceil(2).max(1);
    loop {
        let left: Vec<usize> =
            (0..all).filter(|number| !smallest.wishes.without.contains(number)).collect();
        let smaller = left.chunks(chunk).rev().find_map(|out| fails_without(&smallest, out));
        match smaller {
            Some(smaller) => {
                smallest = smaller;
                tell(format!("fails without {} of {all} faults", smallest.wishes.without.len()));
            }
            None if chunk == 1 => return smallest,
            None => chunk = chunk.div_ceil(2),
        }
    }
}

fn fails_without(failure: &Failure, out: &[usize]) -> Option<Failure> {
    let without: BTreeSet<_> = failure.wishes.without.iter().chain(out).copied().collect();
    let wishes = Wishes { without, ..failure.wishes.clone() };
    let smaller = run_seed(failure.seed, &wishes, false).err()?;
    (smaller.violation.rule == failure.violation.rule).then_some(*smaller)
}

fn copy(failure: &Failure) -> Failure {
    Failure {
        seed: failure.seed,
        wishes: failure.wishes.clone(),
        violation: failure.violation.clone(),
        lines: failure.lines.clone(),
    }
}
