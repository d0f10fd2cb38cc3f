//! What becomes of the machine at its end.

use clap::ValueEnum;

/// What the kernel is asked for when all is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Verb {
    /// Off
    Poweroff,
    /// Started again
    Reboot,
    /// Stopped, with its power on
    Halt,
    /// The kernel that was loaded (kexec -l), started without the firmware
    Kexec,
}

impl Verb {
    /// The word for it, as systemd has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
            Self::Kexec => "kexec",
        }
    }
}
