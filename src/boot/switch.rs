//! From the initramfs to the new root: its mounts moved, its memory freed, init executed.
//!
//! Everything that can be found missing is looked for before anything is deleted.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::reach::list;
use crate::media::mount;
use crate::media::namespace::is_ram;

/// What moves from the initramfs into the root.
const MOVED: [&str; 4] = ["dev", "proc", "sys", "run"];

/// Where the kernel looks for init, in its order.
const INITS: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];

const SYMLINKS_AT_MOST: u32 = 40;

/// The init that `root` has: `asked` if that is there, else the kernel's list.
///
/// # Errors
/// There is none, with the list of what was tried.
pub fn find_init(root: &Path, asked: Option<&str>) -> anyhow::Result<PathBuf> {
    let tried: Vec<&str> = match asked {
        // As for the kernel: who names an init gets that one or none.
        Some(asked) => vec![asked],
        None => INITS.to_vec(),
    };
    let found = tried.iter().find(|init| is_program(root, Path::new(init)));
    match (found, asked) {
        (Some(init), _) => Ok(PathBuf::from(init)),
        (None, Some(asked)) => {
            bail!("looking for init: the root has no program '{asked}'; correct the word 'init='")
        }
        (None, None) => bail!(
            "looking for init: the root has none of {}; it holds {}: is that a whole system? init= \
             names another",
            tried.join(", "),
            fs::read_dir(root).map_or_else(|error| error.to_string(), list)
        ),
    }
}

/// Check that everything can be moved, making mount points that are missing.
///
/// # Errors
/// A mount point is missing and cannot be made.
pub fn prepare(root: &Path) -> anyhow::Result<()> {
    for name in MOVED {
        let target = root.join(name);
        match fs::symlink_metadata(&target) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => bail!(
                "preparing the root: '/{name}' in it is no directory; the base is not a root file \
                 system"
            ),
            Err(_) => fs::create_dir(&target).with_context(|| {
                format!(
                    "making the missing directory '/{name}' in the root; say rw, or add it to \
                     the base"
                )
            })?,
        }
    }
    Ok(())
}

/// Make `root` the root of this process, PID 1, and become its `init`. Only failure returns.
///
/// # Errors
/// The kernel's refusal. Before the first mount is moved nothing has changed.
pub fn switch_root(root: &Path, init: &Path, args: &[OsString]) -> anyhow::Result<Infallible> {
    for name in MOVED {
        let from = Path::new("/").join(name);
        mount::move_to(&from, &root.join(name))
            .with_context(|| format!("moving '/{name}' into the root"))?;
    }
    std::env::set_current_dir(root).context("entering the root")?;
    free_initramfs();
    mount::move_to(Path::new("."), Path::new("/")).context("moving the root to '/'")?;
    nix::unistd::chroot(".").context("making it the root of PID 1")?;
    std::env::set_current_dir("/").context("entering '/'")?;
    execute(init, args)
}

/// The standard library's exec, for it gives init the default SIGPIPE back.
fn execute(init: &Path, args: &[OsString]) -> anyhow::Result<Infallible> {
    let error = Command::new(init).args(args).exec();
    Err(error).with_context(|| {
        format!(
            "executing '{}'; is it made for this machine, and is its interpreter there?",
            init.display()
        )
    })
}

/// Delete what the initramfs holds, for its RAM. The running binary lives on: it is still mapped.
///
/// Nothing here is worth failing for. Only a RAM file system is touched, and no other one is
/// entered. The directories at the top stay: the daemon's mounts lie on them, in its own namespace,
/// and the kernel would unmount those.
fn free_initramfs() {
    let Ok(top) = fs::symlink_metadata("/") else {
        return;
    };
    if is_ram(Path::new("/")) {
        delete_below(Path::new("/"), top.dev(), 0);
    } else {
        log::debug!("'/' is no RAM file system: nothing to free");
    }
}

fn delete_below(folder: &Path, device: u64, depth: u32) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        if found.dev() != device {
            continue;
        }
        if !found.is_dir() {
            let _ = fs::remove_file(&path);
            continue;
        }
        delete_below(&path, device, depth + 1);
        if depth > 0 {
            let _ = fs::remove_dir(&path);
        }
    }
}

