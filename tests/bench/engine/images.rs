//! The same stores as images of a disk, for an open by a real kernel from a throttled disk (`make bench-open`).
//! Of the chunks an image has those that an open reads, and holes for the others.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cowroot::engine::command::Failure;
use cowroot::engine::cowfile::recover::{Medium, recover};
use cowroot::engine::format::description::{Description, Identity};
use cowroot::engine::identity::{chunks_to_sample, sample};

use crate::Load;
use crate::machine::{Machine, SETTINGS, SHAPE};
use crate::medium::{CHUNK, Ram};
use crate::opens::{PAGES, crashed};

/// UUID of every store here.
pub(crate) const STORE: [u8; 16] = [7; 16];

/// Make `FOLDER/clean`, … , for a base of zeros as large as the device.
pub(crate) fn images(folder: &Path, load: &Load) {
    // A raw partition is all there.
    let mut machine = load.machine_grown_to(load.max_slots());
    for number in 0..load.chunks {
        machine.write_now(load.chunk(number), 1, number + 1);
    }
    machine.close();
    let mut machine = Machine::open(machine.medium, 2);
    write(&mut machine.medium, &folder.join("clean"));
    for (name, shape) in [
        (
            "unclean-full-epochs",
            (13, SETTINGS.staging_chunks as u64 / 4),
        ),
        ("unclean-many-epochs", (PAGES, 16)),
    ] {
        (machine, _) = crashed(machine, load, shape);
        write(&mut machine.medium, &folder.join(name));
        machine = machine.reopen();
        machine.run();
        machine.close();
    }
    println!("device_bytes {}", load.device_bytes());
}

/// What a cowfile of such a load says of itself.
pub(crate) fn description(device_bytes: u64) -> Vec<u8> {
    let zeros = vec![0; CHUNK];
    let chunks = chunks_to_sample(STORE, device_bytes).into_iter();
    let description = Description {
        name: "bench".into(),
        made_s: 0,
        made_by: "bench".into(),
        base: Identity {
            size_bytes: device_bytes,
            samples: chunks.map(|chunk| sample(chunk, &zeros)).collect(),
            ..Identity::default()
        },
        layers: Vec::new(),
        history: Vec::new(),
    };
    description.encode(1 << 20).unwrap()
}

fn write(ram: &mut Ram, path: &Path) {
    let file = File::create(path).unwrap();
    let slots = ram.slots();
    file.set_len(SHAPE.offset_bytes(slots)).unwrap();
    ram.each_page(|slot, page| file.write_all_at(page, SHAPE.offset_bytes(slot)).unwrap());
    let mut copying = Copying { ram, file };
    recover(&mut copying, SHAPE, None).unwrap();
}

/// Writes what it reads.
struct Copying<'a> {
    ram: &'a mut Ram,
    file: File,
}

impl Medium for Copying<'_> {
    fn slots(&mut self) -> u32 {
        self.ram.slots()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        self.ram.read(slot, into)?;
        self.file
            .write_all_at(into, SHAPE.offset_bytes(slot))
            .unwrap();
        Ok(())
    }
}
