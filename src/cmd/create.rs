//! `cowroot create`: an empty cowfile for a base.

use std::io::Write;

use anyhow::Context;

use super::progress::Progress;
use super::size_of;
use crate::cli::Create;
use crate::disk::base::Base;
use crate::disk::growth::Growth;
use crate::engine::format::Shape;
use crate::media::create::{Created, Wishes, create};
use crate::media::text;

/// Make it, and say how large it is and may become.
///
/// # Errors
/// Options that make no sense, or what stands in the way; there is no new cowfile then.
pub fn run(options: &Create) -> anyhow::Result<()> {
    let wishes = wishes(options)?;
    let base = Base::open(&options.base)?;
    let mut progress = None;
    let made = create(&options.cowfile, &base, &wishes, &mut |done, total| {
        let shown = progress.get_or_insert_with(|| Progress::new("writing zeros", total));
        shown.at(done);
    })?;
    if let Some(progress) = progress {
        progress.done();
    }
    std::io::stdout()
        .write_all(described(options, &made).as_bytes())
        .context("printing what was made")
}

fn wishes(options: &Create) -> anyhow::Result<Wishes> {
    Ok(Wishes {
        name: options.name.clone(),
        max_bytes: size_of("--max-size", options.max_size.as_deref())?,
        preallocated_bytes: match options.preallocate.as_deref() {
            // As much as it may ever have.
            Some("all") => Some(u64::MAX),
            some => size_of("--preallocate", some)?,
        },
        device_bytes: size_of("--size", options.size.as_deref())?,
        file_bytes: size_of("--file-size", options.file_size.as_deref())?,
    })
}

fn described(options: &Create, Created { superblock, growth }: &Created) -> String {
    let size = |slots| text::size(Shape::PRODUCT.offset_bytes(slots));
    let max = size(superblock.max_slots);
    let grows = match growth {
        Growth::Never => format!("{max} of the device"),
        _ if superblock.grown_slots == superblock.max_slots => format!("{max}, all there"),
        _ => format!("{} now, grows to {max}", size(superblock.grown_slots)),
    };
    let files = match superblock.file_slots < superblock.max_slots {
        true => format!(", in files of {}", size(superblock.file_slots)),
        false => String::new(),
    };
    format!(
        "{}: a cowfile for '{}': {grows}{files}\n",
        options.cowfile.display(),
        options.base.display()
    )
}
