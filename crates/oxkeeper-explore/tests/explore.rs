//! The exploration itself: that it is exhaustive in the same way each time, that the production cores hold
//! every rule, and that the rules can be broken.

use std::time::Duration;

use oxkeeper_explore::disk::Txn;
use oxkeeper_explore::rules::{Ghost, Rule};
use oxkeeper_explore::scopes::{self, Scope};
use oxkeeper_explore::search::{Options, Report, replay, search};
use oxkeeper_explore::server::Seen;
use oxkeeper_proto::Zxid;

fn explore(scope: &Scope, depth: u32) -> Report {
    search(scope, &options(scope, depth))
}

fn options(scope: &Scope, depth: u32) -> Options {
    let mut bounds = scope.bounds;
    bounds.depth = depth;
    let (limit, most_states) = (Duration::from_secs(600), usize::MAX);
    Options { bounds, limit, most_states, without: Vec::new() }
}

#[test]
fn every_scope_holds_all_rules_and_is_seen_completely() {
    for scope in scopes::all() {
        let report = explore(&scope, 8);
        if let Some((broken, path)) = &report.broken {
            let (lines, _) = replay(&scope, &options(&scope, 8), path);
            panic!("{}: {broken}\n{}", scope.name, lines.join("\n"));
        }
        assert!(report.complete && report.depth == 8, "{}: {report:?}", scope.name);
        assert!(100 < report.distinct, "{}: {report:?}", scope.name);
    }
}

#[test]
fn the_same_states_are_seen_each_time() {
    let scope = Scope::named("sync").expect("a scope");
    let (once, again) = (explore(&scope, 9), explore(&scope, 9));
    assert_eq!((once.visited, once.distinct), (again.visited, again.distinct));
    assert!(explore(&scope, 8).distinct < once.distinct);
}

#[test]
fn more_faults_reach_more_states() {
    let scope = Scope::named("join").expect("a scope");
    let distinct = |crashes| {
        let mut options = options(&scope, 8);
        options.bounds.most.crashes = crashes;
        search(&scope, &options).distinct
    };
    assert!(distinct(0) < distinct(1) && distinct(1) < distinct(2));
}

fn txn(epoch: u32, counter: u32, value: u8) -> Txn {
    Txn { zxid: Zxid::new(epoch, counter), value }
}

fn leads(epoch: u32, tree: &[Txn]) -> Seen {
    Seen::Leads { epoch, tree: tree.to_vec() }
}

/// Which rule does a server break that delivers this, where `committed` is what leaders have committed?
fn delivering(tree: &[Txn], committed: &[Txn], proposed: &[Txn]) -> Option<Rule> {
    let ghost =
        Ghost { committed: committed.to_vec(), proposed: proposed.to_vec(), ..Ghost::default() };
    ghost.delivers(1, tree).err().map(|broken| broken.rule)
}

#[test]
fn a_delivery_breaks_the_rule_that_names_what_is_wrong_with_it() {
    let (a, b, c) = (txn(1, 1, 0), txn(1, 2, 1), txn(2, 1, 2));
    let all = [a, b, c];
    assert_eq!(delivering(&[a, b], &all, &all), None);
    assert_eq!(delivering(&[a, txn(1, 2, 9)], &all, &all), Some(Rule::Integrity));
    assert_eq!(delivering(&[a, b, c], &[a, b], &all), Some(Rule::PrefixConsistency));
    assert_eq!(delivering(&[a, c], &all, &all), Some(Rule::TotalOrder));
    assert_eq!(delivering(&[a, b], &[a, c], &all), Some(Rule::Agreement));
    assert_eq!(delivering(&[b], &all, &all), Some(Rule::LocalPrimaryOrder));
    assert_eq!(delivering(&[c, a], &[c], &all), Some(Rule::GlobalPrimaryOrder));
}

#[test]
fn a_leader_breaks_the_rules_of_leaders() {
    let (a, b) = (txn(1, 1, 0), txn(1, 2, 1));
    let rule = |held: Result<(), oxkeeper_explore::rules::Broken>| held.err().map(|it| it.rule);
    let mut ghost = Ghost { committed: vec![a, b], proposed: vec![a, b], ..Ghost::default() };
    assert_eq!(rule(ghost.note(1, &leads(2, &[a, b]))), None);
    assert_eq!(rule(ghost.note(2, &leads(2, &[a, b]))), Some(Rule::Leadership));
    assert_eq!(rule(ghost.note(2, &leads(3, &[a]))), Some(Rule::LeaderLogCompleteness));
    assert_eq!(rule(ghost.broadcasts(2, txn(3, 1, 2), &[a])), Some(Rule::PrimaryIntegrity));
}
