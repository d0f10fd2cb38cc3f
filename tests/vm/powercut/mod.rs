//! Power cuts: a stick's writes are recorded, cut anywhere, and what is left is opened by a real kernel.
//!
//! 1. A VM makes a cowfile on the stick, mounts the device over it, and works ([`record`]). With each round it
//!    writes a counter to a file on the device, syncs it, then writes the same number to the marker: a
//!    partition of its own. QEMU logs every write and flush of the stick.
//! 2. Cuts of that log are chosen, and of the writes since the last flush some are lost ([`cuts`]).
//! 3. Another VM is shown one image after the other ([`verify`]), and with each: mounts the stick, opens the
//!    cowfile, checks the file system on the device, and finds a counter of at least the marker's.
//!
//! The claims are in guest/powercut-verify.sh.

mod cuts;
mod record;
mod stick;
mod tally;
mod verify;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::cuts::Disk;
use self::record::record;
pub(crate) use self::stick::On;
use self::tally::Tally;
use self::verify::{Before, Verdict, Verifier};
use crate::run::Bed;

/// Half of the cuts are chosen by this alone.
const FIXED: u64 = 5;

/// Images that failed and are kept, for each medium.
const MOST_KEPT: usize = 4;

/// The samples among the VM cases: their names, and what the cowfile is on.
pub(crate) const SAMPLES: [(&str, On); 4] = [
    ("powercut ext4 sample", On::Ext4),
    ("powercut vfat sample", On::Vfat),
    ("powercut exfat sample", On::Exfat),
    ("powercut raw sample", On::Raw),
];

/// How much is done for a medium.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Of the load.
    pub(crate) rounds: usize,
    pub(crate) images: usize,
}

impl Extent {
    pub(crate) const SAMPLE: Self = Self {
        rounds: 24,
        images: 12,
    };
    const FULL: Self = Self {
        rounds: 300,
        images: 500,
    };
}

/// `vm powercut [IMAGES [PART]]`.
pub(crate) fn command(words: &[&str]) -> Result<bool> {
    let images = |text: &str| text.parse().context("how many images");
    match words {
        [] => run(Extent::FULL.images, ""),
        [count] => run(images(count)?, ""),
        [count, part] => run(images(count)?, part),
        _ => bail!("vm powercut [IMAGES [PART]]"),
    }
}

/// `images` of each medium whose name contains `part`. True if all were sound.
fn run(images: usize, part: &str) -> Result<bool> {
    let bed = Bed::open()?;
    let extent = Extent {
        images,
        ..Extent::FULL
    };
    let mut failed = 0;
    for (name, on) in SAMPLES {
        if name.contains(part)
            && let Err(error) = cut(&bed, on, extent)
        {
            failed += 1;
            println!("{error:#}");
        }
    }
    Ok(failed == 0)
}

/// Records, cuts and verifies on one medium. An error lists the images that were not sound.
pub(crate) fn cut(bed: &Bed, on: On, extent: Extent) -> Result<()> {
    let start = Instant::now();
    let dir = bed.runs.join(format!("powercut-{}", on.name()));
    // What an earlier run kept is of another log.
    let _absent = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let recording = record(bed, on, extent.rounds, &dir)?;
    let fresh = fastrand::u64(..);
    let (name, entries) = (on.name(), recording.entries.len());
    println!(
        "powercut {name}: {entries} writes and flushes recorded in {:.0} s; seeds {FIXED} and {fresh}",
        start.elapsed().as_secs_f32()
    );
    let stretches = cuts::stretches(&recording)?;
    let cuts = cuts::choose(&stretches, extent.images, [FIXED, fresh]);
    let mut disk = Disk::new(&recording);
    let mut verifier = Verifier::new(bed, on, &recording.base, &dir);
    let mut tally = Tally::default();
    let start = Instant::now();
    for (number, cut) in cuts.into_iter().enumerate() {
        let (image, during) = disk.image(cut)?;
        // Every other one is repaired first, needed or not: that must do no harm.
        let repaired = on != On::Raw && cut.seed % 2 == 0;
        let verdict = judge(&mut verifier, on, &image, repaired, &mut tally)?;
        tally.count(cut.kind, during, repaired);
        if let Verdict::Failed(why) = verdict {
            let marker = stick::marker(&image);
            tally.fail(format!(
                "image {number}, {cut:?}, {during:?}, marker {marker:?}: {why}"
            ));
            keep(&dir, number, &image, &tally)?;
        }
    }
    verifier.finish()?;
    println!(
        "powercut {name}: {tally}, {:.1} s each",
        start.elapsed().as_secs_f32() / extent.images.max(1) as f32
    );
    match tally.failures() {
        [] => clear(&dir),
        failures => bail!(
            "powercut {name}: {} of {} images failed\n  {}\nlogs and images: {}",
            failures.len(),
            extent.images,
            failures.join("\n  "),
            dir.display()
        ),
    }
}

/// Shows an image; one that fails as it is, may need its file system repaired, and is shown again.
fn judge(
    verifier: &mut Verifier<'_>,
    on: On,
    image: &[u8],
    repaired: bool,
    tally: &mut Tally,
) -> Result<Verdict> {
    if repaired {
        return verifier.verify(image, Before::Fsck);
    }
    let verdict = verifier.verify(image, Before::Nothing)?;
    let Verdict::Failed(why) = &verdict else {
        return Ok(verdict);
    };
    if on == On::Raw {
        return Ok(verdict);
    }
    tally.need(why);
    // Enough of one to see why.
    fs::copy(verifier.log(), verifier.log().with_file_name("needed.log"))?;
    verifier.verify(image, Before::Fsck)
}

/// Keeps an image that failed, and what the VM said of it; the recording is kept too.
fn keep(dir: &Path, number: usize, image: &[u8], tally: &Tally) -> Result<()> {
    if tally.failures().len() <= MOST_KEPT {
        fs::write(dir.join(format!("failed-{number}")), image)?;
        fs::copy(
            dir.join("serial.log"),
            dir.join(format!("failed-{number}.log")),
        )?;
    }
    Ok(())
}

/// Removes what is large: all was well.
fn clear(dir: &Path) -> Result<()> {
    for name in ["stick", "stick.log", "base", "verified", "asked"] {
        fs::remove_file(dir.join(name))?;
    }
    Ok(())
}
