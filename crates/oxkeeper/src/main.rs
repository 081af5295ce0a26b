//! The one binary: server, ensemble, shell, bench, ready, version.

mod bench;
mod cli;
mod ensemble;
mod failure;
mod four_letter;
mod port_owner;
mod ready;
mod server_cmd;
mod servers;
mod shell;
mod time;
mod wire;

fn main() -> std::process::ExitCode {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    if std::path::Path::new(&name).file_name().is_some_and(|name| name == "zkCli.sh") {
        return shell::zk_cli(words.collect());
    }
    cli::main()
}
