//! A cowfile's files under a device: writes that go together, borders, syncs and their errors.

use super::*;
use crate::disk::base::Base;
use crate::disk::growth::Growth;
use crate::disk::{Cow, Disk};
use crate::engine::command::{Action, Buffer, Buffers, Command, Failure, Outcome};
use crate::sys::SharedBytes;
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::path::Path;

const ORIGIN: Origin = Origin {
    store: [5; 16],
    incarnation: 1,
};
const FILE_SLOTS: u32 = 8;

/// Staging memory that requests read into, too.
struct Memory(SharedBytes);

impl Buffers for Memory {
    fn bytes(&self, span: Span) -> &[u8] {
        &self.0[span.start..span.start + span.len]
    }
    fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        &mut self.0[span.start..span.start + span.len]
    }
}

fn files(folder: &Path, slots: u32) -> CowFiles {
    let mut files = CowFiles::create(&folder.join("a.cow")).unwrap();
    files.set_file_slots(FILE_SLOTS);
    let grown = files.grow(0, slots, ORIGIN, &mut |file, _| file.sync_all());
    grown.unwrap();
    files
}

fn disk(folder: &Path, slots: u32) -> (Disk, Memory) {
    disk_over(folder, files(folder, slots))
}

fn disk_over(folder: &Path, files: CowFiles) -> (Disk, Memory) {
    let memory = tempfile::tempfile().unwrap();
    memory.set_len(1 << 20).unwrap();
    let memory = SharedBytes::map(&memory, 0, 1 << 20).unwrap();
    let medium = Medium::new(files, ORIGIN, memory.source()).unwrap();
    let base = folder.join("base");
    std::fs::write(&base, [1; 4096]).unwrap();
    let base = Arc::new(Base::open(&base).unwrap());
    let disk = Disk::new(base, Cow::Medium(Box::new(medium))).unwrap();
    (disk, Memory(memory))
}

/// A part of the memory, in chunks.
fn span(first: usize, count: usize) -> Span {
    Span {
        buffer: Buffer::Staging,
        start: first * CHUNK_LEN,
        len: count * CHUNK_LEN,
    }
}

/// Run all of these together: their outcomes, in their order.
fn run(disk: &mut Disk, memory: &mut Memory, actions: &[Action]) -> Vec<Outcome> {
    let mut outcomes = vec![None; actions.len()];
    for (number, &action) in actions.iter().enumerate() {
        let id = CommandId(number);
        outcomes[number] = disk.run(Command { id, action }, memory);
    }
    disk.go();
    while disk.is_waiting() {
        let wake = disk.wake();
        let mut events = [PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut events, 10_000u16), Ok(1), "nobody says a word");
        for (CommandId(number), outcome) in disk.finished(memory) {
            assert!(outcomes[number].replace(outcome).is_none(), "told twice");
        }
    }
    outcomes.into_iter().map(Option::unwrap).collect()
}

fn write(slot: u64, from: Span) -> Action {
    Action::WriteCow {
        offset: slot * CHUNK_BYTES,
        from,
    }
}

fn read(slot: u64, into: Span) -> Action {
    Action::ReadCow {
        offset: slot * CHUNK_BYTES,
        into,
    }
}

#[test]
fn writes_go_where_they_belong_together_or_alone_and_across_files() {
    let folder = tempfile::tempdir().unwrap();
    let (mut disk, mut memory) = disk(folder.path(), 20);
    for chunk in 0..8 {
        let value = u8::try_from(chunk + 10).unwrap();
        memory.bytes_mut(span(chunk, 1)).fill(value);
    }
    // In no order; 5, 6 and 7 go as one, 9 is in the next file and 12 alone.
    let writes = [
        write(9, span(3, 1)),
        write(6, span(1, 2)),
        write(5, span(0, 1)),
        write(12, span(4, 1)),
    ];
    let outcomes = run(&mut disk, &mut memory, &writes);
    assert_eq!(outcomes, [Ok(4096), Ok(8192), Ok(4096), Ok(4096)]);
    assert_eq!(run(&mut disk, &mut memory, &[Action::SyncCow]), [Ok(0)]);
    let outcomes = run(&mut disk, &mut memory, &[read(5, span(20, 8))]);
    assert_eq!(outcomes, [Ok(8 * 4096)]);
    let values: Vec<u8> = (20..28).map(|at| memory.bytes(span(at, 1))[7]).collect();
    // Slot 8 is the second file's header.
    assert_eq!(
        values,
        [10, 11, 12, memory.bytes(span(23, 1))[7], 13, 0, 0, 14]
    );
    // Behind the end, in a file that is not there: that one alone fails.
    let beyond = [write(7, span(0, 1)), write(24, span(0, 1))];
    let outcomes = run(&mut disk, &mut memory, &beyond);
    assert_eq!(outcomes, [Ok(4096), Err(Failure::Io)]);
}

