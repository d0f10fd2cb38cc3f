//! The `cowroot` binary: arguments → logger → command → exit code.

use std::process::ExitCode;

use clap::Parser;
use cowroot::cli::{Cli, Command};
use cowroot::kmsg::{self, Reader};
use cowroot::{boot, cmd, disk};

fn main() -> ExitCode {
    // Panics abort, and a daemon's standard error leads nowhere: the log is where somebody looks.
    std::panic::set_hook(Box::new(|panic| {
        log::error!("{panic}; this is a bug in cowroot, please report it")
    }));
    if let Some(first) = boot::First::of_this() {
        // What an init is started with are no options of ours.
        return ended(first.act().map(|never| match never {}));
    }
    let cli = Cli::parse();
    disk::allow_many_files();
    if let Some(reader) = cmd::reader_of_log(&cli.command) {
        kmsg::init(reader, cli.verbose);
    }
    ended(run(&cli.command))
}

/// Whether it went well; if not, and there is no error, whoever asked has been told.
fn run(command: &Command) -> anyhow::Result<bool> {
    match command {
        Command::Serve(serve) => return cmd::serve::run(serve),
        Command::TakeOver(from) => return cmd::upgrade::take_over(from),
        Command::Boot(options) => cmd::boot::run(options),
        Command::Attach(attach) => cmd::attach::run(attach),
        Command::Create(create) => cmd::create::run(create),
        Command::Detach(detach) => cmd::detach::run(detach),
        Command::Upgrade(upgrade) => cmd::upgrade::run(upgrade),
        Command::Status(status) => cmd::status::run(status),
        Command::Info(info) => cmd::info::run(info),
        Command::Check(check) => cmd::check::run(check),
        Command::Session(session) => cmd::session::run(session),
        Command::Diff(diff) => cmd::diff::run(diff),
        Command::Merge(merge) => cmd::merge::run(merge),
        Command::Explain(explain) => cmd::explain::run(explain),
    }?;
    Ok(true)
}

/// 0 done, 1 failed, 2 wrong usage, 3 check found damage.
fn ended(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            kmsg::init(Reader::Stderr, false);
            log::error!("{error:#}");
            ExitCode::from(cmd::exit_code(&error))
        }
    }
}
