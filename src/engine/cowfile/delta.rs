//! What changed, by chunk: runs that say one thing of many chunks, and single chunks put somewhere.
//!
//! Forgetting a whole disk is one run, however long. `T` is where a chunk was put: a slot with its
//! checksum for what the journal says, a place in the staging memory for what is not committed yet.

use std::collections::BTreeMap;
use std::ops::Range;

/// What a run says of its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Zeros, whatever is below.
    Zero,
    /// What is below shows.
    Unmap,
}

/// What is said of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<T> {
    /// It is part of a run.
    Fill(Fill),
    /// It was put there.
    Put(T),
}

#[derive(Debug, Clone, Copy)]
enum Run<T> {
    Fill(Fill, u64),
    Put(T),
}

/// Changes by chunk.
#[derive(Debug, Clone)]
pub struct Delta<T> {
    /// By first chunk. Runs do not overlap.
    runs: BTreeMap<u64, Run<T>>,
    puts: usize,
    /// Chunks of a tree's lowest page, as a power of two.
    leaf_shift: u8,
    /// At least as many lowest pages are touched as this says: what a checkpoint may have to write.
    leaves: u64,
}

impl<T: Copy> Delta<T> {
    /// Nothing changed. 2 to `leaf_shift` chunks share a tree's lowest page.
    #[must_use]
    pub fn new(leaf_shift: u8) -> Self {
        Self {
            runs: BTreeMap::new(),
            puts: 0,
            leaf_shift,
            leaves: 0,
        }
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many chunks were put somewhere.
    #[must_use]
    pub fn puts(&self) -> usize {
        self.puts
    }

    /// How many runs there are.
    #[must_use]
    pub fn fills(&self) -> usize {
        self.runs.len() - self.puts
    }

    /// No more than so many of a tree's lowest pages are touched.
    #[must_use]
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Bytes of RAM it takes, about: a B-tree's nodes are two thirds full.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.runs.len() * size_of::<(u64, Run<T>)>() * 3 / 2) as u64
    }

    /// What is said of a chunk, if anything.
    #[must_use]
    pub fn get(&self, chunk: u64) -> Option<Change<T>> {
        let (&first, run) = self.runs.range(..=chunk).next_back()?;
        match *run {
            Run::Put(place) if first == chunk => Some(Change::Put(place)),
            Run::Fill(fill, count) if chunk - first < count => Some(Change::Fill(fill)),
            _ => None,
        }
    }

    /// The first chunk from `chunk` on that something is said of.
    #[must_use]
    pub fn next(&self, chunk: u64) -> Option<u64> {
        if self.get(chunk).is_some() {
            return Some(chunk);
        }
        self.runs.range(chunk..).next().map(|(&first, _)| first)
    }

    /// A chunk was put somewhere. Returns where it was, if it was put somewhere before.
    pub fn put(&mut self, chunk: u64, place: T) -> Option<T> {
        let leaf = chunk >> self.leaf_shift << self.leaf_shift;
        let mut counted = false;
        // Mostly nothing is said of a chunk yet, or another place, and one look tells so.
        match self.runs.range_mut(..=chunk).next_back() {
            Some((&first, Run::Put(old))) if first == chunk => {
                return Some(std::mem::replace(old, place));
            }
            Some((&first, Run::Put(_))) => counted = first >= leaf,
            Some((&first, Run::Fill(_, count))) if first + *count > chunk => {
                self.cut(chunk);
                self.cut(chunk + 1);
            }
            _ => {}
        }
        if !counted {
            let mut touched = self.runs.range(leaf..leaf + (1 << self.leaf_shift));
            counted = touched.any(|(_, run)| matches!(run, Run::Put(_)));
        }
        self.leaves += u64::from(!counted);
        self.runs.insert(chunk, Run::Put(place));
        self.puts += 1;
        None
    }

