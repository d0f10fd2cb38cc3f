//! `make install` and `make deb`, without make: tools/install.sh and tools/deb.sh with a binary that is none. The
//! package is installed and used in a VM: tests/vm, `bare cd deb`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// What the three initramfs tools and sysvinit get in these tests, whatever is in the checkout, and with which mode.
const PIECES: [(&str, u32, &str); 9] = [
    (
        "dracut-module/50cowroot/module-setup.sh",
        0o755,
        "usr/lib/dracut/modules.d/50cowroot/module-setup.sh",
    ),
    (
        "dracut-module/50cowroot/deep/unit",
        0o644,
        "usr/lib/dracut/modules.d/50cowroot/deep/unit",
    ),
    (
        "mkinitcpio-hook/install/cowroot",
        0o644,
        "usr/lib/initcpio/install/cowroot",
    ),
    (
        "mkinitcpio-hook/hooks/cowroot",
        0o644,
        "usr/lib/initcpio/hooks/cowroot",
    ),
    (
        "mkinitcpio-hook/cowroot-generator",
        0o755,
        "usr/lib/initcpio/cowroot-generator",
    ),
    (
        "mkinitcpio-hook/units/cowroot.service",
        0o644,
        "usr/lib/systemd/system/cowroot.service",
    ),
    (
        "initramfs-tools-hook/hooks/cowroot",
        0o755,
        "usr/share/initramfs-tools/hooks/cowroot",
    ),
    (
        "initramfs-tools-hook/scripts/cowroot",
        0o644,
        "usr/share/initramfs-tools/scripts/cowroot",
    ),
    (
        "sysvinit/cowroot-shutdown",
        0o755,
        "etc/init.d/cowroot-shutdown",
    ),
];

/// Some of the others.
const OTHERS: [(u32, &str); 9] = [
    (0o755, "usr/sbin/cowroot"),
    (0o644, "usr/share/man/man8/cowroot.8"),
    (0o644, "usr/share/man/man8/cowroot-attach.8"),
    (0o644, "usr/share/man/man7/cowroot.cmdline.7"),
    (0o644, "usr/share/bash-completion/completions/cowroot"),
    (0o644, "usr/share/zsh/site-functions/_cowroot"),
    (0o644, "usr/share/fish/vendor_completions.d/cowroot.fish"),
    (0o644, "usr/share/doc/cowroot/docs/examples/grub.cfg"),
    (0o644, "usr/lib/systemd/system/cowroot-shutdown.service"),
];

#[test]
fn all_goes_where_it_is_looked_for_and_away_again() {
    let checkout = checkout();
    let (dest, binary) = (tempfile::tempdir().unwrap(), a_binary(&checkout));
    let run = |verb: &str| {
        install(&checkout, verb)
            .env("BINARY", &binary)
            .env("DESTDIR", dest.path())
            .output()
            .unwrap()
    };
    assert_eq!(complaint(&run("install")), "");
    let pieces = PIECES.iter().map(|(_, mode, to)| (*mode, *to));
    for (mode, to) in pieces.chain(OTHERS) {
        let found = fs::metadata(dest.path().join(to)).unwrap_or_else(|e| panic!("{to}: {e}"));
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{to}");
    }
    // The shell that installs has umask 077.
    let folder = fs::metadata(dest.path().join("usr/lib/dracut/modules.d")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o7777, 0o755);

    let foreign = dest.path().join("usr/lib/initcpio/hooks/other");
    fs::write(&foreign, "").unwrap();
    assert_eq!(complaint(&run("uninstall")), "");
    assert_eq!(files(dest.path()), [foreign]);
    assert!(!dest.path().join("usr/share/doc/cowroot").exists());
    assert!(
        !dest
            .path()
            .join("usr/lib/dracut/modules.d/50cowroot")
            .exists()
    );
}

#[test]
fn each_folder_can_be_another_and_parts_be_left_out() {
    let checkout = checkout();
    let dest = tempfile::tempdir().unwrap();
    let done = install(&checkout, "install")
        .env("BINARY", a_binary(&checkout))
        .env("DESTDIR", dest.path())
        .env("PREFIX", "/opt/x")
        .env("SBINDIR", "/usr/bin")
        .env("DRACUTDIR", "/opt/dracut")
        .env("PARTS", "program dracut completions")
        .output()
        .unwrap();
    assert_eq!(complaint(&done), "");
    let found = files(dest.path());
    let mut wanted = [
        "usr/bin/cowroot",
        "opt/dracut/50cowroot/module-setup.sh",
        "opt/dracut/50cowroot/deep/unit",
        "opt/x/share/bash-completion/completions/cowroot",
        "opt/x/share/zsh/site-functions/_cowroot",
        "opt/x/share/fish/vendor_completions.d/cowroot.fish",
    ]
    .map(|file| dest.path().join(file));
    wanted.sort();
    assert_eq!(found, wanted);
}

