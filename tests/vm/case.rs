//! What a case is: an initramfs, media, kernel words, and what must hold. One line each in `cases.rs`.

use crate::accel::Accel;
use crate::apt::SUITE;
use crate::home::Home;
use crate::initramfs::Initramfs;
use crate::kernel::Packing;
use crate::media::{Bus, Content, Medium};
use crate::nfs::Server;
use crate::qemu::Firmware;

/// How a VM is expected to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The guest's check reports and powers off.
    PowerOff,
    /// The boot fails, and init's death ends the VM (`panic=1` and QEMU's -no-reboot).
    Panic,
    /// The boot fails in an initramfs that restarts the machine then, as it was told to; no root has started.
    Restart,
}

/// One boot and its claim.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Its initramfs, its medium and its claim, in words.
    pub(crate) name: &'static str,
    pub(crate) initramfs: Initramfs,
    /// Boots the first medium, which must boot itself; without it QEMU starts kernel and initramfs.
    pub(crate) firmware: Option<Firmware>,
    /// What is chosen in the medium's menu; nothing takes its default.
    pub(crate) entry: &'static str,
    /// The Debian suite whose kernel boots.
    pub(crate) kernel: &'static str,
    pub(crate) media: Vec<Medium>,
    /// The network it is on, if any.
    pub(crate) server: Option<Server>,
    pub(crate) words: &'static str,
    /// The script of `guest/` that checks, without `.sh`.
    pub(crate) guest: &'static str,
    /// Texts that must be on the console.
    pub(crate) console: Vec<&'static str>,
    /// Texts that must not be there.
    pub(crate) never: Vec<&'static str>,
    pub(crate) ending: Ending,
    /// RAM in MiB.
    pub(crate) memory_mib: u32,
    /// How often a daemon is killed.
    pub(crate) kills: u64,
    /// How often the machine is booted, with the same media.
    pub(crate) boots: u32,
    /// How many of these, from the second on, end in a power cut while they merge.
    pub(crate) cuts: u32,
    /// Kernel words that only the boot of this number has.
    pub(crate) each: &'static [&'static str],
    /// Seconds it takes on a quiet machine without KVM; the deadline is five times that.
    pub(crate) quiet_s: u64,
}

impl Case {
    fn new(name: &'static str, initramfs: Initramfs) -> Self {
        Self {
            name,
            initramfs,
            firmware: None,
            entry: "",
            kernel: SUITE,
            media: Vec::new(),
            server: None,
            words: "",
            guest: "",
            console: Vec::new(),
            never: Vec::new(),
            ending: Ending::PowerOff,
            memory_mib: 512,
            kills: 0,
            boots: 1,
            cuts: 0,
            each: &[],
            quiet_s: 12,
        }
    }

    /// A boot with our binary as `/init`, modules as Debian packs them.
    pub(crate) fn bare(name: &'static str) -> Self {
        Self::new(name, Initramfs::Bare(Packing::Xz))
    }

    /// A check inside a busybox initramfs, of commands rather than of a boot.
    pub(crate) fn mini(name: &'static str, guest: &'static str) -> Self {
        Self::new(name, Initramfs::Mini).guest(guest)
    }

    /// A boot with an initramfs that a distribution's tool made.
    pub(crate) fn home(name: &'static str, home: Home) -> Self {
        Self::new(name, Initramfs::Home(home)).quiet_s(60)
    }

    /// A boot from the medium itself, by its boot loader and the sample menu; else as `bare`.
    pub(crate) fn iso(name: &'static str, firmware: Firmware) -> Self {
        Self {
            firmware: Some(firmware),
            ..Self::bare(name)
        }
    }

    /// An entry of the menu, by its id.
    pub(crate) fn entry(mut self, id: &'static str) -> Self {
        self.entry = id;
        self
    }

    /// Another initramfs.
    pub(crate) fn initramfs(mut self, initramfs: Initramfs) -> Self {
        self.initramfs = initramfs;
        self
    }

    /// Another suite's kernel.
    pub(crate) fn kernel(mut self, suite: &'static str) -> Self {
        self.kernel = suite;
        self
    }

    fn medium(mut self, content: Content, bus: Bus, throttle: Option<u64>) -> Self {
        self.media.push(Medium {
            content,
            bus,
            throttle,
        });
        self
    }

    /// A CD in a drive.
    pub(crate) fn cd(self, content: Content) -> Self {
        self.medium(content, Bus::Cd, None)
    }