    /// A whole range changed in the same way. `gone` is told of each place that is not needed any more.
    pub fn fill(&mut self, range: Range<u64>, fill: Fill, mut gone: impl FnMut(T)) {
        if range.is_empty() {
            return;
        }
        self.cut(range.start);
        self.cut(range.end);
        let covered: Vec<u64> = self.runs.range(range.clone()).map(|(&at, _)| at).collect();
        for at in covered {
            if let Some(Run::Put(place)) = self.runs.remove(&at) {
                self.puts -= 1;
                gone(place);
            }
        }
        // A page of the trees at either end, or the same one at both.
        let leaf = |chunk: u64| chunk >> self.leaf_shift;
        self.leaves += 1 + u64::from(leaf(range.start) != leaf(range.end - 1));
        let (mut first, mut count) = (range.start, range.end - range.start);
        // Neighbours that say the same become one: a disk that is trimmed piece by piece stays one run.
        if let Some((&before, &Run::Fill(other, length))) = self.runs.range(..first).next_back()
            && other == fill
            && before + length == first
        {
            (first, count) = (before, count + length);
            self.leaves -= u64::from(leaf(range.start) == leaf(range.start - 1));
        }
        if let Some(&Run::Fill(other, length)) = self.runs.get(&range.end)
            && other == fill
        {
            self.runs.remove(&range.end);
            count += length;
        }
        self.runs.insert(first, Run::Fill(fill, count));
    }

    /// Let no run reach across `at`.
    fn cut(&mut self, at: u64) {
        let Some((&first, &Run::Fill(fill, count))) = self.runs.range(..at).next_back() else {
            return;
        };
        if first + count > at {
            self.runs.insert(first, Run::Fill(fill, at - first));
            self.runs.insert(at, Run::Fill(fill, first + count - at));
        }
    }

    /// Everything that is said, in ascending order: first chunk, how many, and what.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, Change<T>)> {
        self.runs.iter().map(|(&first, run)| match *run {
            Run::Fill(fill, count) => (first, count, Change::Fill(fill)),
            Run::Put(place) => (first, 1, Change::Put(place)),
        })
    }

    /// Lay what came later over this. `gone` is told of each place that is not needed any more.
    pub fn absorb(&mut self, later: &Self, mut gone: impl FnMut(T)) {
        for (first, count, change) in later.iter() {
            match change {
                Change::Fill(fill) => self.fill(first..first + count, fill, &mut gone),
                Change::Put(place) => {
                    if let Some(old) = self.put(first, place) {
                        gone(old);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_agrees_with_a_plain_table() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut delta = Delta::new(2);
            let mut model = vec![None; 40];
            let mut places = std::collections::BTreeSet::new();
            for step in 0..120u32 {
                let start = random.usize(0..40);
                if random.bool() {
                    let old = delta.put(start as u64, step);
                    let was = model[start].replace(Change::Put(step));
                    assert_eq!(
                        old,
                        match was {
                            Some(Change::Put(place)) => Some(place),
                            _ => None,
                        }
                    );
                    old.iter().for_each(|old| assert!(places.remove(old)));
                    places.insert(step);
                } else {
                    let end = random.usize(start..=40);
                    let fill = [Fill::Zero, Fill::Unmap][random.usize(0..2)];
                    delta.fill(start as u64..end as u64, fill, |place| {
                        assert!(places.remove(&place), "gone twice");
                    });
                    model[start..end].fill(Some(Change::Fill(fill)));
                }
                let named = model
                    .iter()
                    .filter(|change| matches!(change, Some(Change::Put(_))))
                    .count();
                assert_eq!((delta.puts(), places.len()), (named, named));
                for (chunk, change) in (0..).zip(&model) {
                    assert_eq!(delta.get(chunk), *change, "seed {seed} step {step} {chunk}");
                }
                let touched = model
                    .chunks(4)
                    .filter(|leaf| leaf.iter().any(Option::is_some));
                // A run over whole pages dirties none of them, so only partly covered ones count.
                let partly = touched
                    .filter(|leaf| !leaf.iter().all(|c| *c == leaf[0]))
                    .count();
                assert!(partly as u64 <= delta.leaves() + 2, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_disk_trimmed_piece_by_piece_is_one_run() {
        let mut delta = Delta::<u32>::new(8);
        for piece in 0..1000 {
            delta.fill(piece * 100..piece * 100 + 100, Fill::Zero, |_| {});
        }
        assert_eq!((delta.fills(), delta.iter().count()), (1, 1));
        assert!(delta.leaves() < 1010);
    }
}
