//! What whoever logs in must know of the device, where the root's login looks for it: pam_motd(8) shows what is in
//! /run/motd.d, and agetty(8) what is in /run/issue.d. The root itself is not touched.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// Have `warnings` shown at login; `run` is the machine's /run.
///
/// # Errors
/// What was to be written cannot be.
pub(super) fn tell(run: &Path, warnings: &[String]) -> anyhow::Result<()> {
    let lines: String = warnings
        .iter()
        .map(|warning| format!("cowroot: {warning}\n"))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    for (folder, name) in [("motd.d", "cowroot"), ("issue.d", "cowroot.issue")] {
        let folder = run.join(folder);
        let place = folder.join(name);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&place, &lines))
            .with_context(|| format!("writing '{}'", place.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_to_say_is_where_a_login_looks() {
        let run = tempfile::tempdir().unwrap();
        tell(run.path(), &[]).unwrap();
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0);
        tell(run.path(), &["one".into(), "two".into()]).unwrap();
        for place in ["motd.d/cowroot", "issue.d/cowroot.issue"] {
            let told = fs::read_to_string(run.path().join(place)).unwrap();
            assert_eq!(told, "cowroot: one\ncowroot: two\n");
        }
    }
}
