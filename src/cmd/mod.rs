//! One file per subcommand: options in, engine or daemon called, result printed.

pub mod attach;
pub mod boot;
pub mod check;
pub mod detach;
pub mod explain;
pub mod info;
pub mod progress;
pub mod serve;
pub mod status;

/// What the program ends with: 1 failed, 2 wrong usage, 3 check found damage.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<crate::boot::cmdline::Problems>() {
        2
    } else if error.is::<check::Damaged>() {
        3
    } else {
        1
    }
}

/// Say so at once where root is needed, instead of whatever the kernel would refuse first.
fn require_root(doing: &str) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("{doing}: only root can; run it with sudo");
    }
    Ok(())
}
