//! Where log lines go: the kernel's log inside an initramfs and a daemon, standard error elsewhere.
//!
//! simplelog formats; the writer here turns each line into one `write` with the prefix its reader
//! expects. /dev/kmsg makes one record of each write, so a line must never come in pieces.

use std::fs::OpenOptions;
use std::io::{self, Write};

use log::LevelFilter;
use simplelog::{ConfigBuilder, WriteLogger};

/// Who reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A person at a terminal, or whoever collects standard error.
    Stderr,
    /// The kernel's log, and through it the console and the journal.
    Kernel,
}

/// Start logging. Calling it twice keeps the first choice.
///
/// Falls back to standard error where /dev/kmsg cannot be opened: a message in the wrong place is
/// better than none.
pub fn init(reader: Reader, verbose: bool) {
    let level = if verbose {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    };
    // libublk and sys-mount say at info what only their authors want to know.
    let config = ConfigBuilder::new()
        .set_time_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .add_filter_allow_str("cowroot")
        .build();
    let kmsg = OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        .ok()
        .filter(|_| reader == Reader::Kernel);
    let _ = match kmsg {
        Some(file) => WriteLogger::init(level, config, LineWriter::new(Reader::Kernel, file)),
        None => WriteLogger::init(level, config, LineWriter::new(Reader::Stderr, io::stderr())),
    };
}

/// Collects a line, then writes it at once with its prefix.
struct LineWriter<W> {
    reader: Reader,
    inner: W,
    line: Vec<u8>,
    severity: u8,
}

/// Severities and facility of syslog(3); the kernel takes `facility * 8 + severity` in angle brackets.
const DAEMON_FACILITY: u8 = 3 << 3;
const LEVELS: [(&str, u8, &str); 5] = [
    ("[ERROR] ", 3, "error: "),
    ("[WARN] ", 4, "warning: "),
    ("[INFO] ", 6, ""),
    ("[DEBUG] ", 7, ""),
    ("[TRACE] ", 7, ""),
];

/// The kernel refuses a record of more than 992 bytes with its prefix (1024 since 6.x).
const RECORD_BYTES: usize = 900;

impl<W: Write> LineWriter<W> {
    fn new(reader: Reader, inner: W) -> Self {
        Self {
            reader,
            inner,
            line: Vec::new(),
            severity: 6,
        }
    }

    fn emit(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let known = LEVELS
            .iter()
            .find_map(|(mark, severity, word)| Some((line.strip_prefix(mark)?, *severity, *word)));
        // A message of several lines carries its mark on the first.
        let (text, severity, word) = known.unwrap_or((&line, self.severity, ""));
        self.severity = severity;
        let most = match self.reader {
            Reader::Kernel => RECORD_BYTES,
            Reader::Stderr => usize::MAX,
        };
        for text in pieces(text, most) {
            let record = match self.reader {
                Reader::Kernel => format!(
                    "<{}>cowroot[{}]: {text}\n",
                    DAEMON_FACILITY + severity,
                    std::process::id()
                ),
                Reader::Stderr => format!("cowroot: {word}{text}\n"),
            };
            // Nobody is left to tell when the log itself cannot be written.
            let _ = self.inner.write_all(record.as_bytes());
        }
    }
}

/// `text` in pieces of at most `most` bytes, cut between characters; one piece if it is empty.
fn pieces(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (piece, left) = text.split_at(text.floor_char_boundary(most.max(4)));
        rest = Some(left).filter(|left| !left.is_empty());
        Some(piece)
    })
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            if byte == b'\n' {
                self.emit();
            } else {
                self.line.push(byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers each write on its own.
    #[derive(Default)]
    struct Records(Vec<String>);

    impl Write for &mut Records {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_in_pieces_is_one_record_with_its_severity() {
        let mut records = Records::default();
        let mut writer = LineWriter::new(Reader::Kernel, &mut records);
        write!(writer, "[WARN] ").unwrap();
        write!(writer, "full at {} %\nsecond line\n", 80).unwrap();
        let pid = std::process::id();
        assert_eq!(
            records.0,
            [
                format!("<28>cowroot[{pid}]: full at 80 %\n"),
                format!("<28>cowroot[{pid}]: second line\n")
            ]
        );
    }

    #[test]
    fn a_line_the_kernel_would_refuse_comes_in_several_records() {
        let mut records = Records::default();
        let mut writer = LineWriter::new(Reader::Kernel, &mut records);
        let long = "é".repeat(1000);
        writeln!(writer, "[ERROR] x{long}").unwrap();
        assert!(records.0.iter().all(|record| record.len() < 992));
        let prefix = format!("<27>cowroot[{}]: ", std::process::id());
        let texts = records.0.iter().map(|record| record.strip_prefix(&prefix));
        let text: String = texts.map(|text| text.unwrap().trim_end()).collect();
        assert_eq!(text, format!("x{long}"));
    }

    #[test]
    fn a_terminal_gets_words_instead_of_numbers() {
        let mut records = Records::default();
        let mut writer = LineWriter::new(Reader::Stderr, &mut records);
        writeln!(writer, "[ERROR] no base").unwrap();
        writeln!(writer, "[INFO] ready").unwrap();
        assert_eq!(records.0, ["cowroot: error: no base\n", "cowroot: ready\n"]);
    }
}
