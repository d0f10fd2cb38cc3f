//! One module file into the kernel, packed or not.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module, init_module};

use super::LoadError;

/// MODULE_INIT_COMPRESSED_FILE (Linux 5.17): the kernel unpacks, if it was built for that packing.
const COMPRESSED_FILE: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);

/// The endings of module files, packed ones too.
pub(super) const ENDINGS: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// Load the module in `path` with `options`. That it is loaded already is success.
pub(super) fn load(path: &Path, options: &str) -> Result<(), LoadError> {
    match load_once(path, options) {
        // Another thread loaded it at the same time, and failed: that one has heard why.
        Err(LoadError::Refused { errno, .. }) if errno == libc::EBUSY => load_once(path, options),
        result => result,
    }
}

fn load_once(path: &Path, options: &str) -> Result<(), LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let options = CString::new(options).unwrap_or_default();
    let is_packed = path.extension().is_some_and(|ending| ending != "ko");
    let result = match (is_packed, is_unpacked_by_kernel(path)) {
        (true, false) => Err(Errno::EOPNOTSUPP),
        (_, kernel_unpacks) => {
            let file = File::open(path).map_err(unreadable)?;
            let flags = if kernel_unpacks {
                COMPRESSED_FILE
            } else {
                ModuleInitFlags::empty()
            };
            finit_module(&file, &options, flags)
        }
    };
    let result = match result {
        Err(errno) if is_packed && may_be_about_packing(errno) => {
            let module = read(path).map_err(unreadable)?;
            init_module(&module, &options)
        }
        result => result,
    };
    match result {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(LoadError::Refused {
            path: path.to_owned(),
            errno: errno as i32,
        }),
    }
}

/// Whether the kernel says that it unpacks this kind of file. Trying one that it does not know would
/// leave an error in its log.
fn is_unpacked_by_kernel(path: &Path) -> bool {
    let known = std::fs::read_to_string("/sys/module/compression").unwrap_or_default();
    let ending = match path.extension().and_then(|ending| ending.to_str()) {
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        Some(ending) => ending,
        None => return false,
    };
    known.trim() == ending
}

/// Whether the kernel may have failed to unpack, rather than disliked what was inside.
fn may_be_about_packing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOEXEC | Errno::ENOSYS | Errno::ENOMEM
    )
}

/// The ELF file in `path`, unpacked.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut packed = BufReader::new(File::open(path)?);
    let mut module = Vec::new();
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => lzma_rs::xz_decompress(&mut packed, &mut module)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{error:?}")))?,
        Some("zst") => {
            ruzstd::decoding::StreamingDecoder::new(packed)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?
                .read_to_end(&mut module)?;
        }
        Some("gz") => {
            flate2::bufread::MultiGzDecoder::new(packed).read_to_end(&mut module)?;
        }
        _ => {
            packed.read_to_end(&mut module)?;
        }
    }
    Ok(module)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn every_packing_gives_back_the_module() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..200_000u32)
            .map(|at| u8::try_from(at.wrapping_mul(at) % 251).unwrap())
            .collect();
        let plain = folder.path().join("m.ko");
        std::fs::write(&plain, &content).unwrap();
        assert_eq!(read(&plain).unwrap(), content);
        for (tool, package, options, ending) in [
            ("xz", "xz-utils", vec!["-k", "--check=crc32"], "xz"),
            ("zstd", "zstd", vec!["-q", "-k", "-19"], "zst"),
            ("gzip", "gzip", vec!["-k"], "gz"),
        ] {
            let status = Command::new(tool).args(options).arg(&plain).status();
            let status = status.unwrap_or_else(|error| {
                panic!("{tool}: {error}; install it: apt-get install {package}")
            });
            assert!(status.success());
            let packed = plain.with_extension(format!("ko.{ending}"));
            assert!(read(&packed).unwrap() == content, "{ending}");
            std::fs::write(&packed, &content[..100]).unwrap();
            assert!(read(&packed).is_err(), "{ending}: not what its name says");
        }
    }
}
