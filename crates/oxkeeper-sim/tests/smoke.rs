//! A few seeds, and that a seed is a run.

use oxkeeper_sim::run_seed;

#[test]
fn twenty_seeds_break_no_rule() {
    for seed in 0..20 {
        let servers = if seed % 3 == 2 { 5 } else { 3 };
        if let Err(failure) = run_seed(seed, servers, false) {
            panic!("seed {seed}: {}\n{}", failure.what, failure.lines.join("\n"));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let hash = |seed| run_seed(seed, 3, false).map(|(_, hash)| hash).unwrap_or_default();
    assert_eq!(hash(3), hash(3));
    assert_ne!(hash(3), hash(4));
}
