//! The command line, as clap types only. What the words mean is decided in `cmd/`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub mod diff;
mod merge;
pub mod session;
mod verb;

use diff::Diff;
pub use merge::{Merge, Shown};
use session::Session;
pub use verb::Verb;

/// A writable root on a base that must not be written.
#[derive(Debug, Parser)]
#[command(
    name = "cowroot",
    version,
    about,
    max_term_width = 80,
    propagate_version = true
)]
pub struct Cli {
    /// Say more: each step, not just each change of state
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stack a cowfile on a base and serve both as one writable block device
    Attach(Attach),
    /// Stop serving a device; what a tmpfs cowfile holds is gone then
    Detach(Detach),
    /// Make an empty cowfile for a base, to keep what is written
    Create(Create),
    /// Show the devices this machine serves: space, base, health
    Status(Status),
    /// Show what a cowfile holds, and which base it wants
    Info(Info),
    /// Read all of a cowfile and say what is damaged; exit code 3 if anything is
    Check(Check),
    /// Keep several sessions in one cowfile: list, begin, seal, rename, roll back, delete
    Session(Session),
    /// List the files that a session has added, changed and deleted in its base's; or pack them
    Diff(Diff),
    /// Write what a session changed to its base, or to a new image; or take that back
    Merge(Merge),
    /// The initramfs entry point (also when run as /init): find, attach, mount, switch root
    Boot(Boot),
    /// Say what a kernel command line would do, without doing it
    Explain(Explain),
    /// The daemon itself; started by attach and boot
    #[command(hide = true)]
    Serve(Serve),
    /// Hand running devices to this binary: nothing that uses them notices more than a pause
    Upgrade(Upgrade),
    /// Go on with a device that another binary served; `upgrade` starts it
    #[command(hide = true)]
    TakeOver(TakeOver),
}

/// Which device to make.
#[derive(Debug, Clone, Args)]
pub struct Attach {
    /// What is never written: a regular file or a block device
    #[arg(long, value_name = "PATH")]
    pub base: PathBuf,
    /// What takes the writes: a cowfile (a file or a block device), where they stay; or tmpfs, tmpfs:SIZE
    /// (K, M, G) or tmpfs:PERCENT% of RAM, from where they are gone at detach or power-off
    #[arg(long, value_name = "COW", default_value = "tmpfs:50%")]
    pub cow: OsString,
    /// When a cowfile's writes become durable at the latest: flush (with each sync or fsync, as on any
    /// disk), interval:SECONDS, or shutdown; a power cut goes back to the last time, whole
    #[arg(long, value_name = "WHEN", default_value = "flush")]
    pub durability: String,
    /// Which session of a cowfile: resume (the last one) or resume:NAME, new or new:NAME (an empty one on the last
    /// one), or throwaway (in RAM over the last one, which stays as it is)
    #[arg(long, value_name = "SESSION", default_value = "resume")]
    pub session: String,
    /// The device's number, the N of /dev/ublkbN; default: the first free one
    #[arg(long, value_name = "N")]
    pub id: Option<u32>,
    /// Make the device larger than its base (bytes, or with K, M, G); the rest reads as zeros
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Refuse every write to the device
    #[arg(long)]
    pub read_only: bool,
    /// How long to wait for a medium that was pulled out and may be put back; meanwhile the device waits, then
    /// it fails. 0: not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub lost: u32,
    /// Serve in this process until detached, instead of in a daemon
    #[arg(long)]
    pub foreground: bool,
}

/// Which devices to stop.
#[derive(Debug, Args)]
pub struct Detach {
    /// The device, as /dev/ublkb0, ublkb0 or 0
    #[arg(value_name = "DEV", required_unless_present = "all")]
    pub device: Option<String>,
    /// Every device cowroot serves, and those whose daemon and supervisor were killed
    #[arg(long, conflicts_with = "device")]
    pub all: bool,
}

/// Which cowfile to make.
#[derive(Debug, Args)]
pub struct Create {
    /// A file that is not there yet, or a block device with nothing on it
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
    /// The base it is for: it is known again, and no other is taken for it
    #[arg(long, value_name = "PATH")]
    pub base: PathBuf,
    /// What people call it; default: its file's name
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// How large it may become (bytes, or with K, M, G); default: enough to write the whole device once; of a
    /// block device all of it
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,
    /// Take so much of the medium's space now, or `all`; else it grows as it is written
    #[arg(long, value_name = "SIZE")]
    pub preallocate: Option<String>,
    /// Make the device larger than its base (bytes, or with K, M, G); the rest reads as zeros
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Continue in COWFILE.1, COWFILE.2, … after so much; default: where the file system wants it
    #[arg(long, value_name = "SIZE")]
    pub file_size: Option<String>,
}