#[test]
fn nothing_is_built_or_installed_without_a_binary() {
    let checkout = checkout();
    let dest = tempfile::tempdir().unwrap();
    let done = install(&checkout, "install")
        .env("BINARY", "/nowhere/cowroot")
        .env("DESTDIR", dest.path())
        .output()
        .unwrap();
    assert!(!done.status.success());
    let said = complaint(&done);
    assert!(
        said.contains("no binary '/nowhere/cowroot'; run 'make build' first"),
        "{said}"
    );
    assert_eq!(files(dest.path()), [] as [PathBuf; 0]);
}

#[test]
fn two_packages_of_the_same_are_the_same() {
    let checkout = checkout();
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, umask: &str, epoch: Option<&str>| {
        let deb = folder.path().join(name);
        let mut script = shell(umask, "tools/deb.sh");
        script.env_remove("SOURCE_DATE_EPOCH");
        script.envs(epoch.map(|time| ("SOURCE_DATE_EPOCH", time)));
        let done = script
            .arg("make")
            .arg(a_binary(&checkout))
            .arg("x86_64-unknown-linux-gnu")
            .arg(&deb)
            .env("PREFIX", "/somewhere/else")
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{} (`make deps` installs what is missing)",
            complaint(&done)
        );
        fs::read(deb).unwrap()
    };
    let first = make("first", "077", None);
    // A tar's times are in seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(first == make("second", "022", None), "two packages differ");
    assert!(
        first != make("third", "022", Some("1700000001")),
        "the time is in it"
    );

    let field = |name: &str| dpkg_deb(&["-f"], &folder.path().join("first"), name);
    let version = env!("CARGO_PKG_VERSION").replace('-', "~");
    assert_eq!(field("Version").trim(), format!("{version}-1"));
    assert_eq!(field("Recommends").trim(), "dracut | initramfs-tools");
    let scripts = dpkg_deb(&["-I"], &folder.path().join("first"), "triggers");
    assert_eq!(scripts, "activate-noawait update-initramfs\n");
    let inside = dpkg_deb(&["-c"], &folder.path().join("first"), "");
    for file in [
        "-rwxr-xr-x root/root",
        " ./usr/sbin/cowroot\n",
        " ./usr/share/man/man8/cowroot-attach.8.gz\n",
        " ./usr/share/zsh/vendor-completions/_cowroot\n",
        " ./usr/share/doc/cowroot/NOTICES.gz\n",
        " ./usr/share/doc/cowroot/copyright\n",
        " ./etc/init.d/cowroot-shutdown\n",
    ] {
        assert!(inside.contains(file), "{file} is not in\n{inside}");
    }
}

/// Modes come from the checkout. initramfs-tools silently leaves out a hook that it cannot run.
#[test]
fn what_is_run_can_be_run() {
    let hooks = root().join("initramfs-tools-hook/hooks");
    let hooks = if hooks.exists() {
        files(&hooks)
    } else {
        Vec::new()
    };
    let script = root().join("sysvinit/cowroot-shutdown");
    for hook in hooks.into_iter().chain([script]) {
        let mode = fs::metadata(&hook).unwrap().permissions().mode();
        assert!(mode & 0o111 == 0o111, "{}: chmod +x it", hook.display());
    }
}

/// A checkout with the pieces of these tests.
fn checkout() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = [
        "tools",
        "docs",
        "completions",
        "README.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
    ];
    let from = from.map(|name| root().join(name));
    let copied = Command::new("cp")
        .arg("-r")
        .args(from)
        .arg(copy.path())
        .status()
        .unwrap();
    assert!(copied.success());
    for (from, mode, _) in PIECES {
        let path = copy.path().join(from);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, from).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    copy
}

fn a_binary(checkout: &TempDir) -> PathBuf {
    let binary = checkout.path().join("binary");
    fs::write(&binary, "not a program\n").unwrap();
    binary
}

fn install(checkout: &TempDir, verb: &str) -> Command {
    let script = checkout.path().join("tools/install.sh");
    let mut command = shell("077", script.to_str().unwrap());
    command.arg(verb);
    command
}

/// A script of the checkout, run with this umask.
fn shell(umask: &str, script: &str) -> Command {
    let mut command = Command::new("sh");
    let line = format!("umask {umask}; exec sh \"$@\"");
    command
        .args(["-c", &line, "sh", script])
        .current_dir(root());
    command
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn dpkg_deb(option: &[&str], deb: &Path, what: &str) -> String {
    let mut command = Command::new("dpkg-deb");
    command.args(option).arg(deb);
    if !what.is_empty() {
        command.arg(what);
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// All files below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
