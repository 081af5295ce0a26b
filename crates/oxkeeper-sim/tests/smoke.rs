//! A few seeds, and that a seed is a run.

use oxkeeper_sim::{Wishes, run_seed};

#[test]
fn twenty_seeds_break_no_rule() {
    for seed in 0..20 {
        if let Err(failure) = run_seed(seed, &Wishes::default(), false) {
            panic!("seed {seed}: {}\n{}", failure.violation, failure.lines.join("\n"));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let hash = |seed| run_seed(seed, &Wishes::default(), false).map(|run| run.traces).unwrap_or(0);
    assert_eq!(hash(3), hash(3));
    assert_ne!(hash(3), hash(4));
}