/// How to show the state.
#[derive(Debug, Args)]
pub struct Status {
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
    /// Go on until ctrl-C, or until no device is left: drawn anew each second on a terminal, else a line for each change;
    /// with --json a document each second, a line each
    #[arg(long)]
    pub watch: bool,
}

/// Which cowfile to tell of.
#[derive(Debug, Args)]
pub struct Info {
    /// The cowfile: its first file, or a block device
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// Which cowfile to check.
#[derive(Debug, Args)]
pub struct Check {
    /// The cowfile: its first file, or a block device
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
    /// Mend what loses nothing; what is replaced is kept in COWFILE.repair-TIME
    #[arg(long)]
    pub repair: bool,
    /// With --repair: let what is below show where something is lost, instead of errors, and go back
    /// behind commits that are damaged
    #[arg(long, requires = "repair")]
    pub drop_damaged: bool,
    /// With --repair: keep what is replaced here
    #[arg(long, value_name = "FILE", requires = "repair")]
    pub save: Option<PathBuf>,
}

/// How to boot.
#[derive(Debug, Args)]
pub struct Boot {
    /// Do one step and return: for an initramfs that has an init of its own. Without it this process must be
    /// the initramfs's init
    #[arg(long, value_enum, value_name = "STAGE")]
    pub stage: Option<Stage>,
    /// Where the root is mounted, for --stage
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/sysroot",
        requires = "stage"
    )]
    pub root: PathBuf,
    /// Read the kernel command line from here instead of /proc/cmdline
    #[arg(long, value_name = "FILE")]
    pub cmdline: Option<PathBuf>,
    /// Bring the network up by the words ip=, too, for --stage=attach: where the initramfs does not, or only with DHCP
    #[arg(long, requires = "stage")]
    pub set_ip: bool,
    /// What becomes of the machine, for --stage=take-back
    #[arg(
        long,
        value_enum,
        value_name = "VERB",
        default_value = "poweroff",
        requires = "stage"
    )]
    pub verb: Verb,
}

/// A step of the boot, or of the machine's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// Read the kernel command line: prints 'local' or 'network', or nothing if cowroot is not asked for
    Parse,
    /// Find the media, start the daemon: the device is there
    Attach,
    /// Mount the root
    Mount,
    /// Before the switch to the root: what it takes to shut down well
    Finish,
    /// After the root is unmounted: commit, detach, let go of the media
    Shutdown,
    /// As the last that sysvinit runs, which gives nothing back to an initramfs: take PID 1 from it, unmount the
    /// root, do what `shutdown` does, and end the machine. Nothing where the root is not cowroot's
    TakeBack,
}

/// What to explain.
#[derive(Debug, Args)]
pub struct Explain {
    /// A kernel command line, e.g. "cowroot=LABEL=LIVE:/live/root.img ro"
    #[arg(value_name = "CMDLINE")]
    pub cmdline: String,
}

/// What the daemon is told by the process that starts it.
#[derive(Debug, Args)]
pub struct Serve {
    /// The device to make
    #[command(flatten)]
    pub attach: Attach,
    /// The file on a server that the base lies in, if it is not that file itself
    #[arg(long, value_name = "FILE")]
    pub carrier: Option<PathBuf>,
    /// What `status` is to warn of from the start
    #[arg(long, value_name = "TEXT")]
    pub notice: Option<String>,
    /// Where to report "ready" or the reason of failure: an inherited file descriptor
    #[arg(long, value_name = "FD")]
    pub ready_fd: Option<i32>,
    /// Log to the kernel's log instead of standard error
    #[arg(long)]
    pub kmsg: bool,
}

/// Which devices this binary is to serve from now on.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// The device, as /dev/ublkb0, ublkb0 or 0; default: all that cowroot serves
    #[arg(value_name = "DEV")]
    pub device: Option<String>,
}

/// What another binary hands over.
#[derive(Debug, Args)]
pub struct TakeOver {
    /// The state, and the descriptors of the device
    #[arg(value_name = "FD", value_delimiter = ',', required = true)]
    pub fds: Vec<i32>,
    /// Whom to answer when the device is served again
    #[arg(long, value_name = "FD")]
    pub answer: Option<i32>,
    /// Only say whether this binary would go on
    #[arg(long = "try")]
    pub is_trial: bool,
}