    /// A disk that could be written.
    pub(crate) fn disk(self, content: Content) -> Self {
        self.medium(content, Bus::Disk, None)
    }

    /// A disk that gives so many bytes a second.
    pub(crate) fn slow_disk(self, content: Content, bytes_per_second: u64) -> Self {
        self.medium(content, Bus::Disk, Some(bytes_per_second))
    }

    /// A stick that is there from the beginning.
    pub(crate) fn stick(self, content: Content) -> Self {
        self.medium(content, Bus::Usb, None)
    }

    /// The same, and it gives or takes so many bytes a second.
    pub(crate) fn slow_stick(self, content: Content, bytes_per_second: u64) -> Self {
        self.medium(content, Bus::Usb, Some(bytes_per_second))
    }

    /// A stick that is plugged in some seconds after the boot began.
    pub(crate) fn late_stick(self, content: Content, after_s: u64) -> Self {
        self.medium(content, Bus::UsbLate(after_s), None)
    }

    /// A stick that is not plugged in before the guest asks for it.
    pub(crate) fn spare_stick(self, content: Content) -> Self {
        self.medium(content, Bus::UsbLate(u64::MAX), None)
    }

    /// On a network with this server.
    pub(crate) fn server(mut self, server: Server) -> Self {
        self.server = Some(server);
        self
    }

    /// Kernel words.
    pub(crate) fn words(mut self, words: &'static str) -> Self {
        self.words = words;
        self
    }

    /// The check the booted root runs.
    pub(crate) fn guest(mut self, script: &'static str) -> Self {
        self.guest = script;
        self
    }

    /// A text that must be on the console.
    pub(crate) fn console(mut self, text: &'static str) -> Self {
        self.console.push(text);
        self
    }

    /// A text that must not be on the console.
    pub(crate) fn never(mut self, text: &'static str) -> Self {
        self.never.push(text);
        self
    }

    /// The boot must fail, saying this.
    pub(crate) fn fails_with(mut self, text: &'static str) -> Self {
        self.ending = Ending::Panic;
        self.console(text)
    }

    /// The boot must fail so that the initramfs restarts, saying this.
    pub(crate) fn restarts_with(mut self, text: &'static str) -> Self {
        self.ending = Ending::Restart;
        self.console(text)
    }

    /// RAM in MiB.
    pub(crate) fn memory(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Daemons are killed so often, half a second each.
    pub(crate) fn kills(mut self, count: u64) -> Self {
        self.kills = count;
        self.quiet_s = 30 + count / 2;
        self
    }

    /// The machine is booted so often; a boot finds what the one before wrote, and the last one leaves its sticks clean.
    pub(crate) fn boots(mut self, count: u32) -> Self {
        self.boots = count;
        self
    }

    /// The machine is booted once with each of these words.
    pub(crate) fn each(mut self, words: &'static [&'static str]) -> Self {
        self.each = words;
        self.boots = u32::try_from(words.len()).unwrap_or(u32::MAX);
        self
    }

    /// The power of so many boots, from the second on, is cut while they merge.
    pub(crate) fn cuts(mut self, count: u32) -> Self {
        self.cuts = count;
        self
    }

    /// Seconds on a quiet machine.
    pub(crate) fn quiet_s(mut self, seconds: u64) -> Self {
        self.quiet_s = seconds;
        self
    }

    /// The whole kernel command line.
    pub(crate) fn command_line(&self) -> String {
        // panic: a dead init ends the VM. ignore_loglevel is not set: what a user sees is what is tested.
        let console = if self.words.contains("console=") {
            ""
        } else {
            "console=ttyS0 "
        };
        let mut line = format!("{console}panic=1 {}", self.words);
        if !self.guest.is_empty() {
            line.push_str(&format!(" cowtest={}", self.guest));
        }
        if self.kills > 0 {
            line.push_str(&format!(" kills={}", self.kills));
        }
        line
    }

    /// What the medium's boot loader is told beside the sample menu: no menu to wait for, its words on
    /// the serial line, and our kernel words.
    pub(crate) fn menu_settings(&self, accel: Accel) -> String {
        let entry = match self.entry {
            "" => String::new(),
            id => format!("set default={id}\n"),
        };
        format!(
            "set timeout=0\nserial --unit=0 --speed=115200\nterminal_output serial\n\
             set words=\"{}{}\"\n{entry}",
            self.command_line(),
            accel.kernel_word()
        )
    }
}
