//! Plain folders compared, and carried over by the system's own tar.

use std::fs::{self, FileTimes, OpenOptions, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::archive::Archive;
use super::compare::{Aspects, Change, Ctime};
use super::deletions::Deletions;
use super::walk::walk;

/// A base, and a copy of it with all its times.
struct Trees(tempfile::TempDir);

impl Trees {
    fn new(fill: impl FnOnce(&Path)) -> Self {
        let trees = Self(tempfile::tempdir().unwrap());
        fs::create_dir(trees.base()).unwrap();
        fill(&trees.base());
        trees.copy("session");
        trees
    }

    fn base(&self) -> std::path::PathBuf {
        self.0.path().join("base")
    }

    fn session(&self) -> std::path::PathBuf {
        self.0.path().join("session")
    }

    fn copy(&self, to: &str) -> std::path::PathBuf {
        let to = self.0.path().join(to);
        let status = Command::new("cp")
            .arg("-a")
            .arg(self.base())
            .arg(&to)
            .status();
        assert!(status.unwrap().success());
        to
    }

    /// Paths and what became of them, as a list tells it. A copy has other times of change, so contents are compared.
    fn told(&self, ctime: Ctime) -> Vec<(String, Change)> {
        let mut told = Vec::new();
        walk(&self.base(), &self.session(), ctime, &mut |found| {
            let kind = found.entry().unwrap().kind;
            if found.change.is_worth_telling(kind) {
                told.push((found.path.display().to_string(), found.change));
            }
            Ok(())
        })
        .unwrap();
        told
    }

    /// The archive and the list of deletions.
    fn packed(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut archive, mut list) = (Archive::new(Vec::new()), Vec::new());
        let mut deletions = Deletions::new(&mut list);
        walk(
            &self.base(),
            &self.session(),
            Ctime::Unknown,
            &mut |found| {
                deletions.take(found)?;
                archive.take(found)
            },
        )
        .unwrap();
        deletions.finish().unwrap();
        (archive.finish().unwrap().0, list)
    }

    /// Unpack both over a copy of the base, by hand. All that the copy is then.
    fn carried_over(&self) -> Vec<String> {
        let (archive, list) = self.packed();
        let copy = self.copy("copy");
        for path in list
            .split(|&byte| byte == 0)
            .filter(|path| !path.is_empty())
        {
            let path = copy.join(std::ffi::OsStr::from_bytes(path));
            let removed = match fs::symlink_metadata(&path).unwrap().is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.unwrap();
        }
        let mut tar = Command::new("tar");
        tar.args([
            "-xpf",
            "-",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "-C",
        ]);
        let mut tar = tar.arg(&copy).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut tar.stdin.take().unwrap(), &archive).unwrap();
        assert!(tar.wait().unwrap().success());
        listed(&copy)
    }
}

/// All that a tree has: paths, types, modes, owners, sizes, times to the nanosecond, link counts and targets, sums.
fn listed(tree: &Path) -> Vec<String> {
    let script = "find . -printf '%p %y %m %U:%G %T@ %n %l\\n' | sort; find . -type f -exec sha256sum {} + | sort; \
                  find . -links +1 -type f -printf '%i %p\\n' | sort | \
                  awk '{ if ($1 in first) print first[$1], $2; else first[$1] = $2 }' | sort";
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(tree)
        .output();
    let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
    // A directory's count is the file system's affair.
    text.lines().map(str::to_owned).collect()
}

fn write(path: impl AsRef<Path>, text: &str) {
    fs::write(path, text).unwrap();
}

