//! The `cowroot` binary: arguments → logger → command → exit code.

use std::process::ExitCode;

use clap::Parser;
use cowroot::cli::{Cli, Command};
use cowroot::cmd;
use cowroot::kmsg::{self, Reader};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let reader = match &cli.command {
        Command::Serve(serve) if serve.kmsg => Reader::Kernel,
        _ => Reader::Stderr,
    };
    kmsg::init(reader, cli.verbose);
    match run(&cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether it went well; if not, and there is no error, whoever asked has been told.
fn run(command: &Command) -> anyhow::Result<bool> {
    match command {
        Command::Serve(serve) => return cmd::serve::run(serve),
        Command::Attach(attach) => cmd::attach::run(attach),
        Command::Detach(detach) => cmd::detach::run(detach),
        Command::Status(status) => cmd::status::run(status),
        Command::Boot(_) | Command::Explain(_) => anyhow::bail!("not yet"),
    }?;
    Ok(true)
}
