//! `oxkeeper shell`.
/// Work with znodes
#[derive(clap::Args, Debug)]
pub struct ShellArgs {}
/// Runs the shell.
pub fn run(_args: ShellArgs) -> std::process::ExitCode { std::process::ExitCode::FAILURE }
