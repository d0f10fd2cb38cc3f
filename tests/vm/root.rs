//! The roots the guests run: Debian with systemd, and a tiny one with busybox and a script as init.
//!
//! Debian is an ext4 image, the tiny one any of `rootfs`. The Debian tree is slow to make (a minute, with its download) and changes
//! rarely; our binary and the guest scripts change with every edit. So the tree is an artifact of its
//! own, and the binary and the scripts are written into a copy of its image with debugfs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::apt::{Apt, KEYRING, NEWEST};
use crate::cache::{Cache, Key, sorted};
use crate::command::{command, output, run, step};
use crate::initramfs::static_busybox;
use crate::rootfs::RootFs;

/// What the Debian root has beyond Essential and apt: systemd as its init, a login, and no more.
pub(crate) const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "udev",
    "kmod",
    "e2fsprogs",
    "dbus",
    "login",
    "less",
    "nano-tiny",
];

/// What configures networks, beside systemd.
const NETWORKS: &[&str] = &[
    "network-manager",
    "ifupdown",
    "dhcpcd-base",
    "iproute2",
    "procps",
];

/// The same with sysvinit.
const SYSV_PACKAGES: &[&str] = &[
    "sysvinit-core",
    "initscripts",
    "sysv-rc",
    "kmod",
    "e2fsprogs",
];

/// Documentation is half of a small root, and nobody reads it here.
const EXCLUDED: &[&str] = &[
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
];

/// The Debian root's size: what is free in it is what one can write before it is full.
const DEBIAN_SIZE: &str = "512M";

/// Where the checkout keeps the bed's own files.
pub(crate) fn bed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vm")
        .join(path)
}

/// The Debian root as an ext4 image, with `binary` and the guest scripts in it.
pub(crate) fn debian(cache: &Cache, apt: &Apt, binary: &Path) -> Result<PathBuf> {
    // For checks that run from RAM.
    let busybox = static_busybox()?;
    let programs = [
        (binary, "/usr/bin/cowroot"),
        (&busybox, "/usr/lib/cowtest/busybox"),
    ];
    debian_with(cache, apt, &programs, PACKAGES, "root")
}

/// The same with what else configures networks.
pub(crate) fn debian_networks(cache: &Cache, apt: &Apt, binary: &Path) -> Result<PathBuf> {
    let packages = [PACKAGES, NETWORKS].concat();
    debian_with(
        cache,
        apt,
        &[(binary, "/usr/bin/cowroot")],
        &packages,
        "root",
    )
}

/// The same with sysvinit as its init, and with our script for that.
pub(crate) fn debian_sysv(cache: &Cache, apt: &Apt, binary: &Path) -> Result<PathBuf> {
    let script = bed("../../sysvinit/cowroot-shutdown");
    let programs = [
        (binary, "/usr/bin/cowroot"),
        (&script, "/etc/init.d/cowroot-shutdown"),
    ];
    debian_with(cache, apt, &programs, SYSV_PACKAGES, "root-sysv")
}

/// A Debian of `packages`, with the bed's `files` over it and `programs` in it.
fn debian_with(
    cache: &Cache,
    apt: &Apt,
    programs: &[(&Path, &str)],
    packages: &[&str],
    files: &str,
) -> Result<PathBuf> {
    let tar = debian_tar(cache, apt, packages)?;
    let script = bed("build/debian-image.sh");
    let key = Key::new()
        .name_of(&tar)
        .text(DEBIAN_SIZE)
        .content(&bed("build"))?
        .content(&bed(files))?;
    let plain = cache.get("debian-ext4", &key, |part| {
        step("making the Debian root's file system", || {
            let args = [&tar, &bed(files), Path::new(DEBIAN_SIZE), part];
            output(command("sh").arg(&script).args(args)).map(drop)
        })
    })?;
    let key = Key::new().name_of(&plain).content(&bed("guest"))?;
    let key = programs
        .iter()
        .try_fold(key, |key, (program, to)| key.text(to).content(program))?;
    cache.get("debian-root", &key, |part| {
        run(
            "cp",
            [
                "--sparse=always".as_ref(),
                plain.as_os_str(),
                part.as_os_str(),
            ],
        )?;
        write_into(part, programs)
    })
}