/// Whether `path` is an executable file once `root` is the root: links are followed inside it.
fn is_program(root: &Path, path: &Path) -> bool {
    resolve_inside(root, path)
        .and_then(|path| fs::metadata(path).ok())
        .is_some_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Where `path` leads, as seen by a process whose root is `root`: an absolute link starts there
/// again, and `..` does not lead out.
pub fn resolve_inside(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut reached = PathBuf::new();
    let mut left: Vec<OsString> = names(path);
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            reached.pop();
            continue;
        }
        let next = root.join(&reached).join(&name);
        if !fs::symlink_metadata(&next).ok()?.is_symlink() {
            reached.push(name);
            continue;
        }
        links += 1;
        if links > SYMLINKS_AT_MOST {
            return None;
        }
        let target = fs::read_link(&next).ok()?;
        if target.is_absolute() {
            reached.clear();
        }
        left.extend(names(&target));
    }
    Some(root.join(reached))
}

/// The names of a path, last one first.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev();
    let names = names.filter(|name| matches!(name, Component::Normal(_) | Component::ParentDir));
    names.map(|name| name.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root_with(programs: &[&str], links: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let place = |path: &str| {
            let path = root.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        for program in programs {
            let path = place(program);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (path, target) in links {
            symlink(target, place(path)).unwrap();
        }
        root
    }

    #[test]
    fn init_is_found_where_the_kernel_would_find_it() {
        for (claim, programs, links, asked, expected) in [
            (
                "first",
                vec!["/sbin/init", "/bin/sh"],
                vec![],
                None,
                Ok("/sbin/init"),
            ),
            ("shell last", vec!["/bin/sh"], vec![], None, Ok("/bin/sh")),
            (
                "absolute link inside the root",
                vec!["/lib/systemd/systemd"],
                vec![("/sbin/init", "/lib/systemd/systemd")],
                None,
                Ok("/sbin/init"),
            ),
            (
                "merged /usr",
                vec!["/usr/lib/systemd/systemd"],
                vec![
                    ("/sbin", "usr/sbin"),
                    ("/lib", "usr/lib"),
                    ("/usr/sbin/init", "../../../../lib/systemd/systemd"),
                ],
                None,
                Ok("/sbin/init"),
            ),
            (
                "asked",
                vec!["/bin/bash"],
                vec![],
                Some("/bin/bash"),
                Ok("/bin/bash"),
            ),
            (
                "asked for another",
                vec!["/sbin/init"],
                vec![],
                Some("/x"),
                Err("'/x'"),
            ),
            (
                "none",
                vec![],
                vec![],
                None,
                Err("/sbin/init, /etc/init, /bin/init, /bin/sh"),
            ),
            (
                "circle",
                vec![],
                vec![("/sbin/init", "init")],
                None,
                Err("none of"),
            ),
        ] {
            let root = root_with(&programs, &links);
            let found = find_init(root.path(), asked).map_err(|error| error.to_string());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, Path::new(expected), "{claim}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{claim}: {error}"),
                (found, _) => panic!("{claim}: {found:?}"),
            }
        }
        let root = root_with(&["/sbin/init"], &[]);
        let plain = fs::Permissions::from_mode(0o644);
        fs::set_permissions(root.path().join("sbin/init"), plain).unwrap();
        assert!(find_init(root.path(), None).is_err(), "not executable");
    }

    #[test]
    fn missing_mount_points_are_made_and_wrong_ones_refused() {
        let root = root_with(&[], &[]);
        prepare(root.path()).unwrap();
        for name in MOVED {
            assert!(root.path().join(name).is_dir(), "{name}");
        }
        let root = root_with(&["/dev"], &[]);
        let error = prepare(root.path()).unwrap_err().to_string();
        assert!(error.contains("'/dev'"), "{error}");
    }

    #[test]
    fn freeing_keeps_the_top_directories_and_other_file_systems() {
        let top = root_with(&["/a/b/c", "/d", "/run/x"], &[("/l", "/etc")]);
        let device = fs::metadata(top.path()).unwrap().dev();
        delete_below(top.path(), device + 1, 0);
        assert!(top.path().join("a/b/c").exists(), "another file system");
        delete_below(top.path(), device, 0);
        let mut left: Vec<_> = fs::read_dir(top.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["a", "run"]);
        assert_eq!(fs::read_dir(top.path().join("a")).unwrap().count(), 0);
    }
}
