//! The bench's medium: a Debian with the bench's tools, which is also the base that is measured.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::apt::Apt;
use crate::cache::{Cache, Key, sorted};
use crate::command::{command, output, run, step};
use crate::root::{PACKAGES, bed, debian_tar, write_into};

/// What the bench runs, beyond what any Debian of ours has.
const TOOLS: [&str; 6] = [
    "fio",
    "sqlite3",
    "dmsetup",
    "systemd-container",
    "dosfstools",
    "qemu-utils",
];

/// What `dpkg -i` installs: small, and in need of libc only.
const DEBS: [&str; 4] = ["ed", "patch", "time", "tree"];

/// Debian, 1 GiB in a file, and room to write.
const SIZE: &str = "1920M";

/// Small files to read with cold caches.
const SMALL_FILES: usize = 2000;

/// The medium as a file of the cache, with the binaries in it.
pub(super) fn medium(cache: &Cache, apt: &Apt, binary: &Path, bench: &Path) -> Result<PathBuf> {
    let packages = [PACKAGES, &TOOLS].concat();
    let tar = debian_tar(cache, apt, &packages)?;
    let key = Key::new()
        .name_of(&tar)
        .text(&format!("{SIZE} {DEBS:?} {SMALL_FILES} 4"))
        .content(&bed("build"))?
        .content(&bed("root"))?;
    let plain = cache.get("bench-ext4", &key, |part| {
        step("making the bench's root", || plain(cache, apt, &tar, part))
    })?;
    let key = Key::new()
        .name_of(&plain)
        .content(binary)?
        .content(bench)?
        .content(&bed("guest"))?;
    cache.get("bench-root", &key, |part| {
        let copy = [
            "--sparse=always".as_ref(),
            plain.as_os_str(),
            part.as_os_str(),
        ];
        run("cp", copy)?;
        write_into(
            part,
            &[(binary, "/usr/bin/cowroot"), (bench, "/usr/bin/bench")],
        )
    })
}

fn plain(cache: &Cache, apt: &Apt, tar: &Path, part: &Path) -> Result<()> {
    let files = tempfile::tempdir_in(cache.state("tmp")?)?;
    let files = files.path();
    run(
        "cp",
        ["-rT".as_ref(), bed("root").as_os_str(), files.as_os_str()],
    )?;
    let opt = files.join("opt");
    for dir in ["debs", "small"] {
        fs::create_dir_all(opt.join(dir))?;
    }
    for package in DEBS {
        apt.download(package, &opt.join("debs"))?;
    }
    unit(files)?;
    let mut random = fastrand::Rng::with_seed(4);
    for number in 0..SMALL_FILES {
        let mut content = vec![0; 500 + number % 7 * 1000];
        random.fill(&mut content);
        fs::write(opt.join(format!("small/file{number}")), content)?;
    }
    // /run/ram would do too, but the same for all is to read it from the root.
    let tree = opt.join("small");
    let members: Vec<_> = sorted(&tree)?.into_iter().take(1500).collect();
    let mut pack = command("tar");
    pack.arg("-cf")
        .arg(opt.join("tree.tar"))
        .arg("-C")
        .arg(&tree);
    pack.args(members.iter().filter_map(|p| p.file_name()));
    output(&mut pack)?;
    fs::write(opt.join("inserts.sql"), inserts())?;
    let mut big = BufWriter::new(fs::File::create(opt.join("big"))?);
    let mut block = vec![0; 1 << 20];
    for _ in 0..1024 {
        random.fill(&mut block);
        big.write_all(&block)?;
    }
    big.flush()?;
    let args = [tar, files, Path::new(SIZE), part];
    output(command("sh").arg(bed("build/debian-image.sh")).args(args)).map(drop)
}

/// 200 transactions, each synced.
fn inserts() -> String {
    let mut text =
        String::from("create table t (id integer primary key, name text, size integer);\n");
    for number in 0..200 {
        text += &format!(
            "insert into t (name, size) values ('file {number}', {});\n",
            number * 77
        );
    }
    text
}

/// Says that multi-user.target is reached, in a container only, and ends it.
fn unit(files: &Path) -> Result<()> {
    let system = files.join("etc/systemd/system");
    fs::create_dir_all(system.join("multi-user.target.wants"))?;
    fs::write(
        system.join("bench.service"),
        "[Unit]\nConditionVirtualization=container\nDefaultDependencies=no\nAfter=multi-user.target\n\
         [Service]\nType=oneshot\n\
         ExecStart=/bin/sh -c 'echo bench-reached >/dev/console; systemctl poweroff --force --no-block'\n",
    )?;
    std::os::unix::fs::symlink(
        "../bench.service",
        system.join("multi-user.target.wants/bench.service"),
    )?;
    Ok(())
}