/// A Debian tree of `packages` and all they need, as a tar.
pub(crate) fn debian_tar(cache: &Cache, apt: &Apt, packages: &[&str]) -> Result<PathBuf> {
    let key = Key::new()
        .text(apt.suite)
        .text(&apt.closure(packages)?)
        .text(&EXCLUDED.concat());
    cache.get("debian-tar", &key, |part| {
        step(
            &format!(
                "downloading and unpacking {} with systemd (40 MB)",
                apt.suite
            ),
            || {
                let mut mmdebstrap = command("mmdebstrap");
                mmdebstrap
                    .args([
                        "--quiet",
                        "--variant=apt",
                        "--format=tar",
                        "--architectures=amd64",
                    ])
                    .arg("--aptopt=APT::Install-Recommends \"false\"")
                    .arg(format!("--keyring={KEYRING}"))
                    .arg(format!("--include={}", packages.join(",")))
                    .args(
                        EXCLUDED
                            .iter()
                            .map(|path| format!("--dpkgopt=path-exclude={path}")),
                    )
                    .args(
                        (apt.suite == NEWEST)
                            .then_some("--aptopt=Acquire::Check-Valid-Until \"false\""),
                    )
                    .args([apt.suite.as_ref(), part.as_os_str()])
                    .arg(format!(
                        "deb [signed-by={KEYRING}] {} {} main",
                        apt.mirror, apt.suite
                    ));
                output(&mut mmdebstrap).map(drop)
            },
        )
    })
}

/// The busybox root as an image: `/sbin/init` is a script that runs the check named by `cowtest=`. It
/// has a folder for the modules of the kernel `release`, if one is named.
pub(crate) fn mini(
    cache: &Cache,
    binary: &Path,
    fs: RootFs,
    release: Option<&str>,
) -> Result<PathBuf> {
    let busybox = static_busybox()?;
    let key = Key::new()
        .content(binary)?
        .content(&busybox)?
        .content(&bed("guest"))?
        .text(&format!("4 {fs:?} {release:?}"));
    cache.get("mini-root", &key, |part| {
        let tree = tempfile::tempdir()?;
        mini_tree(tree.path(), &busybox, binary)?;
        if let Some(release) = release {
            std::fs::create_dir_all(tree.path().join("lib/modules").join(release))?;
        }
        fs.make(tree.path(), std::fs::metadata(binary)?.len(), part)
    })
}

fn mini_tree(tree: &Path, busybox: &Path, binary: &Path) -> Result<()> {
    for dir in [
        "bin",
        "sbin",
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "etc",
        "usr/bin",
        "usr/lib/cowtest",
    ] {
        fs::create_dir_all(tree.join(dir))?;
    }
    let put = |from: &Path, to: &str| {
        let mut install = command("install");
        install.args(["-m", "755"]).arg(from).arg(tree.join(to));
        output(&mut install).map(drop)
    };
    put(busybox, "bin/busybox")?;
    for applet in run(&busybox.to_string_lossy(), ["--list"])?.split_whitespace() {
        if applet != "busybox" {
            std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet))?;
        }
    }
    put(&bed("guest/mini-root.sh"), "sbin/init")?;
    put(&bed("guest/mini-root.sh"), "sbin/other-init")?;
    put(binary, "usr/bin/cowroot")?;
    for file in sorted(&bed("guest"))? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        put(&file, &format!("usr/lib/cowtest/{name}"))?;
    }
    // Without it systemd takes no folder for a root.
    fs::write(tree.join("etc/os-release"), "ID=cowtest\n")?;
    // Blocks of known content that a journal can replace: see `dirty`.
    Ok(fs::write(tree.join("etc/journal-witness"), "old\n")?)
}

