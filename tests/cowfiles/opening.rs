//! Open an image and read all of it, with a bound on the work: what the tests, and the fuzzer, call.

use cowroot::engine::cowfile::delta::Change;
use cowroot::engine::cowfile::offline::{Content, Offline};
use cowroot::engine::cowfile::recover::{Recovered, recover};
use cowroot::engine::cowfile::trouble::Trouble;
use cowroot::engine::format::description::Description;
use cowroot::engine::format::superblock::DESCRIPTION_VERSION;

use super::image::Image;
use super::machine::{Machine, settings};

/// Chunks that are read of a device that says it is larger.
const MOST_CHUNKS: u64 = 1100;
/// Slots of a cowfile that a store is opened on.
const MOST_SLOTS: u32 = 1 << 16;

/// What one chunk reads as.
pub(crate) type Read = Result<(Content, Vec<u8>), Trouble>;

/// Recover, and read chunks: all, if there are not too many.
pub(crate) fn offline(image: &mut Image) -> Result<(Recovered, Vec<(u64, Read)>), Trouble> {
    let shape = image.shape;
    let found = recover(image, shape, None)?;
    let _ = Description::decode(DESCRIPTION_VERSION, &found.superblock.description);
    let chunks = chunks_to_read(&found);
    let mut offline = Offline::new(found.clone());
    let mut bytes = vec![0; shape.chunk_len()];
    let read = |chunk| {
        let content = offline.read(image, chunk, &mut bytes);
        let content = content.map(|content| match content {
            Content::Read => (content, bytes.clone()),
            Content::Absent | Content::Zero => (content, Vec::new()),
        });
        (chunk, content)
    };
    let all = chunks.into_iter().map(read).collect();
    Ok((found, all))
}

/// Open a store on what was recovered, and read through it; then let it write, if `write`.
pub(crate) fn online(image: &Image, found: Recovered, write: bool) {
    if found.superblock.grown_slots > MOST_SLOTS || image.slots > MOST_SLOTS {
        return;
    }
    let chunks = chunks_to_read(&found);
    let whole = found.superblock.device_bytes / image.shape.chunk_bytes();
    let mut machine = Machine::with(image.clone(), found, settings(4, 64, 99));
    for chunk in chunks.iter().filter(|&&chunk| chunk < whole) {
        let _ = machine.read(*chunk);
    }
    if write {
        for chunk in chunks.iter().filter(|&&chunk| chunk < whole).take(20) {
            let _ = machine.write(*chunk, &[7]);
        }
        let _ = machine.flush();
        machine.close();
    }
}

fn chunks_to_read(found: &Recovered) -> Vec<u64> {
    let all = found.superblock.chunks();
    if all <= MOST_CHUNKS {
        return (0..all).collect();
    }
    // What the journal names, the ends, and some of what is between.
    let named = found.delta.iter().take(100);
    let named = named.map(|(first, count, change)| match change {
        Change::Put(_) => first,
        Change::Fill(_) => first + count - 1,
    });
    let between = (1..90).map(|step| all / 90 * step);
    let first = 0..100;
    named.chain(between).chain(first).chain([all - 1]).collect()
}