fn set_mtime(path: &Path, time: SystemTime) {
    let file = OpenOptions::new().read(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn mtime(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

const MODE: Aspects = Aspects {
    mode: true,
    owner: false,
    mtime: false,
    xattrs: false,
    links: false,
};
const MTIME: Aspects = Aspects {
    mode: false,
    owner: false,
    mtime: true,
    xattrs: false,
    links: false,
};
const LINKS: Aspects = Aspects {
    mode: false,
    owner: false,
    mtime: false,
    xattrs: false,
    links: true,
};

#[test]
fn what_became_of_each_name_is_told_in_order() {
    let trees = Trees::new(|base| {
        for name in [
            "same", "bytes", "longer", "mode", "touched", "gone", "old-name", "a-file",
        ] {
            write(base.join(name), name);
        }
        fs::create_dir_all(base.join("dir/below")).unwrap();
        write(base.join("dir/below/file"), "1");
        fs::create_dir_all(base.join("empty")).unwrap();
        symlink("here", base.join("link")).unwrap();
    });
    let session = trees.session();
    let before = mtime(&session.join("bytes"));
    // As somebody would who wants to hide it.
    write(session.join("bytes"), "BYTES");
    set_mtime(&session.join("bytes"), before);
    write(session.join("longer"), "longer and longer");
    fs::set_permissions(session.join("mode"), Permissions::from_mode(0o600)).unwrap();
    set_mtime(
        &session.join("touched"),
        SystemTime::UNIX_EPOCH + Duration::from_secs(77),
    );
    fs::remove_file(session.join("gone")).unwrap();
    fs::rename(session.join("old-name"), session.join("new-name")).unwrap();
    fs::remove_file(session.join("a-file")).unwrap();
    fs::create_dir(session.join("a-file")).unwrap();
    write(session.join("a-file/in it"), "");
    fs::remove_dir_all(session.join("dir")).unwrap();
    write(session.join("dir"), "");
    fs::remove_file(session.join("link")).unwrap();
    symlink("there", session.join("link")).unwrap();
    fs::set_permissions(session.join("empty"), Permissions::from_mode(0o700)).unwrap();
    let told = trees.told(Ctime::Unknown);
    let expected = [
        ("a-file", Change::Kind),
        ("a-file/in it", Change::Added),
        ("bytes", Change::Content(Aspects::default())),
        ("dir", Change::Kind),
        ("dir/below", Change::Deleted),
        ("dir/below/file", Change::Deleted),
        ("empty", Change::Metadata(MODE)),
        ("gone", Change::Deleted),
        ("link", Change::Content(MTIME)),
        ("longer", Change::Content(MTIME)),
        ("mode", Change::Metadata(MODE)),
        ("new-name", Change::Added),
        ("old-name", Change::Deleted),
        ("touched", Change::Metadata(MTIME)),
    ];
    let expected = expected.map(|(path, change)| (path.to_owned(), change));
    assert_eq!(told, expected);
    assert_eq!(
        trees.told(Ctime::Tells),
        expected,
        "other times of change, and the same contents"
    );
    let (_, list) = trees.packed();
    let list = String::from_utf8(list).unwrap();
    assert_eq!(
        list, "a-file\0dir\0gone\0old-name\0",
        "what is below goes with it"
    );
}

#[test]
fn a_time_of_change_that_tells_spares_reading() {
    // The same tree twice, so nothing has another time of change; and one file's content would not be read.
    let trees = Trees::new(|base| write(base.join("a"), "1"));
    let mut changes = 0;
    walk(&trees.base(), &trees.base(), Ctime::Tells, &mut |found| {
        changes += u32::from(found.change != Change::None);
        Ok(())
    })
    .unwrap();
    assert_eq!(changes, 0);
    for (kind, ctime) in [
        ("ext4", Ctime::Tells),
        ("xfs", Ctime::Tells),
        ("vfat", Ctime::Unknown),
    ] {
        assert_eq!(Ctime::of(kind), ctime);
    }
}

#[test]
fn an_archive_over_the_base_is_the_session() {
    let long = "long-".repeat(45);
    let trees = Trees::new(|base| {
        fs::create_dir_all(base.join("etc/deep")).unwrap();
        for name in ["etc/one", "etc/two", "etc/deep/three", "twin"] {
            write(base.join(name), name);
        }
        fs::hard_link(base.join("twin"), base.join("twin-2")).unwrap();
        fs::create_dir(base.join("folder")).unwrap();
        write(base.join("folder/in it"), "x");
    });
    let session = trees.session();
    // In place, so that its folder is untouched.
    write(session.join("etc/deep/three"), "3");
    fs::set_permissions(session.join("etc/one"), Permissions::from_mode(0o4711)).unwrap();
    fs::remove_file(session.join("etc/two")).unwrap();
    // A new name of an old file, and a new file with two names; one lies before its other name.
    fs::hard_link(session.join("twin"), session.join("another-twin")).unwrap();
    write(session.join("etc/new"), "new");
    fs::hard_link(session.join("etc/new"), session.join("new-2")).unwrap();
    let deep = session.join(&long).join(&long).join(&long);
    fs::create_dir_all(&deep).unwrap();
    write(deep.join("file"), "at the end of a long path");
    symlink(format!("/{long}/{long}"), deep.join("link")).unwrap();
    set_mtime(
        &deep.join("file"),
        SystemTime::UNIX_EPOCH - Duration::new(5, 250_000_000),
    );
    fs::remove_dir_all(session.join("folder")).unwrap();
    symlink("etc", session.join("folder")).unwrap();
    let odd = std::ffi::OsString::from_vec(b"n\xf6t utf-8\n".to_vec());
    fs::write(session.join(odd), "odd").unwrap();
    nix::unistd::mkfifo(&session.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _ = xattr::set(session.join("etc/one"), "user.note", b"line\nand = more\0");
    assert_eq!(trees.carried_over(), listed(&session));
    let note = |tree: &Path| xattr::get(tree.join("etc/one"), "user.note").unwrap_or_default();
    assert_eq!(note(&trees.0.path().join("copy")), note(&session));
}

#[test]
fn a_new_name_of_an_old_file_carries_all_its_names() {
    let trees = Trees::new(|base| write(base.join("old"), "1"));
    fs::hard_link(trees.session().join("old"), trees.session().join("new")).unwrap();
    let told = trees.told(Ctime::Unknown);
    let expected = [("new", Change::Added), ("old", Change::Metadata(LINKS))];
    assert_eq!(
        told,
        expected.map(|(path, change)| (path.to_owned(), change))
    );
    // And one name less is nothing to carry.
    let trees = Trees::new(|base| {
        write(base.join("a"), "1");
        fs::hard_link(base.join("a"), base.join("b")).unwrap();
    });
    fs::remove_file(trees.session().join("b")).unwrap();
    assert_eq!(
        trees.told(Ctime::Unknown),
        [("b".to_owned(), Change::Deleted)]
    );
}

#[test]
fn paths_may_be_longer_than_the_kernel_takes() {
    let trees = Trees::new(|_| {});
    // 5,000 bytes, which no call takes at once; so the half below moves there when it is made.
    let half: std::path::PathBuf = std::iter::repeat_n("d".repeat(250), 10).collect();
    let (above, below) = (trees.session(), trees.base());
    for half in [above.join(&half), below.join(&half)] {
        fs::create_dir_all(half).unwrap();
    }
    write(below.join(&half).join("file"), "deep");
    let name = "d".repeat(250);
    fs::rename(below.join(&name), above.join(&half).join(&name)).unwrap();
    let told = trees.told(Ctime::Tells);
    assert_eq!(told.len(), 21);
    assert!(told.last().unwrap().0.ends_with("/file"));
    let (archive, _) = trees.packed();
    let mut archive = tar::Archive::new(&archive[..]);
    let last = archive.entries().unwrap().last().unwrap().unwrap();
    assert_eq!(last.path_bytes().len(), 20 * 251 + 4);
}
