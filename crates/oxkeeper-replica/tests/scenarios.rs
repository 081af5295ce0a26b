//! Recorded courses of events: each file in `scenarios/` is a script, a line `----`, and what clients and
//! servers saw. `UPDATE=1 cargo test -p oxkeeper-replica --test scenarios` records anew; read the diff.
//!
//! Zxids are written `epoch.counter`. What servers say to each other is told only where a client is
//! concerned; `oxkeeper-zab` has scenarios of its own.

#![allow(clippy::disallowed_methods, reason = "it reads recorded files, or how much to run")]

mod world;

use std::path::Path;

use oxkeeper_proto::ServerId;
use world::{Rules, World};

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().ok().expect("a number")
}

/// The first line of a script: `solo`, or `ensemble n [leader-does-not-serve] [snapshots]`.
fn rules(line: &str) -> Rules {
    let words: Vec<&str> = line.split(' ').collect();
    Rules {
        voters: if words[0] == "solo" { 0 } else { number(words[1]) },
        leader_serves: !words.contains(&"leader-does-not-serve"),
        snapshots: words.contains(&"snapshots"),
    }
}

/// About a server: `start|crash|isolate|hold|release|stall|flow [ids]`, `heal`, `settle`, `pass ms`. About a client:
/// `name connects|resumes id [timeout]`, `name resumes id as other`, `name guesses id as other` (with a wrong
/// password), `name vanishes`, `name dawdles`, or `name: requests` (see `world/client.rs`).
fn command(world: &mut World, line: &str) {
    world.lines.push(format!("> {line}"));
    if let Some((name, requests)) = line.split_once(": ") {
        world.send(name, requests);
        return world.run();
    }
    let words: Vec<&str> = line.split(' ').collect();
    let ids = |world: &World| match &words[1..] {
        [] => world.ids(),
        some => some.iter().map(|word| number::<ServerId>(word)).collect(),
    };
    match words[..] {
        ["start", ..] => ids(world).into_iter().for_each(|id| world.start(id)),
        ["crash", ..] => ids(world).into_iter().for_each(|id| world.crash(id)),
        ["isolate", ..] => ids(world).into_iter().for_each(|id| world.isolate(id)),
        ["hold", ..] => ids(world).into_iter().for_each(|id| world.hold(id, true)),
        ["release", ..] => ids(world).into_iter().for_each(|id| world.hold(id, false)),
        ["stall", ..] => ids(world).into_iter().for_each(|id| world.stall(id, true)),
        ["flow", ..] => ids(world).into_iter().for_each(|id| world.stall(id, false)),
        ["heal"] => world.heal(),
        ["settle"] => assert!(world.pass(60_000, World::all_have_roles), "nobody serves"),
        ["pass", ms] => drop(world.pass(number(ms), |_| false)),
        [name, "vanishes"] => world.vanish(name),
        [name, "dawdles"] => world.dawdle(name),
        [name, how @ ("resumes" | "guesses"), id, "as", other] => {
            world.pose(name, other, how == "guesses");
            world.connect(name, number(id), true, 30_000);
        }
        [name, how @ ("connects" | "resumes"), id, ref timeout @ ..] => {
            let timeout_ms = timeout.first().map_or(30_000, |word| number(word));
            world.connect(name, number(id), how == "resumes", timeout_ms);
        }
        _ => panic!("unknown command {line}"),
    }
    world.run();
}

fn record(script: &str) -> String {
    let mut lines = script.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut world = World::new(rules(lines.next().expect("a first line")));
    lines.for_each(|line| command(&mut world, line));
    world.lines.join("\n") + "\n"
}

#[test]
fn every_recorded_course_is_taken_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let update = std::env::var_os("UPDATE").is_some();
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of the scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    let mut different = Vec::new();
    for path in names {
        let text = std::fs::read_to_string(&path).expect("a readable scenario");
        let (script, recorded) = text.split_once("----\n").unwrap_or((&text, ""));
        let seen = record(script);
        if update {
            let script = script.trim_end();
            std::fs::write(&path, format!("{script}\n----\n{seen}")).expect("a writable scenario");
        } else if seen != recorded {
            let line = seen.lines().zip(recorded.lines()).find(|(new, old)| new != old);
            different.push(format!("{}: first difference {line:?}", path.display()));
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}
