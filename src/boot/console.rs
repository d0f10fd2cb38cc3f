//! What a user has to see on the console, whatever the kernel keeps from it: `quiet` hides all but errors.

use std::fs;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use log::Level;

/// A line of text takes a serial line of 9,600 baud a tenth of this.
const DRAINING: Duration = Duration::from_secs(1);

/// Log it, and say it on the console, too, where the kernel does not.
pub(super) fn log(level: Level, text: &str) {
    log::log!(level, "{text}");
    let printk = fs::read_to_string("/proc/sys/kernel/printk");
    if printk.is_ok_and(|printk| hides(&printk, level)) {
        say(text);
    }
}

/// Say it on the console, and not in the log.
pub(super) fn say(text: &str) {
    // A machine without a console boots and ends all the same.
    if let Some(mut console) = open() {
        let _ = console.write_all(format!("\r\ncowroot: {text}\r\n").as_bytes());
    }
}

/// Wait until a serial line has sent what was said: the end of the machine would take what is still on its way. Not for
/// long, for there are lines that take nothing.
pub(super) fn drain() {
    let (told, hear) = mpsc::channel();
    let draining = thread::Builder::new().spawn(move || {
        let _ = open().map(nix::sys::termios::tcdrain);
        let _ = told.send(());
    });
    if draining.is_ok() {
        let _ = hear.recv_timeout(DRAINING);
    }
}

fn open() -> Option<File> {
    OpenOptions::new().write(true).open("/dev/console").ok()
}

/// Whether the console does not show what is logged so. The first of the kernel's numbers is that from which on it
/// does not.
fn hides(printk: &str, level: Level) -> bool {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let first = printk.split_whitespace().next();
    let shown: Option<u32> = first.and_then(|number| number.parse().ok());
    shown.is_some_and(|shown| shown <= severity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hides_all_but_errors() {
        let (usual, quiet) = ("7\t4\t1\t7\n", "4\t4\t1\t7\n");
        assert!(!hides(usual, Level::Info) && !hides(usual, Level::Warn));
        assert!(hides(quiet, Level::Info) && hides(quiet, Level::Warn));
        assert!(!hides(quiet, Level::Error));
        assert!(!hides("", Level::Info));
    }
}
