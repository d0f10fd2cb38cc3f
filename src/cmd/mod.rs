//! One file per subcommand: options in, engine or daemon called, result printed.

pub mod attach;
pub mod boot;
pub mod detach;
pub mod explain;
pub mod serve;
pub mod status;

/// Say so at once where root is needed, instead of whatever the kernel would refuse first.
fn require_root(doing: &str) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("{doing}: only root can; run it with sudo");
    }
    Ok(())
}
