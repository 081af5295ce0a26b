//! The one binary: server, ensemble, shell, bench, ready, journal, version.

mod bench;
mod cli;
mod ensemble;
mod failure;
mod four_letter;
mod journal;
mod port_owner;
mod ready;
mod server_cmd;
mod servers;
mod shell;
mod time;
mod wire;

fn main() -> std::process::ExitCode {
    cli::main()
}
