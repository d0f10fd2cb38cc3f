//! Other people's programs: run one, keep what it said, and say which one failed.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// A command that reads nothing from the terminal.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    // sbin: mke2fs, depmod and debugfs live there, and it is not in a plain user's PATH on Debian.
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

/// Runs `program` with `args`; its standard output, or an error that ends with what it complained about.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = S>,
) -> Result<String> {
    let mut command = command(program);
    command.args(args);
    output(&mut command)
}

/// Runs a prepared command to its end, as [`run`] does.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command
        .output()
        .with_context(|| format!("starting '{name}' (`make deps` installs what is missing)"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let tail: Vec<&str> = said.lines().rev().take(12).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!(
            "running '{name}': {}\n  {command:?}\n  {}",
            out.status,
            tail.join("\n  ")
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Does `work`, saying what and for how long: nothing that takes seconds is silent.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("vm: {what} ...");
    let start = Instant::now();
    let result = work().with_context(|| format!("{what}: failed"))?;
    eprintln!("vm: {what}: {:.0} s", start.elapsed().as_secs_f32());
    Ok(result)
}

/// The sha256 of a file, in hex. coreutils does it at the machine's full speed; no crate is needed.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let out = run("sha256sum", [path])?;
    let sum = out.split_whitespace().next().unwrap_or_default();
    Ok(sum.trim_start_matches('\\').to_owned())
}

/// Runs `program` with `input` on its standard input.
pub(crate) fn run_with_input<S: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = S>,
    input: &str,
) -> Result<()> {
    let mut child = command(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting '{program}' (`make deps` installs what is missing)"))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())?;
    }
    let out = child.wait_with_output()?;
    if !out.status.success() {
        bail!(
            "running '{program}': {}\n  {}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(())
}
