//! The `cowroot` binary: arguments → logger → command → exit code.

use std::process::ExitCode;

use clap::Parser;
use cowroot::cli::Cli;

fn main() -> ExitCode {
    let _cli = Cli::parse();
    ExitCode::SUCCESS
}
