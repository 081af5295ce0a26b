//! The one binary: server, ensemble, shell, bench, journal, version, and the commands of a pod. Under the
//! name of a script of the reference it is that script.

mod bench;
mod cli;
mod ensemble;
mod failure;
mod four_letter;
mod journal;
mod links;
mod pod;
mod port_owner;
mod server_cmd;
mod servers;
mod shell;
mod time;
mod wire;

fn main() -> std::process::ExitCode {
    cli::main()
}
