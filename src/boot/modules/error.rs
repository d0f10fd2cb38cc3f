//! Why a module is not there: there is none, or the kernel would not have it.

use std::fmt;
use std::path::PathBuf;

/// Why a module is not there.
#[derive(Debug)]
pub enum LoadError {
    /// There is none of that name.
    Missing {
        /// The module.
        name: String,
        /// The running kernel's release.
        release: String,
        /// Where it was looked for, or `None` if the kernel's folder does not exist at all.
        folder: Option<PathBuf>,
    },
    /// The kernel would not have it.
    Refused {
        /// The module's file.
        path: PathBuf,
        /// What the kernel said.
        errno: i32,
    },
    /// Its file cannot be read or unpacked.
    Unreadable {
        /// The module's file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing {
                name,
                release,
                folder: None,
            } => write!(
                f,
                "loading module '{name}': there are no modules for the running kernel {release}; \
                 use an initramfs made for it"
            ),
            Self::Missing {
                name,
                release,
                folder: Some(folder),
            } => write!(
                f,
                "loading module '{name}': not in '{}'; add it to the initramfs, or the kernel \
                 {release} was built without it",
                folder.display()
            ),
            Self::Refused { path, errno } => write!(
                f,
                "loading module '{}': the kernel refused it: {}; {}",
                path.display(),
                std::io::Error::from_raw_os_error(*errno),
                advice(*errno)
            ),
            Self::Unreadable { path, .. } => write!(f, "reading module '{}'", path.display()),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Missing { .. } | Self::Refused { .. } => None,
        }
    }
}

fn advice(errno: i32) -> &'static str {
    match errno {
        libc::ENOKEY | libc::EKEYREJECTED | libc::EBADMSG => {
            "its signature is not one this kernel trusts: take the module from the kernel's own \
             package"
        }
        libc::EPERM => {
            "it is on a blacklist, module loading is switched off, or the kernel is locked down \
             (Secure Boot) and wants a signed one"
        }
        libc::ENOEXEC | libc::ENOENT => {
            "it is damaged or was built for another kernel: the kernel's log says more"
        }
        _ => "the kernel's log says more",
    }
}

/// Whether `error` says that there is no such module, as opposed to one that was refused.
#[must_use]
pub fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LoadError::Missing { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_module_and_a_refused_one_read_differently() {
        let refused = |errno| LoadError::Refused {
            path: "/m/ublk_drv.ko".into(),
            errno,
        };
        let missing = |folder: Option<&str>| LoadError::Missing {
            name: "ublk_drv".into(),
            release: "6.1.0".into(),
            folder: folder.map(PathBuf::from),
        };
        for (error, says, is_absent) in [
            (
                missing(None),
                "no modules for the running kernel 6.1.0",
                true,
            ),
            (missing(Some("/m")), "add it to the initramfs", true),
            (refused(libc::EKEYREJECTED), "signature", false),
            (refused(libc::EPERM), "locked down", false),
            (refused(libc::ENOEXEC), "another kernel", false),
            (refused(libc::EIO), "kernel's log", false),
        ] {
            let error = anyhow::Error::from(error);
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(is_missing(&error), is_absent, "{error}");
        }
    }
}