#[test]
fn a_write_that_fails_in_a_group_says_so_for_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut disk, mut memory) = disk(folder.path(), 8);
    // No such memory: the kernel is not even asked, whatever is written with it.
    let outcomes = run(
        &mut disk,
        &mut memory,
        &[
            write(2, span(0, 1)),
            write(3, span(300, 1)),
            write(4, span(1, 1)),
        ],
    );
    assert_eq!(outcomes[1], Err(Failure::Io));
    assert_eq!(outcomes[2], Ok(4096));
}

#[test]
fn a_cowfile_grows_into_files_that_are_then_written() {
    let folder = tempfile::tempdir().unwrap();
    let (mut disk, mut memory) = disk(folder.path(), 8);
    memory.bytes_mut(span(0, 1)).fill(9);
    let grow = Action::GrowCow {
        offset: 8 * CHUNK_BYTES,
        len: 9 * CHUNK_BYTES,
    };
    assert_eq!(run(&mut disk, &mut memory, &[grow]), [Ok(0)]);
    let outcomes = run(&mut disk, &mut memory, &[write(15, span(0, 1))]);
    assert_eq!(outcomes, [Ok(4096)]);
    assert_eq!(run(&mut disk, &mut memory, &[Action::SyncCow]), [Ok(0)]);
    let sibling = std::fs::read(folder.path().join("a.cow.1")).unwrap();
    assert_eq!(sibling.len(), 8 * CHUNK_LEN);
    assert_eq!(sibling[7 * CHUNK_LEN], 9);
    assert!(folder.path().join("a.cow.2").exists());
}

/// FAT's way: what a cut growth has left is made anew, and nothing goes to the file that was there before.
#[test]
fn what_is_written_after_a_growth_is_in_the_file_of_that_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut left = files(folder.path(), 12);
    left.set_growth(Growth::WholeFiles);
    let (mut disk, mut memory) = disk_over(folder.path(), left);
    memory.bytes_mut(span(0, 1)).fill(9);
    let grow = Action::GrowCow {
        offset: 8 * CHUNK_BYTES,
        len: 8 * CHUNK_BYTES,
    };
    assert_eq!(run(&mut disk, &mut memory, &[grow]), [Ok(0)]);
    let outcomes = run(&mut disk, &mut memory, &[write(10, span(0, 1))]);
    assert_eq!(outcomes, [Ok(4096)]);
    assert_eq!(run(&mut disk, &mut memory, &[Action::SyncCow]), [Ok(0)]);
    let sibling = std::fs::read(folder.path().join("a.cow.1")).unwrap();
    assert_eq!(sibling.len(), 8 * CHUNK_LEN);
    assert_eq!(sibling[2 * CHUNK_LEN], 9);
}

#[test]
fn a_sync_that_failed_within_a_growth_fails_the_next_one_too() {
    let turn = Turn::default();
    let files = Files {
        file_bytes: 1 << 20,
        open: RwLock::new(vec![Arc::new(tempfile::tempfile().unwrap())]),
    };
    let touched = || BTreeSet::from([0]);
    assert!(turn.sync(&files, touched()).is_ok());
    // A pipe cannot be synced.
    let (_reader, writer) = std::io::pipe().unwrap();
    let pipe = File::from(std::os::fd::OwnedFd::from(writer));
    assert!(turn.step(&pipe).is_err());
    assert!(
        turn.sync(&files, touched()).is_err(),
        "nobody had heard of it"
    );
    assert!(turn.sync(&files, touched()).is_ok());
}
