//! Commit pages on their way: packed from what changed, tied together, and sent as there are buffers.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::delta::Fill;
use super::pending::{Io, Job, Purpose};
use crate::engine::command::{Action, Buffers, Failure, Span};
use crate::engine::format::commit::{self, Body, Link, Page, Record};
use crate::engine::format::page::Origin;
use crate::engine::format::{Entry, Shape};

/// Pages of the journal on their way to the medium.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) origin: Origin,
    /// Slot and content, in order.
    pub(super) todo: VecDeque<(u32, Page)>,
    /// What the next page must say of its place.
    pub(super) link: Link,
    /// Where the pages are, by sequence number.
    pub(super) places: Vec<(u64, u32)>,
    /// Commands under way.
    pub(super) outstanding: usize,
    pub(super) syncing: bool,
    pub(super) synced: bool,
}

/// Puts records into pages, as many as fit, and takes a slot for each further page.
pub(super) struct Packer<'a, T> {
    pub(super) room: usize,
    pub(super) epoch: u64,
    pub(super) layer: u8,
    pub(super) pages: VecDeque<(u32, Page)>,
    pub(super) left: usize,
    pub(super) take: T,
    pub(super) taken: &'a mut Vec<u32>,
}

impl<T: FnMut() -> Option<u32>> Packer<'_, T> {
    pub(super) fn slot(&mut self) -> Option<u32> {
        let slot = (self.take)()?;
        self.taken.push(slot);
        Some(slot)
    }

    pub(super) fn begin(&mut self, slot: u32) {
        let page = Page {
            epoch: self.epoch,
            ..Page::default()
        };
        self.pages.push_back((slot, page));
        self.left = self.room;
    }

    /// Make sure that `len` bytes fit. `None`: no slot for a page.
    fn fit(&mut self, len: usize) -> Option<()> {
        if self.left < len {
            let slot = self.slot()?;
            self.begin(slot);
        }
        self.left -= len;
        Some(())
    }

    fn records(&mut self) -> Option<&mut Vec<Record>> {
        self.pages.back_mut().map(|(_, page)| &mut page.records)
    }

    pub(super) fn put(&mut self, chunk: u64, entry: Entry) -> Option<()> {
        let fits = self.left >= size_of::<u32>();
        if let Some(Record {
            first_chunk,
            body: Body::Slots(first, crcs),
            ..
        }) = self.records()?.last_mut()
            && fits
            && *first_chunk + crcs.len() as u64 == chunk
            && u64::from(*first) + crcs.len() as u64 == u64::from(entry.slot)
        {
            crcs.push(entry.crc);
            self.left -= size_of::<u32>();
            return Some(());
        }
        self.push(chunk, Body::Slots(entry.slot, vec![entry.crc]))
    }

    pub(super) fn fill(&mut self, mut first: u64, mut count: u64, fill: Fill) -> Option<()> {
        while count > 0 {
            let part = u32::try_from(count).unwrap_or(u32::MAX);
            let body = match fill {
                Fill::Zero => Body::Zero(part),
                Fill::Unmap => Body::Unmap(part),
            };
            self.push(first, body)?;
            (first, count) = (first + u64::from(part), count - u64::from(part));
        }
        Some(())
    }

    fn push(&mut self, first_chunk: u64, body: Body) -> Option<()> {
        let record = Record {
            layer: self.layer,
            first_chunk,
            body,
        };
        self.fit(record.len())?;
        self.records()?.push(record);
        Some(())
    }

    /// Reserve a slot for what comes after, and tie the pages together.
    pub(super) fn finish(mut self) -> Option<VecDeque<(u32, Page)>> {
        let reserved = self.slot()?;
        let slots: Vec<u32> = self.pages.iter().map(|(slot, _)| *slot).collect();
        let nexts = slots.iter().skip(1).copied().chain([reserved]);
        for ((_, page), next) in self.pages.iter_mut().zip(nexts) {
            page.next = next;
        }
        if let Some((_, first)) = self.pages.front_mut() {
            first.flags |= commit::FIRST;
        }
        if let Some((_, last)) = self.pages.back_mut() {
            last.flags |= commit::LAST;
        }
        Some(self.pages)
    }
}

/// No more pages than this are needed for so many chunks and runs, in the worst case.
pub(super) fn pages_for(shape: Shape, puts: usize, fills: usize) -> usize {
    let room = commit::room(shape.chunk_len());
    let record = size_of::<commit::RawRecord>();
    let bytes = puts * (record + size_of::<u32>()) + fills * record;
    // The end of a page may stay empty.
    bytes.div_ceil(room - record - size_of::<u32>()) + 1
}

impl Pages {
    pub(super) fn new(origin: Origin, link: Link, todo: VecDeque<(u32, Page)>) -> Self {
        let places = (link.seq..)
            .zip(todo.iter().map(|(slot, _)| *slot))
            .collect();
        Self {
            origin,
            todo,
            link,
            places,
            outstanding: 0,
            syncing: false,
            synced: false,
        }
    }

    /// The next page's action: from `span`, where it is put together.
    pub(super) fn next(
        &mut self,
        shape: Shape,
        span: Span,
        buffers: &mut impl Buffers,
    ) -> Option<Action> {
        let (slot, page) = self.todo.pop_front()?;
        debug_assert_eq!(slot, self.link.slot, "pages are linked");
        let crc = commit::encode(buffers.bytes_mut(span), self.origin, self.link, &page);
        self.link = Link {
            slot: page.next,
            seq: self.link.seq + 1,
            previous: crc,
        };
        let offset = shape.offset_bytes(slot);
        Some(Action::WriteCow { offset, from: span })
    }

    pub(super) fn is_written(&self) -> bool {
        self.todo.is_empty() && self.outstanding == 0
    }

    pub(super) fn over(&mut self) {
        self.outstanding -= 1;
        if self.syncing {
            self.synced = true;
        }
    }
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// Send pages on, as far as there are buffers.
    pub(super) fn write_pages(&mut self, job: Job, io: &mut Io<'_, impl Buffers>) -> bool {
        let mut moved = false;
        while let Some(buffer) = self.page_buffer_for_jobs() {
            let (shape, span) = (self.shape, self.page_span(buffer));
            let pages = match job {
                Job::Commit => self.commit.as_mut().map(|commit| &mut commit.pages),
                _ => self.restart.as_mut().map(|restart| &mut restart.pages),
            };
            let Some((pages, action)) = pages
                .and_then(|pages| Some((pages.next(shape, span, io.buffers)?, pages)))
                .map(|(action, pages)| (pages, action))
            else {
                self.page_buffers.push(buffer);
                break;
            };
            pages.outstanding += 1;
            let purpose = Purpose::Job {
                job,
                buffer: Some(buffer),
            };
            self.command(action, purpose, None, io.out);
            moved = true;
        }
        moved
    }

    /// A write or sync of a job has ended.
    pub(super) fn job_step_over(&mut self, job: Job, result: Result<(), Failure>) {
        let failed = result.is_err();
        match job {
            Job::Flip => return self.flip_step_over(result),
            Job::Checkpoint => self.checkpoint_step_over(result),
            Job::Commit => self.commit.iter_mut().for_each(|job| job.pages.over()),
            Job::Restart => self.restart.iter_mut().for_each(|job| job.pages.over()),
        }
        self.trouble |= failed;
    }
}
