//! The one binary: server, ensemble, shell, bench, ready, version.

mod bench;
mod failure;
mod servers;
mod wire;

use clap::Parser;

#[derive(Parser)]
enum Cli {
    Bench(bench::BenchArgs),
}

fn main() -> std::process::ExitCode {
    let Cli::Bench(args) = Cli::parse();
    match bench::run(args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.code.into()
        }
    }
}