/// Writes `programs`, the guest scripts and a small package into an ext4 image, as root's files.
pub(crate) fn write_into(image: &Path, programs: &[(&Path, &str)]) -> Result<()> {
    let tree = tempfile::tempdir()?;
    let deb = small_package(tree.path())?;
    let mut script = String::from("mkdir /usr/lib/cowtest\n");
    let mut put = |from: &Path, to: &str| {
        script.push_str(&format!("write {} {to}\n", from.display()));
        script.push_str(&format!(
            "sif {to} mode 0100755\nsif {to} uid 0\nsif {to} gid 0\n"
        ));
    };
    for (program, to) in programs {
        put(program, to);
    }
    put(&deb, "/usr/lib/cowtest/hello.deb");
    for file in sorted(&bed("guest"))? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        put(&file, &format!("/usr/lib/cowtest/{name}"));
    }
    debugfs(image, &script)
}

/// Runs debugfs commands on an image that is mounted nowhere. debugfs exits 0 whatever happens, so what
/// it prints beyond its prompt and its greetings is taken as a failure.
fn debugfs(image: &Path, script: &str) -> Result<()> {
    let commands = tempfile::NamedTempFile::new()?;
    fs::write(commands.path(), script)?;
    let out = command("debugfs")
        .args(["-w", "-f"])
        .arg(commands.path())
        .arg(image)
        .output()?;
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let noise =
        |l: &&str| l.starts_with("debugfs") || l.starts_with("Allocated inode") || l.is_empty();
    let complaints: Vec<&str> = said.lines().filter(|l| !noise(l)).collect();
    anyhow::ensure!(
        complaints.is_empty(),
        "debugfs on '{}': {complaints:?}",
        image.display()
    );
    Ok(())
}

/// A package with one file, for `dpkg -i`.
fn small_package(dir: &Path) -> Result<PathBuf> {
    let tree = dir.join("hello");
    fs::create_dir_all(tree.join("DEBIAN"))?;
    fs::create_dir_all(tree.join("usr/share/cowtest-hello"))?;
    fs::write(
        tree.join("usr/share/cowtest-hello/hello"),
        "hello from the package\n",
    )?;
    let control = "Package: cowtest-hello\nVersion: 1.0\nArchitecture: all\n\
        Maintainer: cowroot <root@localhost>\nDescription: one file, to see dpkg work\n";
    fs::write(tree.join("DEBIAN/control"), control)?;
    let deb = dir.join("hello.deb");
    let args = ["--root-owner-group", "--build"];
    output(command("dpkg-deb").args(args).arg(&tree).arg(&deb))?;
    Ok(deb)
}

/// A copy of the ext4 image `from` whose journal holds a committed write that is not in place yet: who
/// replays it finds "new" in the witness file, who does not finds "old". On a file system without the
/// witness a free block is written.
pub(crate) fn dirty(from: &Path, to: &Path) -> Result<()> {
    run(
        "cp",
        ["--sparse=always".as_ref(), from.as_os_str(), to.as_os_str()],
    )?;
    let found = run(
        "debugfs",
        [
            "-R".as_ref(),
            "blocks /etc/journal-witness".as_ref(),
            from.as_os_str(),
        ],
    )?;
    let free = run(
        "debugfs",
        ["-R".as_ref(), "ffb 1".as_ref(), from.as_os_str()],
    )?;
    let block = found
        .split_whitespace()
        .next_back()
        .or(free.split_whitespace().next_back());
    let block = block.context("finding a block to write through the journal")?;
    let stats = run("dumpe2fs", ["-h".as_ref(), from.as_os_str()])?;
    let size = stats.lines().find_map(|l| l.strip_prefix("Block size:"));
    let size: usize = size.context("finding the block size")?.trim().parse()?;
    let mut content = b"new\n".to_vec();
    content.resize(size, 0);
    let block_file = tempfile::NamedTempFile::new()?;
    fs::write(block_file.path(), content)?;
    debugfs(
        to,
        &format!("jo\njw -b {block} {}\njc\n", block_file.path().display()),
    )?;
    let after = run("dumpe2fs", ["-h".as_ref(), to.as_os_str()])?;
    anyhow::ensure!(
        after.contains("needs_recovery"),
        "the journal of '{}' is still clean",
        to.display()
    );
    Ok(())
}
