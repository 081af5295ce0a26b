//! `cargo xtask test`: everything that must pass, on a machine that has Rust and Debian's packages to install from.

use std::process::Command;

use clap::Args;

use crate::stages::Stages;
use crate::tools::{Outcome, cargo, command, oxkeeper};
use crate::{deploy, explore, image, install, sim};

/// Seeds that every run simulates; beside them come fresh ones, which it prints.
const SIM_SEEDS: &str = "0..4000";
/// So long for the fresh ones.
const FRESH_MINUTES: &str = "1";
const DIFFERENTIAL_SEEDS: &str = "0..5";

#[derive(Args)]
pub struct TestArgs {
    /// Run only these stages: install, fmt, clippy, deny, test, build, image, sim, explore, deploy, pod, blackbox, traps,
    /// zkcli, differential, storage-faults
    stages: Vec<String>,
    /// Rounds of the fault campaigns; 50 is the full campaign
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Kinds of server for the black-box suites
    #[arg(long, default_value = "oxkeeper")]
    kinds: String,
}

/// The chore.
pub fn run(args: &TestArgs) -> Outcome {
    let mut stages = Stages::only(&args.stages);
    // Quick answers first: style, then the tests of the code, then the processes.
    stages.run("fmt", || run_cargo(&["fmt", "--all", "--check"]));
    stages.run("clippy", || {
        run_cargo(&["clippy", "-q", "--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    stages.run("deny", deny);
    stages.run("test", || run_cargo(&["test", "-q", "--workspace"]));
    let built = stages.run("build", || run_cargo(&["build", "-q", "--release", "-p", "oxkeeper"]));
    let imaged = stages.run("image", image::run_both);
    stages.run("sim", || {
        simulate(&["--seeds", SIM_SEEDS])?;
        simulate(&["--fresh", "--minutes", FRESH_MINUTES])
    });
    stages.run("explore", || crate::tools::run(&mut explore::command(&["--short".to_owned()])));
    let installed = stages.run("install", install::run);
    if installed {
        stages.run("deploy", deploy::test);
    } else {
        stages.skip("deploy", "needs `install`");
    }
    if imaged && installed {
        pods(&mut stages);
    } else {
        stages.skip("pod", "needs `image` and `install`");
    }
    if built && installed {
        black_box(&mut stages, args);
    } else {
        for name in ["blackbox", "traps", "zkcli", "differential", "storage-faults"] {
            stages.skip(name, "needs `build` and `install`");
        }
    }
    stages.summary()
}

fn simulate(words: &[&str]) -> Outcome {
    let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    crate::tools::run(&mut sim::command(&words))
}

fn black_box(stages: &mut Stages, args: &TestArgs) {
    stages.run("blackbox", || {
        crate::tools::run(pytest("compat/blackbox", args).env("ROUNDS", args.rounds.to_string()))
    });
    stages.run("traps", || crate::tools::run(&mut pytest("compat/traps", args)));
    stages.run("zkcli", || {
        let mut pytest = command(install::python(), &["-m", "pytest", "-q", "compat/zkcli"]);
        crate::tools::run(pytest.env("OXKEEPER_BIN", oxkeeper()))
    });
    stages.run("differential", || {
        for words in [["--scenario", "all"], ["--seeds", DIFFERENTIAL_SEEDS]] {
            // A difference is shown as it was met; making it small takes minutes and is for the desk.
            let module = ["-m", "compat.differential", "--no-shrink", "--target", "oxkeeper"];
            let mut python = command(install::python(), &module);
            crate::tools::run(python.args(words).env("OXKEEPER_BIN", oxkeeper()))?;
        }
        Ok(())
    });
    stages.run("storage-faults", || crate::tools::run(&mut pytest("compat/storage_faults", args)));
}

/// Dependencies: licenses, sources, versions. Advisories need a database from a host of their own (`deny.toml`).
fn deny() -> Outcome {
    let words = ["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
    crate::tools::run(&mut command(install::cargo_deny()?, &words))
}

/// The images in containers, where the machine permits them.
fn pods(stages: &mut Stages) {
    if !stages.wanted("pod") {
        return;
    }
    let mut trial = command(install::python(), &["compat/pod/pods.py"]);
    match trial.output() {
        Ok(trial) if !trial.status.success() => {
            let reason = String::from_utf8_lossy(&trial.stderr).trim().to_owned();
            eprintln!("\n=== pod: SKIPPED: {reason}");
            stages.skip("pod", reason);
        }
        _ => {
            stages.run("pod", || {
                let words = ["-m", "pytest", "-q", "compat/pod"];
                let mut pytest = command(install::python(), &words);
                crate::tools::run(pytest.env("OXKEEPER_IMAGES", image::images()))
            });
        }
    }
}

/// pytest over a folder, against the release build.
fn pytest(folder: &str, args: &TestArgs) -> Command {
    let mut pytest =
        command(install::python(), &["-m", "pytest", "-q", folder, "--kinds", &args.kinds]);
    pytest.env("OXKEEPER_BIN", oxkeeper());
    pytest
}

fn run_cargo(args: &[&str]) -> Outcome {
    crate::tools::run(&mut cargo(args))
}
