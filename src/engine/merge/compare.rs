//! What is in a base compared with what is to be there.

use super::{BaseMut, COMPARED, Side, Stopped};

/// Compares, and keeps what it reads into from one time to the next.
#[derive(Debug, Default)]
pub(super) struct Compare {
    there: Vec<u8>,
}

impl Compare {
    /// The first part of a stretch that is not as it is to be: these bytes, or zeros. Where it begins.
    pub(super) fn first_difference(
        &mut self,
        base: &mut impl BaseMut,
        start: u64,
        len: u64,
        wanted: Option<&[u8]>,
    ) -> Result<Option<u64>, Stopped> {
        let mut done = 0;
        while done < len {
            let part = usize::try_from(len - done).map_or(COMPARED, |left| left.min(COMPARED));
            self.there.resize(part, 0);
            let offset = start + done;
            base.read(offset, &mut self.there)
                .map_err(Side::Base.failed("reading", offset))?;
            let from = usize::try_from(done).unwrap_or(usize::MAX);
            let is_as_wanted = match wanted {
                Some(wanted) => wanted.get(from..from.saturating_add(part)) == Some(&self.there),
                None => self.there.iter().all(|byte| *byte == 0),
            };
            if !is_as_wanted {
                return Ok(Some(offset));
            }
            done += part as u64;
        }
        Ok(None)
    }
}
