//! The memory behind spans: the tags' buffers, scratch chunks, and what a persistent store stages.

use std::ops::DerefMut;

use libublk::helpers::IoBuf;

use crate::engine::command::{Buffer, Buffers, RequestId, Span};
use crate::engine::units::CHUNK_LEN;

/// The tags' buffers, which the kernel copies requests' data to and from, and the engine's memory.
pub(super) struct Memory<S> {
    pub(super) tags: Vec<IoBuf<u8>>,
    pub(super) scratch: Vec<u8>,
    /// A volatile store has none.
    pub(super) staging: Option<S>,
}

impl<S: DerefMut<Target = [u8]>> Memory<S> {
    fn tag(&self, id: RequestId) -> &[u8] {
        let tag = self.tags.get(usize::from(id.0));
        tag.map_or(&[], IoBuf::as_slice)
    }

    fn staging(&self) -> &[u8] {
        self.staging.as_deref().unwrap_or_default()
    }
}

impl<S: DerefMut<Target = [u8]>> Buffers for Memory<S> {
    fn bytes(&self, span: Span) -> &[u8] {
        let memory = match span.buffer {
            Buffer::Request(id) => self.tag(id),
            Buffer::Scratch(_) => &self.scratch,
            Buffer::Staging => self.staging(),
        };
        part(memory.get(range(span)), span)
    }

    fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let memory = match span.buffer {
            Buffer::Request(id) => {
                let tag = self.tags.get_mut(usize::from(id.0));
                tag.map_or(&mut [][..], IoBuf::as_mut_slice)
            }
            Buffer::Scratch(_) => &mut self.scratch,
            Buffer::Staging => self.staging.as_deref_mut().unwrap_or_default(),
        };
        part(memory.get_mut(range(span)), span)
    }

    fn copy(&mut self, from: Span, to: Span) {
        match (from.buffer, to.buffer) {
            // The two that every request of a persistent store takes.
            (Buffer::Request(id), Buffer::Staging) => {
                let tag = self.tags.get(usize::from(id.0));
                let tag = tag.map_or(&[][..], IoBuf::as_slice);
                let staging = self.staging.as_deref_mut().unwrap_or_default();
                part(staging.get_mut(range(to)), to)
                    .copy_from_slice(part(tag.get(range(from)), from));
            }
            (Buffer::Staging, Buffer::Request(id)) => {
                let staging = self.staging.as_deref().unwrap_or_default();
                let tag = self.tags.get_mut(usize::from(id.0));
                let tag = tag.map_or(&mut [][..], IoBuf::as_mut_slice);
                part(tag.get_mut(range(to)), to)
                    .copy_from_slice(part(staging.get(range(from)), from));
            }
            (Buffer::Staging, Buffer::Staging) => {
                let staging = self.staging.as_deref_mut().unwrap_or_default();
                let (from_end, to_end) = (from.start + from.len, to.start + to.len);
                match from_end.max(to_end) <= staging.len() && from.len == to.len {
                    true => staging.copy_within(range(from), to.start),
                    false => out_of_bounds(to),
                }
            }
            _ => {
                let bytes = self.bytes(from).to_vec();
                self.bytes_mut(to).copy_from_slice(&bytes);
            }
        }
    }
}

/// Where a span is in its memory.
fn range(span: Span) -> std::ops::Range<usize> {
    let start = match span.buffer {
        Buffer::Scratch(index) => index * CHUNK_LEN + span.start,
        Buffer::Request(_) | Buffer::Staging => span.start,
    };
    start..start + span.len
}

fn part<T>(found: Option<T>, span: Span) -> T {
    found.unwrap_or_else(|| out_of_bounds(span))
}

#[expect(
    clippy::panic,
    reason = "the engine asks only for memory it was lent; anything else would corrupt data"
)]
fn out_of_bounds(span: Span) -> ! {
    panic!("a span lies within its buffer: {span:?}")
}
