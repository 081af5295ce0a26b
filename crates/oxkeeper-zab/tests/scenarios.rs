//! Recorded conversations: each file in `scenarios/` is a script, a line `----`, and what the servers
//! said and did. `UPDATE=1 cargo test -p oxkeeper-zab --test scenarios` records anew; read the diff.
//!
//! Zxids are written `epoch.counter`. Votes and pings are left out unless the script says `votes`.

#![allow(clippy::disallowed_methods, reason = "it reads recorded files, or how much to run")]

mod common;

use std::path::Path;

use common::{Event, Settings, World, proposal};
use oxkeeper_proto::{ServerId, Zxid};
use oxkeeper_zab::Input;

/// Carries out a script; the world is made when the first server starts.
struct Stage {
    settings: Settings,
    world: Option<World>,
    presets: Vec<String>,
    votes: bool,
}

impl Stage {
    fn world(&mut self) -> &mut World {
        if self.world.is_none() {
            let mut world = World::new(&self.settings);
            world.trace.on = true;
            world.trace.votes = self.votes;
            self.presets.iter().for_each(|preset| set_disk(&mut world, preset));
            self.world = Some(world);
        }
        self.world.as_mut().expect("just made")
    }

    fn command(&mut self, line: &str) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let numbers: Vec<i64> = rest.split(' ').filter_map(|word| word.parse().ok()).collect();
        let ids = |world: &World| if rest.is_empty() { world.ids() } else { numbers.clone() };
        match command {
            "ensemble" => self.settings(rest),
            "votes" => self.votes = true,
            "disk" => self.presets.push(rest.to_owned()),
            _ => {
                let world = self.world();
                world.trace.note(format!("> {line}"));
                match command {
                    "start" => ids(world).into_iter().for_each(|id| world.start(id)),
                    "crash" => ids(world).into_iter().for_each(|id| world.crash(id)),
                    "isolate" => ids(world).into_iter().for_each(|id| world.isolate(id)),
                    "part" => world.partition(numbers[0], numbers[1]),
                    "heal" => world.heal(),
                    "settle" => assert!(world.settle(60_000, World::all_serve), "nobody serves"),
                    "run" => drop(world.settle(0, |_| false)),
                    "pass" => world.pass(numbers[0] as u64),
                    "propose" => propose(world, numbers.first().copied().unwrap_or(1)),
                    "forward" => world.forward(numbers[0]),
                    "sync" => world.sync(numbers[0]),
                    "stepdown" => {
                        let leader = world.leader().expect("someone leads");
                        world.input(leader, Input::StepDown);
                    }
                    "flush" => flush(world, numbers[0]),
                    "deliver" => deliver(world, numbers[0], numbers[1]),
                    _ => panic!("unknown command {line}"),
                }
            }
        }
    }

    fn settings(&mut self, rest: &str) {
        for word in rest.split(' ') {
            let (key, value) = word.split_once('=').unwrap_or((word, "1"));
            let number = value.parse::<i64>().expect("a number");
            match key {
                "voters" => self.settings.voters = number,
                "observers" => self.settings.observers = number,
                "memory" => self.settings.commit_log_count = number as usize,
                "snapshots" => self.settings.force_snapshot_sync = true,
                _ => panic!("unknown setting {word}"),
            }
        }
    }
}

/// `id accepted=n current=n log=1.1-4,2.1`
fn set_disk(world: &mut World, preset: &str) {
    let mut words = preset.split(' ');
    let id: ServerId = words.next().and_then(|id| id.parse().ok()).expect("a server");
    let disk = &mut world.servers.get_mut(&id).expect("a known server").disk;
    for word in words {
        let (key, value) = word.split_once('=').expect("key=value");
        match key {
            "accepted" => disk.accepted = value.parse().expect("an epoch"),
            "current" => disk.current = value.parse().expect("an epoch"),
            "log" => {
                for zxid in value.split(',') {
                    let (epoch, counters) = zxid.split_once('.').expect("epoch.counter");
                    let (first, last) = counters.split_once('-').unwrap_or((counters, counters));
                    let number = |text: &str| text.parse::<u32>().expect("a counter");
                    for counter in number(first)..=number(last) {
                        disk.log.push(proposal(number(epoch), counter));
                    }
                }
            }
            _ => panic!("unknown preset {word}"),
        }
    }
}

fn propose(world: &mut World, count: i64) {
    let leader = world.leader().expect("someone leads");
    (0..count).for_each(|_| world.propose(leader));
}

/// Only this disk works.
fn flush(world: &mut World, id: ServerId) {
    while world.events().contains(&Event::Disk(id)) {
        world.run(Event::Disk(id));
    }
}

/// Only what a leader has sent to one learner arrives.
fn deliver(world: &mut World, from: ServerId, to: ServerId) {
    let links = world.links.iter();
    let links = links.filter(|(_, link)| link.leader == from && link.learner == to);
    let ids: Vec<_> = links.map(|(id, _)| *id).collect();
    for id in ids {
        while world.events().contains(&Event::ToLearner(id)) {
            world.run(Event::ToLearner(id));
        }
    }
}

fn record(script: &str) -> String {
    let mut stage =
        Stage { settings: Settings::default(), world: None, presets: Vec::new(), votes: false };
    for line in script.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        stage.command(line);
    }
    let world = stage.world();
    for server in world.servers.values() {
        let state = match &server.zab {
            Some(zab) => format!("{:?} of epoch {}", zab.state(), zab.epoch()),
            None => "down".to_owned(),
        };
        let last = server.tree.last().map_or(Zxid::ZERO, |last| last.zxid);
        let line = format!(
            "= {} is {state}, serving {}, {} applied up to {}",
            server.id,
            server.serving,
            server.tree.len(),
            common::trace::show(last)
        );
        world.trace.lines.push(line);
    }
    world.trace.lines.join("\n") + "\n"
}

#[test]
fn every_recorded_conversation_happens_again() {
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
        let said = record(script);
        if update {
            let script = script.trim_end();
            std::fs::write(&path, format!("{script}\n----\n{said}")).expect("a writable scenario");
        } else if said != recorded {
            let line = said.lines().zip(recorded.lines()).find(|(new, old)| new != old);
            different.push(format!("{}: first difference {line:?}", path.display()));
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}
