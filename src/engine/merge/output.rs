//! A merge into a new image: the base copied, then the session over it. Nothing but the image is written.

use super::compare::Compare;
use super::mutant::{self, Mutant};
use super::{BaseMut, COMPARED, How, Media, Side, Stopped, Watch, copy, sync};
use crate::engine::command::Failure;
use crate::engine::cowfile::recover::{Medium, Recovered};

/// Bytes copied between two syncs of the image.
const STEP_BYTES: u64 = 32 << 20;

/// What is copied.
pub trait Source {
    /// Its size.
    fn size_bytes(&mut self) -> u64;

    /// Read from `offset` on until `into` is full.
    ///
    /// # Errors
    /// It does not read there.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Failure>;

    /// The next stretch from `offset` on that is no hole: its start and end.
    fn next_stretch(&mut self, offset: u64) -> Option<(u64, u64)> {
        let size_bytes = self.size_bytes();
        (offset < size_bytes).then_some((offset, size_bytes))
    }
}

/// Where a new image is made: under another name until it is whole.
pub trait Image: BaseMut {
    /// Take all of the base at once, without copying, where the file system can. Whether it could.
    fn share(&mut self) -> bool {
        false
    }

    /// Take a stretch of the base without that it comes through here, where the file system or its server can. Whether
    /// it could; if not, any part of it may be there.
    fn take(&mut self, _start: u64, _end: u64) -> bool {
        false
    }

    /// Give it its name, durably.
    ///
    /// # Errors
    /// It has none then.
    fn publish(&mut self) -> Result<(), Failure>;
}

/// Make the image. `is_resumed`: something of it may be there; what is right is left.
///
/// # Errors
/// Why it ended early. There is no image of that name then.
pub fn run(
    medium: &mut impl Medium,
    found: &Recovered,
    (source, image): (&mut impl Source, &mut impl Image),
    (how, is_resumed): (How, bool),
    watch: &mut Watch<'_>,
) -> Result<(), Stopped> {
    let size_bytes = source.size_bytes().max(found.superblock.device_bytes);
    let is_shared = !is_resumed && image.share();
    if image.size_bytes() != size_bytes {
        image
            .resize(size_bytes)
            .map_err(Side::Base.failed("growing", size_bytes))?;
    }
    let chunk_shift = found.superblock.shape.chunk_shift;
    let mut told = |bytes: u64| watch(bytes >> chunk_shift);
    if is_shared {
        told(source.size_bytes());
    } else {
        copy_base(source, image, is_resumed, &mut told)?;
    }
    let mut media: Media<'_, _, _, Nothing> = Media {
        cow: medium,
        base: image,
        log: None,
    };
    copy(&mut media, found, (how, is_resumed), watch)?;
    let image = media.base;
    let early = mutant::is(Mutant::NamedBeforeSync);
    if !early {
        sync(image)?;
    }
    image.publish().map_err(Side::Base.failed("naming", 0))
}

/// No undo log.
type Nothing = std::convert::Infallible;

/// All that is no hole, stretch by stretch; each step is synced and compared.
fn copy_base(
    source: &mut impl Source,
    image: &mut impl Image,
    is_resumed: bool,
    told: &mut dyn FnMut(u64),
) -> Result<(), Stopped> {
    let (mut at, size_bytes) = (0, source.size_bytes());
    let mut compare = Compare::default();
    while at < size_bytes {
        let (start, end) = source.next_stretch(at).unwrap_or((size_bytes, size_bytes));
        let end = end.min(start.saturating_add(STEP_BYTES));
        if is_resumed {
            hole(image, &mut compare, (at, start.min(size_bytes)))?;
            image.forget(start, end - start);
        }
        // What is there already is not written again.
        if is_resumed || !image.take(start, end) {
            stretch(
                source,
                image,
                (start, end),
                is_resumed.then_some(&mut compare),
            )?;
        }
        if start < end {
            if !mutant::is(Mutant::NamedBeforeSync) {
                sync(image)?;
            }
            image.forget(start, end - start);
            check(source, image, (start, end), &mut compare)?;
        }
        told(end - at);
        at = end.max(at + 1);
    }
    if is_resumed {
        let end = image.size_bytes();
        hole(image, &mut compare, (size_bytes, end))?;
    }
    Ok(())
}

/// What an earlier attempt may have left where there is to be nothing.
fn hole(
    image: &mut impl Image,
    compare: &mut Compare,
    (start, end): (u64, u64),
) -> Result<(), Stopped> {
    let mut is_wrong = |image| compare.first_difference(image, start, end - start, None);
    if start < end && is_wrong(image)?.is_some() {
        image
            .zero(start, end - start)
            .map_err(Side::Base.failed("writing", start))?;
    }
    Ok(())
}

fn parts((start, end): (u64, u64)) -> impl Iterator<Item = (u64, usize)> {
    (start..end).step_by(COMPARED).map(move |at| {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        (at, left.min(COMPARED))
    })
}

/// Read a stretch of the base, part by part.
fn each_part(
    source: &mut impl Source,
    stretch: (u64, u64),
    mut each: impl FnMut(u64, &[u8]) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let mut bytes = Vec::new();
    for (at, len) in parts(stretch) {
        bytes.resize(len, 0);
        source
            .read(at, &mut bytes)
            .map_err(Side::Source.failed("reading", at))?;
        each(at, &bytes)?;
    }
    Ok(())
}

/// Copy a stretch. With `compare` something of it may be there from an earlier attempt; without, only zeros are.
fn stretch(
    source: &mut impl Source,
    image: &mut impl Image,
    stretch: (u64, u64),
    mut compare: Option<&mut Compare>,
) -> Result<(), Stopped> {
    each_part(source, stretch, |at, bytes| {
        let is_there = match &mut compare {
            Some(compare) => compare
                .first_difference(image, at, bytes.len() as u64, Some(bytes))?
                .is_none(),
            None => bytes.iter().all(|byte| *byte == 0),
        };
        if is_there {
            return Ok(());
        }
        image
            .write(at, bytes)
            .map_err(Side::Base.failed("writing", at))
    })
}

fn check(
    source: &mut impl Source,
    image: &mut impl Image,
    stretch: (u64, u64),
    compare: &mut Compare,
) -> Result<(), Stopped> {
    each_part(source, stretch, |at, bytes| {
        match compare.first_difference(image, at, bytes.len() as u64, Some(bytes))? {
            Some(offset) => Err(Stopped::Differs(offset)),
            None => Ok(()),
        }
    })
}

/// What an undo log may be where there is none.
impl BaseMut for std::convert::Infallible {
    fn size_bytes(&mut self) -> u64 {
        match *self {}
    }

    fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), Failure> {
        match *self {}
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), Failure> {
        match *self {}
    }

    fn zero(&mut self, _: u64, _: u64) -> Result<(), Failure> {
        match *self {}
    }

    fn resize(&mut self, _: u64) -> Result<(), Failure> {
        match *self {}
    }

    fn sync(&mut self) -> Result<(), Failure> {
        match *self {}
    }

    fn forget(&mut self, _: u64, _: u64) {
        match *self {}
    }
}
