//! Merges of real files: sessions that a store wrote, bases with and without holes.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "refused_tests.rs"]
mod refused;
#[path = "resumed_tests.rs"]
mod resumed;
#[path = "undone_tests.rs"]
mod undone;

use super::*;
use crate::engine::command::{Op, Request, RequestId};
use crate::engine::cowfile::layers;
use crate::engine::merge::settle::change;
use crate::engine::units::Extent;
use crate::media::create::{self, create};

const MIB: usize = 1 << 20;

struct Bench {
    folder: tempfile::TempDir,
    /// What the device reads as.
    device: Vec<u8>,
}

impl Bench {
    /// A base of 8 MiB, of which a part is a hole, and an empty cowfile.
    fn new(device_bytes: Option<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut base: Vec<u8> = (0..8 * MIB)
            .map(|at| u8::try_from(at / 4096 % 251).unwrap() + 1)
            .collect();
        base[5 * MIB..6 * MIB].fill(0);
        let bench = Self {
            folder,
            device: base.clone(),
        };
        fs::write(bench.base(), &base).unwrap();
        let wishes = create::Wishes {
            max_bytes: Some(32 << 20),
            device_bytes,
            ..create::Wishes::default()
        };
        let base = Base::open(&bench.base()).unwrap();
        create(&bench.cow(), &base, &wishes, &mut |_, _| {}).unwrap();
        let mut bench = bench;
        if let Some(bytes) = device_bytes {
            bench.device.resize(usize::try_from(bytes).unwrap(), 0);
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn base(&self) -> PathBuf {
        self.path("base.img")
    }

    fn cow(&self) -> PathBuf {
        self.path("some.cow")
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = names
            .map(|name| name.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A session: it is opened as a daemon does, written to, and closed or left.
    fn serve(&mut self, seed: u64, is_closed: bool) {
        let base = Base::open(&self.base()).unwrap();
        let mut opened = cowfile::open(&self.cow(), Mode::Write, Some(&base)).unwrap();
        opened = make_ready(&self.cow(), opened).unwrap();
        let mut random = fastrand::Rng::with_seed(seed);
        let chunks = self.device.len() / 4096;
        let changes: Vec<(Request, Vec<u8>)> = (0..40)
            .map(|_| {
                let first = random.usize(0..chunks);
                let count = random.usize(1..=16.min(chunks - first));
                let op = [Op::Write, Op::Write, Op::WriteZeroes][random.usize(0..3)];
                let mut bytes = vec![0; count * 4096];
                if op == Op::Write {
                    bytes.fill_with(|| random.u8(..));
                }
                self.device[first * 4096..(first + count) * 4096].copy_from_slice(&bytes);
                let extent = Extent {
                    offset: first as u64 * 4096,
                    len: bytes.len() as u64,
                };
                let (id, metadata) = (RequestId(0), false);
                let request = Request {
                    id,
                    op,
                    extent,
                    metadata,
                };
                (request, bytes)
            })
            .collect();
        change(&mut opened.files, opened.found, seed, &changes, is_closed);
    }

    fn seal(&self) {
        let mut opened = cowfile::open(&self.cow(), Mode::Write, None).unwrap();
        opened.settle().unwrap();
        let on = Some(opened.found.superblock.active_layer);
        let planned = layers::planned(&opened.found, layers::Edit::Begin(on)).unwrap();
        layers::write(&mut opened.files, &opened.found, planned).unwrap();
    }

    fn merge(&self, wishes: &Wishes<'_>) -> anyhow::Result<Report> {
        into_base(&self.cow(), &self.base(), wishes, &mut |_, _, _| {})
    }

    fn refused(&self, wishes: &Wishes<'_>) -> String {
        format!("{:#}", self.merge(wishes).unwrap_err())
    }

    /// Base and session, as an attach would see them.
    fn reads(&self) -> Vec<u8> {
        use crate::engine::cowfile::offline::{Content, Offline};
        let base = Base::open(&self.base()).unwrap();
        let opened = cowfile::open(&self.cow(), Mode::Read, Some(&base)).unwrap();
        let Opened {
            mut files, found, ..
        } = opened;
        let mut all = fs::read(self.base()).unwrap();
        all.resize(usize::try_from(found.superblock.device_bytes).unwrap(), 0);
        let mut offline = Offline::new(found);
        let mut bytes = vec![0; 4096];
        for (chunk, place) in all.chunks_mut(4096).enumerate() {
            match offline.read(&mut files, chunk as u64, &mut bytes).unwrap() {
                Content::Absent => {}
                Content::Zero => place.fill(0),
                Content::Read => place.copy_from_slice(&bytes),
            }
        }
        all
    }
}

#[test]
fn a_session_is_in_its_base_and_the_cowfile_goes_on_empty() {
    for is_closed in [true, false] {
        let mut bench = Bench::new(None);
        bench.serve(1, is_closed);
        let report = bench.merge(&Wishes::default()).unwrap();
        assert_eq!(report.sessions, ["'main'"]);
        assert!(report.totals.data_chunks > 100 && report.totals.zero_chunks > 20);
        assert!(
            fs::read(bench.base()).unwrap() == bench.device,
            "the base alone"
        );
        assert!(bench.reads() == bench.device, "and with the session");
        bench.serve(2, true);
        assert!(bench.reads() == bench.device, "what came later");
        bench
            .merge(&Wishes {
                frees: true,
                ..Wishes::default()
            })
            .unwrap();
        assert!(
            fs::read(bench.base()).unwrap() == bench.device,
            "merged again"
        );
        assert_eq!(bench.names(), ["base.img", "some.cow"]);
    }
}

#[test]
fn what_was_merged_is_kept_until_the_next_session_was_used_once() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    bench.merge(&Wishes::default()).unwrap();
    let layers = || {
        let opened = cowfile::open(&bench.cow(), Mode::Read, None).unwrap();
        let names = opened
            .description
            .layers
            .iter()
            .map(|layer| layer.name.clone());
        (
            names.collect::<Vec<_>>(),
            opened.found.superblock.merge.kept.count_ones(),
        )
    };
    let both = vec!["main (merged)".to_owned(), "main".to_owned()];
    assert_eq!(layers(), (both.clone(), 1));
    let served = || {
        let opened = cowfile::open(&bench.cow(), Mode::Write, None).unwrap();
        drop(make_ready(&bench.cow(), opened).unwrap());
        layers()
    };
    assert_eq!(served(), (both, 1), "the first use");
    assert_eq!(served(), (vec!["main".to_owned()], 0), "the second");
    assert!(bench.reads() == bench.device);
}

#[test]
fn the_lower_of_two_sessions_is_merged_and_the_upper_stands_on_the_base() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    let lower = bench.device.clone();
    bench.seal();
    bench.serve(2, true);
    let report = bench
        .merge(&Wishes {
            up_to: Some("0"),
            ..Wishes::default()
        })
        .unwrap();
    assert!(report.is_partial);
    assert!(fs::read(bench.base()).unwrap() == lower, "the base alone");
    assert!(bench.reads() == bench.device, "and with the upper one");
    let unknown = bench.refused(&Wishes {
        up_to: Some("nobody"),
        ..Wishes::default()
    });
    assert!(unknown.contains("no session 'nobody'"), "{unknown}");
}

#[test]
fn a_device_that_is_larger_than_its_base_makes_the_file_longer() {
    let mut bench = Bench::new(Some(12 << 20));
    bench.serve(1, true);
    let report = bench.merge(&Wishes::default()).unwrap();
    assert_eq!(report.base_bytes, (8 << 20, 12 << 20));
    assert!(fs::read(bench.base()).unwrap() == bench.device);
    assert!(bench.reads() == bench.device);
}

#[test]
fn zeros_are_holes_in_the_base() {
    use std::os::unix::fs::MetadataExt;
    let mut bench = Bench::new(None);
    let base = Base::open(&bench.base()).unwrap();
    let opened = cowfile::open(&bench.cow(), Mode::Write, Some(&base)).unwrap();
    let Opened {
        mut files, found, ..
    } = opened;
    drop(base);
    let extent = Extent {
        offset: 0,
        len: 4 << 20,
    };
    let request = Request {
        id: RequestId(0),
        op: Op::Discard,
        extent,
        metadata: false,
    };
    change(&mut files, found, 1, &[(request, Vec::new())], true);
    drop(files);
    bench.device[..4 * MIB].fill(0);
    let before = fs::metadata(bench.base()).unwrap().blocks();
    bench.merge(&Wishes::default()).unwrap();
    assert!(fs::read(bench.base()).unwrap() == bench.device);
    let after = fs::metadata(bench.base()).unwrap().blocks();
    assert!(
        after + 8000 < before,
        "{before} blocks before, {after} after"
    );
}

#[test]
fn an_undo_log_puts_back_every_byte_and_the_session() {
    for (device_bytes, frees) in [(None, false), (Some(12 << 20), false), (None, true)] {
        let mut bench = Bench::new(device_bytes);
        bench.serve(1, true);
        let old = fs::read(bench.base()).unwrap();
        let log = bench.path("undo");
        let wishes = Wishes {
            log: Some(&log),
            frees,
            ..Wishes::default()
        };
        bench.merge(&wishes).unwrap();
        if !frees {
            bench.serve(2, true);
        }
        let undone = undo(&log, None, Whose::Merged, &mut |_, _, _| {}).unwrap();
        assert!(fs::read(bench.base()).unwrap() == old, "every byte");
        assert_eq!(undone.cowfile.is_none(), frees);
        if !frees {
            assert!(bench.reads() == bench.device, "the session is there again");
            bench.merge(&Wishes::default()).unwrap();
            assert!(
                fs::read(bench.base()).unwrap() == bench.device,
                "and merged again"
            );
        }
    }
}

#[test]
fn a_new_image_has_it_all_and_nothing_else_is_changed() {
    for device_bytes in [None, Some(12 << 20)] {
        let mut bench = Bench::new(device_bytes);
        bench.serve(1, false);
        let (base, cow) = (
            fs::read(bench.base()).unwrap(),
            fs::read(bench.cow()).unwrap(),
        );
        let new = bench.path("new.img");
        // Something of an earlier attempt, right and wrong.
        let mut part = bench.device.clone();
        part[3 * MIB..7 * MIB].fill(9);
        part.truncate(7 * MIB);
        for begun in [None, Some(part)] {
            let _ = fs::remove_file(&new);
            if let Some(part) = begun {
                fs::write(bench.path("new.img.cowroot-part"), part).unwrap();
            }
            let wishes = (&Wishes::default(), false);
            output(&bench.cow(), &bench.base(), &new, wishes, &mut |_, _, _| {}).unwrap();
            assert!(fs::read(&new).unwrap() == bench.device);
            assert_eq!(bench.names(), ["base.img", "new.img", "some.cow"]);
        }
        let says = output(
            &bench.cow(),
            &bench.base(),
            &new,
            (&Wishes::default(), false),
            &mut |_, _, _| {},
        );
        let says = format!("{:#}", says.unwrap_err());
        assert!(says.contains("something of that name"), "{says}");
        assert!(fs::read(bench.base()).unwrap() == base && fs::read(bench.cow()).unwrap() == cow);
    }
}

#[test]
fn a_merge_for_the_next_boot_is_asked_for_and_cancelled() {
    let mut bench = Bench::new(None);
    bench.serve(1, false);
    let merge = || {
        let opened = cowfile::open(&bench.cow(), Mode::Read, None).unwrap();
        opened.found.superblock.merge
    };
    assert_eq!(ask(&bench.cow(), None, Some(true)).unwrap(), ["'main'"]);
    assert_eq!((merge().state, merge().frees), (MergeState::Asked, true));
    assert!(bench.reads() == bench.device);
    ask(&bench.cow(), None, None).unwrap();
    assert_eq!(merge().state, MergeState::None);
    // Of a device in use, by name or number as well.
    let opened = cowfile::open(&bench.cow(), Mode::Read, None).unwrap();
    for named in ["main", "0"] {
        let asked = ask_in_use(&opened.found.superblock, Some(named), Some(true));
        assert_eq!(asked.unwrap().2, ["main"]);
    }
    assert!(ask_in_use(&opened.found.superblock, Some("1"), None).is_err());
}

#[test]
fn a_request_goes_with_the_session_it_names() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    let change = |action| {
        let opened = cowfile::open(&bench.cow(), Mode::Write, None).unwrap();
        crate::media::session::change(&bench.cow(), opened, &action).unwrap();
    };
    use crate::media::session::Action;
    change(Action::New(Some("b"), None));
    ask(&bench.cow(), None, Some(true)).unwrap();
    change(Action::RollBack);
    change(Action::New(Some("c"), None));
    assert_eq!(due(&bench.cow(), false).unwrap(), None);
}
