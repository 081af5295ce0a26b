//! The names under which this program stands for a script or program of the reference.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use crate::failure::Failure;
use crate::{pod, shell};

/// Runs what `called` (the first word of the command line) stands for; `None`: it is the plain
/// command line.
pub fn run(called: &OsStr, words: &[OsString]) -> Option<ExitCode> {
    let name = Path::new(called).file_name()?.to_str()?;
    let command: fn(&str, Vec<String>) -> ExitCode = match name {
        "start-zookeeper" => |_, words| pod::start::main(&words),
        "zookeeper-ready" | "zkOk.sh" => |name, words| pod::ready::probe(name, &words),
        "zookeeper-metrics" | "zkMetrics.sh" => {
            |name, words| end(pod::metrics::script(name, &words))
        }
        "zkGenConfig.sh" => |_, _| end(pod::gen_config::run()),
        "zkServer.sh" => |_, words| pod::control::main(words),
        "zkCleanup.sh" => |_, words| pod::purge::main(words),
        "zkCli.sh" => |_, words| shell::zk_cli(words),
        _ => return None,
    };
    let texts: Option<Vec<String>> =
        words.iter().map(|word| word.to_str().map(str::to_owned)).collect();
    Some(match texts {
        Some(words) => command(name, words),
        None => end(Err(Failure::new(format!("{name}: the command line is not UTF-8 text")))),
    })
}

fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.code.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_name_is_the_plain_command_line() {
        for name in ["oxkeeper", "/usr/bin/oxkeeper-java", "zkserver.sh", "java", ""] {
            assert!(run(OsStr::new(name), &[]).is_none(), "{name}");
        }
    }

    #[test]
    fn a_link_is_known_by_the_last_part_of_its_path() {
        let words = ["--what".into()];
        assert!(run(OsStr::new("/opt/zookeeper/bin/zookeeper-ready"), &words).is_some());
    }
}
