//! The `.modinfo` section of a module: what it needs and which hardware it drives.
//!
//! Read only where depmod's files are missing. All offsets come from the file: none is trusted.

/// The strings of the section, `key=value` each.
pub(super) fn strings(elf: &[u8]) -> Vec<(String, String)> {
    let section = section(elf).unwrap_or_default();
    section
        .split(|&byte| byte == 0)
        .filter_map(|text| {
            let (key, value) = std::str::from_utf8(text).ok()?.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Where an ELF header and a section header keep what is read here.
struct Layout {
    table: usize,
    entry_bytes: usize,
    count: usize,
    names: usize,
    section_offset: usize,
    section_size: usize,
    word: usize,
}

const ELF64: Layout = Layout {
    table: 40,
    entry_bytes: 58,
    count: 60,
    names: 62,
    section_offset: 24,
    section_size: 32,
    word: 8,
};

const ELF32: Layout = Layout {
    table: 32,
    entry_bytes: 46,
    count: 48,
    names: 50,
    section_offset: 16,
    section_size: 20,
    word: 4,
};

struct Elf<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
}

impl<'a> Elf<'a> {
    fn number(&self, at: usize, length: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..at.checked_add(length)?)?;
        let push = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        let number = if self.is_big_endian {
            bytes.iter().fold(0, push)
        } else {
            bytes.iter().rev().fold(0, push)
        };
        usize::try_from(number).ok()
    }

    fn part(&self, header: usize, layout: &Layout) -> Option<&'a [u8]> {
        let offset = self.number(header.checked_add(layout.section_offset)?, layout.word)?;
        let size = self.number(header.checked_add(layout.section_size)?, layout.word)?;
        self.bytes.get(offset..offset.checked_add(size)?)
    }
}

fn section(bytes: &[u8]) -> Option<&[u8]> {
    let [0x7f, b'E', b'L', b'F', class, order, ..] = bytes else {
        return None;
    };
    let layout = if *class == 2 { ELF64 } else { ELF32 };
    let elf = Elf {
        bytes,
        is_big_endian: *order == 2,
    };
    let table = elf.number(layout.table, layout.word)?;
    let entry_bytes = elf.number(layout.entry_bytes, 2)?;
    let count = elf.number(layout.count, 2)?;
    let header = |at: usize| table.checked_add(at.checked_mul(entry_bytes)?);
    let names = elf.part(header(elf.number(layout.names, 2)?)?, &layout)?;
    (0..count).find_map(|at| {
        let header = header(at)?;
        let name = names.get(elf.number(header, 4)?..)?;
        name.starts_with(b".modinfo\0").then_some(())?;
        elf.part(header, &layout)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of one section and its name table.
    fn elf(is_64: bool, modinfo: &[u8]) -> Vec<u8> {
        let layout = if is_64 { ELF64 } else { ELF32 };
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', if is_64 { 2 } else { 1 }, 1]);
        let names_at = elf.len();
        elf.extend_from_slice(b"\0.modinfo\0");
        let modinfo_at = elf.len();
        elf.extend_from_slice(modinfo);
        let table = elf.len();
        let put = |elf: &mut Vec<u8>, at: usize, value: usize| {
            elf[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap().to_le_bytes());
        };
        put(&mut elf, layout.table, table);
        put(&mut elf, layout.entry_bytes, 64);
        put(&mut elf, layout.count, 2);
        put(&mut elf, layout.names, 0);
        for (name, at, length) in [(0, names_at, 10), (1, modinfo_at, modinfo.len())] {
            let header = elf.len();
            elf.resize(header + 64, 0);
            put(&mut elf, header, name);
            put(&mut elf, header + layout.section_offset, at);
            put(&mut elf, header + layout.section_size, length);
        }
        elf
    }

    const MODINFO: &[u8] = b"license=GPL\0depends=scsi_mod,cdrom\0alias=scsi:t-0x05*\0";

    #[test]
    fn needs_and_aliases_are_read_on_either_word_size() {
        for is_64 in [true, false] {
            let found = strings(&elf(is_64, MODINFO));
            assert_eq!(found.len(), 3);
            assert!(found.contains(&("depends".into(), "scsi_mod,cdrom".into())));
        }
    }

    #[test]
    fn a_damaged_module_says_nothing_and_never_panics() {
        let mut random = fastrand::Rng::with_seed(5);
        for round in 0..20_000 {
            let mut bytes = elf(round % 2 == 0, MODINFO);
            for _ in 0..random.usize(1..8) {
                let at = random.usize(6..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(0..=bytes.len()));
            let _ = strings(&bytes);
        }
        assert!(strings(b"\x7fELF").is_empty());
        assert!(strings(b"").is_empty());
    }
}
