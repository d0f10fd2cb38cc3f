//! The index over a small tree of its own, with depmod's files and without them.

use super::*;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn depmod_tree() -> tempfile::TempDir {
    tree(&[
        ("kernel/fs/ext4.ko.xz", ""),
        ("kernel/fs/jbd2.ko.xz", ""),
        ("kernel/lib/crc16.ko", ""),
        ("kernel/crypto/crc32c_generic.ko.zst", ""),
        ("kernel/usb-storage.ko.gz", ""),
        (
            "modules.dep",
            "kernel/fs/ext4.ko.xz: kernel/fs/jbd2.ko.xz kernel/lib/crc16.ko\n\
             kernel/fs/jbd2.ko.xz: kernel/lib/crc16.ko\n\
             kernel/lib/crc16.ko:\n\
             kernel/crypto/crc32c_generic.ko.zst:\n\
             kernel/usb-storage.ko.gz: kernel/usbcore.ko\n\
             kernel/not-packed.ko:\n",
        ),
        (
            "modules.softdep",
            "# a comment\nsoftdep ext4 pre: crc32c post: other\n",
        ),
        (
            "modules.alias",
            "alias crc32c crc32c_generic\nalias fs-ext4 ext4\n\
             alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage\n\
             alias pci:v00001AF4d* not_packed\n",
        ),
        ("modules.builtin", "kernel/fs/fat/vfat.ko\n"),
    ])
}

#[test]
fn a_module_comes_after_what_it_needs() {
    let folder = depmod_tree();
    let index = Index::read(folder.path()).unwrap();
    let plan = index.plan("ext4");
    let names: Vec<&str> = plan.hard.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["crc16", "jbd2", "ext4"]);
    assert_eq!(plan.soft, ["crc32c"]);
    assert_eq!(index.of_alias("crc32c"), ["crc32c_generic"]);
}

#[test]
fn dashes_and_underscores_are_one_and_absent_files_do_not_count() {
    let folder = depmod_tree();
    let index = Index::read(folder.path()).unwrap();
    assert!(index.has("usb_storage") && index.has(&canonical("usb-storage")));
    assert!(!index.has("not_packed"), "listed by modules.dep only");
    assert!(index.of_alias("pci:v00001AF4d00001001sv").is_empty());
    assert!(index.is_built_in("vfat"));
    assert_eq!(index.of_alias("fs_ext4"), ["ext4"]);
}

#[test]
fn hardware_finds_its_driver() {
    let folder = depmod_tree();
    let index = Index::read(folder.path()).unwrap();
    let stick = "usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00";
    assert_eq!(index.of_alias(stick), ["usb_storage"]);
    assert!(
        index
            .of_alias("usb:v46F4p0001d0000dc00dsc00dp00ic03isc06ip50in00")
            .is_empty()
    );
}

#[test]
fn needs_in_a_circle_end() {
    let folder = tree(&[
        ("a.ko", ""),
        ("b.ko", ""),
        ("modules.dep", "a.ko: b.ko\nb.ko: a.ko\n"),
    ]);
    let index = Index::read(folder.path()).unwrap();
    assert_eq!(index.plan("a").hard.len(), 2);
}

#[test]
fn without_depmod_the_modules_themselves_are_read() {
    let folder = tree(&[("kernel/usb-storage.ko", "no elf"), ("kernel/readme", "")]);
    let index = Index::read(folder.path()).unwrap();
    assert!(index.has("usb_storage"));
    assert_eq!(index.modules.len(), 1);
}

#[test]
fn patterns_match_as_a_shell_would() {
    for (pattern, text, expected) in [
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("abc*", "abcd", true),
        ("a*c*e", "abcde", true),
        ("a*c*f", "abcde", false),
        ("*", "", true),
        ("a?c", "abc", true),
        ("a?", "a", false),
        ("v[0-9A]x", "vAx", true),
        ("v[0-9A]x", "vBx", false),
        ("v[", "v[", false),
        ("d*dc*", "d0dc00dsc", true),
        ("**a", "bba", true),
    ] {
        let found = matches(pattern.as_bytes(), text.as_bytes());
        assert_eq!(found, expected, "{pattern} on {text}");
    }
}

#[test]
fn options_and_blacklists_come_from_the_kernels_words() {
    let options = Options::of(
        "quiet usb-storage.quirks=1:2:u modprobe.blacklist=nouveau,b-c ahci.a=\"1 2\" usb_storage.d -- x.y=1",
    );
    assert_eq!(options.of_module("usb_storage"), "quirks=1:2:u d");
    assert_eq!(options.of_module("ahci"), "a=\"1 2\"");
    assert_eq!(options.of_module("x"), "", "init's own words");
    assert!(options.is_blacklisted("nouveau") && options.is_blacklisted("b_c"));
}

#[test]
fn what_each_device_is_is_found_without_following_links() {
    let folder = tree(&[
        ("pci/0000/modalias", "pci:v1d2\n"),
        ("pci/0000/usb/modalias", "usb:v3\n"),
        ("empty/modalias", "\n"),
    ]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("pci/loop")).unwrap();
    let found: Vec<String> = modaliases(folder.path()).into_iter().collect();
    assert_eq!(found, ["pci:v1d2", "usb:v3"]);
}

/// A trie of one name, as `depmod` tells it.
fn binary(name: &str, value: &str) -> Vec<u8> {
    let head = [0xb007_f457_u32, 0x0002_0001, 0x8000_0000 | 0x4000_0000 | 12];
    let mut bytes: Vec<u8> = head.iter().flat_map(|n| n.to_be_bytes()).collect();
    bytes.extend(name.bytes().chain([0, 0, 0, 0, 1, 0, 0, 0, 0]));
    bytes.extend(value.bytes().chain([0]));
    bytes
}

#[test]
fn depmods_binary_files_do_where_its_texts_are_left_out() {
    let folder = tree(&[
        ("kernel/a.ko.xz", ""),
        ("modules.softdep", "softdep a pre: b\n"),
    ]);
    for (file, name, value) in [
        ("modules.dep.bin", "a", "kernel/a.ko.xz:"),
        ("modules.alias.bin", "usb_x*", "a"),
        ("modules.builtin.bin", "vfat", ""),
    ] {
        std::fs::write(folder.path().join(file), binary(name, value)).unwrap();
    }
    let index = Index::read(folder.path()).unwrap();
    assert_eq!(index.of_alias("usb-x1"), ["a"]);
    assert_eq!(index.plan("a").soft, ["b"]);
    assert!(index.is_built_in("vfat"));

    std::fs::write(folder.path().join("modules.dep.bin"), "not an index").unwrap();
    let error = Index::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("run depmod again"), "{error}");
}
