//! Turns: requests that change the same chunk take them, in the order they came.

use std::collections::VecDeque;
use std::ops::Range;

use crate::engine::command::RequestId;

/// Who changes which chunks now, and who waits for that.
#[derive(Debug, Default)]
pub struct Turns {
    claims: Vec<(RequestId, Range<u64>)>,
    waiting: VecDeque<(RequestId, Range<u64>)>,
}

impl Turns {
    /// A request wants to change `chunks` (none, for a read). Whether it may begin now; if not, `end`
    /// will say when.
    pub fn begin(&mut self, id: RequestId, chunks: Range<u64>) -> bool {
        let in_the_way = self
            .claims
            .iter()
            .chain(&self.waiting)
            .any(|(_, other)| overlap(&chunks, other));
        if in_the_way {
            self.waiting.push_back((id, chunks));
        } else if !chunks.is_empty() {
            self.claims.push((id, chunks));
        }
        !in_the_way
    }

    /// A request is over. Those that waited for it, and for nothing else, begin now.
    pub fn end(&mut self, id: RequestId) -> Vec<RequestId> {
        self.claims.retain(|(owner, _)| *owner != id);
        let waiting = std::mem::take(&mut self.waiting);
        waiting
            .into_iter()
            .filter(|(id, chunks)| self.begin(*id, chunks.clone()))
            .map(|(id, _)| id)
            .collect()
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_share_a_chunk_take_turns_in_order() {
        let mut turns = Turns::default();
        let id = RequestId;
        assert!(turns.begin(id(1), 0..4));
        assert!(!turns.begin(id(2), 3..6));
        assert!(!turns.begin(id(3), 5..7), "2 came before it");
        assert!(turns.begin(id(4), 7..9));
        assert!(turns.begin(id(5), 0..0), "reads wait for nobody");
        assert_eq!(turns.end(id(4)), []);
        assert_eq!(turns.end(id(1)), [id(2)]);
        assert_eq!(turns.end(id(2)), [id(3)]);
    }
}
