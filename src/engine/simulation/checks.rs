//! What must hold: when a request is done, and at the end.

use std::collections::BTreeSet;

use super::machine::{SECTOR, affected};
use super::world::{Simulation, UnderWay};
use crate::engine::command::{Failure, Op, Outbox, Request, RequestId};
use crate::engine::units::Extent;

impl Simulation {
    pub(super) fn take(&mut self, out: Outbox) {
        self.commands.extend(out.commands);
        let full = self.limits.capacity - self.stack.usage().used_slots <= self.limits.reserve;
        self.under_way
            .values_mut()
            .for_each(|over| over.met_full |= full);
        for (id, result) in out.done {
            let over = self
                .under_way
                .remove(&id)
                .expect("only what is under way is done");
            self.seen.done += 1;
            self.check_turn(&over);
            let sectors = affected(&self.geometry, &over.request);
            match (over.request.op, result) {
                (Op::Flush, result) => assert_eq!(result, Ok(())),
                (Op::Read, Ok(())) => self.check_read(&over),
                (Op::Read, Err(_)) => {
                    assert!(self.faults_possible(), "a read failed for no reason")
                }
                (_, Ok(())) => self.model[sectors].fill(BTreeSet::from([over.content])),
                (_, Err(failure)) => {
                    assert!(
                        self.faults_possible() || (failure == Failure::NoSpace && over.met_full),
                        "failed for no reason"
                    );
                    match failure {
                        Failure::NoSpace => self.seen.no_space += 1,
                        Failure::Io => self.seen.failed += 1,
                    }
                    for values in &mut self.model[sectors] {
                        values.insert(over.content);
                    }
                }
            }
        }
    }

    /// Requests that change the same sectors end in the order they came.
    fn check_turn(&self, over: &UnderWay) {
        let changed = |request: &Request| match request.op {
            Op::Read | Op::Flush => 0..0,
            _ => affected(&self.geometry, request),
        };
        let mine = changed(&over.request);
        let earlier = self
            .under_way
            .values()
            .filter(|other| other.turn < over.turn);
        for other in earlier.map(|other| changed(&other.request)) {
            assert!(
                mine.end <= other.start || other.end <= mine.start,
                "{mine:?} overtook {other:?}"
            );
        }
    }

    fn faults_possible(&self) -> bool {
        self.faults.failing > 0 || self.faults.nth.is_some()
    }

    fn check_read(&mut self, over: &UnderWay) {
        let first = affected(&self.geometry, &over.request).start;
        let buffer = &self.memory.requests[usize::from(over.request.id.0)];
        for (index, (sector, values)) in (first..).zip(&over.may_see).enumerate() {
            let bytes = &buffer[index * SECTOR..(index + 1) * SECTOR];
            let content = u32::from_le_bytes(bytes[..4].try_into().unwrap());
            assert!(
                bytes.chunks(4).all(|word| word == &bytes[..4]),
                "sector {sector} is torn"
            );
            assert!(
                values.contains(&content),
                "sector {sector} reads {content}, may be {values:?}"
            );
            if !over.disturbed {
                // From now on it must stay what it was seen to be.
                self.model[sector] = BTreeSet::from([content]);
            }
        }
    }

    pub(super) fn drain(&mut self) {
        while !self.commands.is_empty() {
            self.run_one();
        }
        assert!(
            self.under_way.is_empty(),
            "requests that wait for nothing are done"
        );
    }

    pub(super) fn read_everything(&mut self) {
        let sectors = self.model.len() as u64;
        for start in (0..sectors).step_by(50) {
            let extent = Extent {
                offset: start * 512,
                len: (sectors - start).min(50) * 512,
            };
            self.issue(
                Request {
                    id: RequestId(0),
                    op: Op::Read,
                    extent,
                    metadata: false,
                },
                0,
            );
            self.drain();
        }
    }

    pub(super) fn check_nothing_is_left_over(&mut self) {
        let used = self.stack.usage().used_slots;
        assert!(
            self.leaks || self.cow.len() <= used as usize,
            "{} pages for {used} slots",
            self.cow.len()
        );
        // What a new process finds is what this one thinks it has.
        self.reopen();
        self.drain();
        assert_eq!(self.stack.usage().used_slots, used, "slots lost or found");
        // Forgetting everything gives everything back.
        let extent = Extent {
            offset: 0,
            len: self.geometry.device_bytes,
        };
        self.issue(
            Request {
                id: RequestId(1),
                op: Op::Discard,
                extent,
                metadata: false,
            },
            0,
        );
        self.drain();
        assert_eq!(self.stack.usage().used_slots, 0);
        assert!(self.cow.is_empty(), "RAM is given back");
    }
}
