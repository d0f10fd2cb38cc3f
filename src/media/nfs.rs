//! What an NFS server exports, mounted without mount.nfs: a hard mount, whose first contact has an end.
//!
//! Later a server that is away costs a pause, however long. But a boot that waits for ever for a server that is
//! not there says nothing to anybody, so before the kernel mounts anything the server is called, with a deadline.

use std::fmt;
use std::io;
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::str::FromStr;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sys_mount::MountFlags;

use super::mount;
use super::rpc::{self, Answer};
use super::source::Share;

/// Where an NFS server listens unless it says otherwise.
const PORT: u16 = 2049;

/// What a mount gets even where the rest of the time was spent before it.
const LEAST: Duration = Duration::from_secs(5);

/// A version of NFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 4 and this minor one.
    V4(u8),
    /// 3.
    V3,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(minor) => write!(f, "4.{minor}"),
            Self::V3 => write!(f, "3"),
        }
    }
}

/// How to mount: `cowroot.nfsopts=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What is tried, in this order, where a server does not speak the one before.
    pub versions: Vec<Version>,
    /// The server's port, if it is not the usual one.
    pub port: Option<u16>,
    /// The port of its mountd, for version 3; else its rpcbind is asked.
    pub mount_port: Option<u16>,
    /// What the kernel is told besides.
    pub rest: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            versions: vec![Version::V4(2), Version::V4(1), Version::V3],
            port: None,
            mount_port: None,
            rest: String::new(),
        }
    }
}

impl FromStr for Options {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = Vec::new();
        let number = |option: &str, value: &str| {
            let port = value.parse().ok().filter(|&port: &u16| port > 0);
            port.ok_or_else(|| format!("'{option}' names no port; use 1 to 65535"))
        };
        for option in text.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("vers" | "nfsvers", version)) => options.versions = versions(version)?,
                Some(("port", port)) => options.port = Some(number(option, port)?),
                Some(("mountport", port)) => options.mount_port = Some(number(option, port)?),
                _ => rest.push(option),
            }
        }
        // Flags among them are for mounts that can be written.
        options.rest = mount::split_options(&rest.join(",")).1;
        Ok(options)
    }
}

fn versions(text: &str) -> Result<Vec<Version>, String> {
    Ok(match text {
        "4" => vec![Version::V4(2), Version::V4(1), Version::V4(0)],
        "4.2" => vec![Version::V4(2)],
        "4.1" => vec![Version::V4(1)],
        "4.0" => vec![Version::V4(0)],
        "3" => vec![Version::V3],
        _ => {
            return Err(format!(
                "'vers={text}' is no version of NFS that can be mounted; use 4.2, 4.1, 4.0, 4 or 3"
            ));
        }
    })
}

/// Mount `share` read-only at `target`, by the first version that the server speaks; before `deadline`, but
/// for a moment. The version.
///
/// # Errors
/// The server does not answer, what it says against it, or that it speaks no version that was asked for.
pub fn mount(
    share: &Share,
    options: &Options,
    target: &Path,
    deadline: Instant,
) -> anyhow::Result<Version> {
    let mut refused = Vec::new();
    for &version in &options.versions {
        let ports = match version {
            Version::V4(_) => find_v4(share, options, deadline)?,
            Version::V3 => find_v3(share, options, deadline)?,
        };
        let attempt = match ports {
            Ok(found) => attempt(
                share,
                version,
                (&found.words(version, options), options.rest.is_empty()),
                target,
                deadline,
            )?,
            Err(why) => Some(why),
        };
        match attempt {
            None => return Ok(version),
            Some(why) => {
                log::debug!("'{share}' by NFS {version}: {why}");
                refused.push(format!("{version}: {why}"));
            }
        }
    }
    bail!(
        "mounting '{share}': {}; cowroot.nfsopts=vers=<version> names another version",
        refused.join("; ")
    )
}

/// A server that answers, and the ports that were asked for.
#[derive(Debug)]
struct Found {
    server: IpAddr,
    /// This machine's address on the way to it.
    own: IpAddr,
    port: u16,
    mount_port: Option<u16>,
}

impl Found {
    /// The kernel's words; what comes later counts.
    fn words(&self, version: Version, options: &Options) -> String {
        let six = if self.server.is_ipv6() { "6" } else { "" };
        let mut words = format!(
            "vers={version},addr={},proto=tcp{six},port={},hard,timeo=600,retrans=2,sec=sys",
            self.server, self.port
        );
        match version {
            Version::V4(_) => words.push_str(&format!(",clientaddr={}", self.own)),
            // There is no lockd or statd to ask, and nobody locks.
            Version::V3 => words.push_str(&format!(",nolock,mountproto=tcp{six}")),
        }
        if let Some(port) = self.mount_port {
            words.push_str(&format!(",mountport={port}"));
        }
        if !options.rest.is_empty() {
            words.push(',');
            words.push_str(&options.rest);
        }
        words
    }
}

/// The server, if it speaks version 4; else what it says.
fn find_v4(
    share: &Share,
    options: &Options,
    deadline: Instant,
) -> anyhow::Result<Result<Found, String>> {
    let port = options.port.unwrap_or(PORT);
    let (own, answer) = ask(share, port, (rpc::NFS, 4, 0), deadline)?;
    Ok(spoken(&answer).map(|()| Found {
        server: share.server,
        own,
        port,
        mount_port: None,
    }))
}

/// The server and its mountd, if they speak version 3; else what they say.
fn find_v3(
    share: &Share,
    options: &Options,
    deadline: Instant,
) -> anyhow::Result<Result<Found, String>> {
    let server = share.server;
    let from_rpcbind = |program: u32, what: &str| {
        rpc::port_of(server, program, 3, deadline).map_err(|error| {
            anyhow::anyhow!(
                "asking the rpcbind of the NFS server '{server}' (TCP port 111) for the port of its {what}: {error}; \
                 {UNREACHED}, or name the ports: cowroot.nfsopts=vers=3,port=<n>,mountport=<n>"
            )
        })
    };
    let ports = (options.port, options.mount_port);
    let port = match ports {
        (Some(port), _) => Some(port),
        // Who names one of them has a server without an rpcbind.
        (None, Some(_)) => Some(PORT),
        (None, None) => from_rpcbind(rpc::NFS, "nfsd")?,
    };
    let Some(port) = port else {
        return Ok(Err("its rpcbind knows no NFS of version 3 over TCP".into()));
    };
    let (own, answer) = ask(share, port, (rpc::NFS, 3, 0), deadline)?;
    if let Err(why) = spoken(&answer) {
        return Ok(Err(why));
    }
    let mount_port = match options.mount_port {
        Some(port) => Some(port),
        None => from_rpcbind(rpc::MOUNT, "mountd")?,
    };
    let Some(mount_port) = mount_port else {
        return Ok(Err(
            "its rpcbind knows no mountd of version 3 over TCP".into()
        ));
    };
    let (_, answer) = ask(share, mount_port, (rpc::MOUNT, 3, 0), deadline)?;
    Ok(spoken(&answer).map(|()| Found {
        server,
        own,
        port,
        mount_port: Some(mount_port),
    }))
}

/// Whether a server speaks what it was asked for; else what it says.
fn spoken(answer: &Answer) -> Result<(), String> {
    match answer {
        Answer::Done(_) => Ok(()),
        Answer::NoProgram => Err("what listens there is no NFS server".into()),
        Answer::Versions(from, to) if from == to => {
            Err(format!("the server speaks version {from} only"))
        }
        Answer::Versions(from, to) => {
            Err(format!("the server speaks versions {from} to {to} only"))
        }
        Answer::Refused(reason) => Err(format!("the server refuses (reason {reason})")),
    }
}

/// Call the server until `deadline`: this machine's address as it sees it, and its answer.
fn ask(
    share: &Share,
    port: u16,
    call: (u32, u32, u32),
    deadline: Instant,
) -> anyhow::Result<(IpAddr, Answer)> {
    let server = share.server;
    let ask = || -> io::Result<_> {
        let mut stream: TcpStream = rpc::connect(server, port, deadline)?;
        let own = stream.local_addr()?.ip();
        Ok((own, rpc::call(&mut stream, call, &[], deadline)?))
    };
    ask().map_err(|error| {
        anyhow::anyhow!(
            "reaching the NFS server '{server}' (TCP port {port}): {error}; {UNREACHED}"
        )
    })
}

/// What to do about a server that cannot be reached.
const UNREACHED: &str = "is that its address, does it run, and does no firewall stand between? cowroot.wait=<s> \
                         waits longer";

/// Have the kernel mount. `None` if it did, or why this version is not spoken.
fn attempt(
    share: &Share,
    version: Version,
    (words, options_are_ours): (&str, bool),
    target: &Path,
    deadline: Instant,
) -> anyhow::Result<Option<String>> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    let (source, target, words) = (share.to_string(), target.to_owned(), words.to_owned());
    let (tell, told) = channel();
    log::debug!("mounting '{source}' with '{words}'");
    // In a thread: a server that answered may still leave a mount without an answer, and the kernel would wait.
    let mounting = std::thread::Builder::new().spawn(move || {
        let _ = tell.send(mount::filesystem(
            Path::new(&source),
            &target,
            "nfs",
            flags,
            &words,
        ));
    });
    mounting.context("starting a thread")?;
    let left = deadline
        .saturating_duration_since(Instant::now())
        .max(LEAST);
    let error = match told.recv_timeout(left) {
        Ok(Ok(())) => return Ok(None),
        Ok(Err(error)) => error,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => bail!(
            "mounting '{share}' (NFS {version}): the server answers calls, but not this one, within {} s; does it \
             wait for something (a grace period after its start, a disk)?",
            left.as_secs()
        ),
    };
    // A kernel without a minor version calls it an invalid argument (nfs4_alloc_client).
    let is_unknown = error.raw_os_error() == Some(libc::EINVAL)
        && options_are_ours
        && matches!(version, Version::V4(1..));
    if is_unknown || error.raw_os_error() == Some(libc::EPROTONOSUPPORT) {
        return Ok(Some("server or kernel does not speak it".into()));
    }
    bail!(
        "mounting '{share}' (NFS {version}): {error}; {}",
        advice(&error, version)
    )
}

fn advice(error: &io::Error, version: Version) -> &'static str {
    match (error.raw_os_error(), version) {
        (Some(libc::ENOENT), _) => {
            "the server exports no such folder; its /etc/exports, or `showmount -e` with its address, says what it does"
        }
        (Some(libc::EACCES | libc::EPERM), Version::V3) => {
            "the server does not export that folder, or not to this machine; its /etc/exports, or `showmount -e` with \
             its address, says what to whom"
        }
        (Some(libc::EACCES | libc::EPERM), Version::V4(_)) => {
            "the server does not export it to this machine, or wants another security than sec=sys; its /etc/exports \
             says what to whom"
        }
        (Some(libc::EINVAL), _) => {
            "an option is wrong: the kernel's log says which; correct cowroot.nfsopts"
        }
        _ => "the kernel's log may say more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share() -> Share {
        Share {
            server: [127, 0, 0, 1].into(),
            export: "/export".into(),
        }
    }

    #[test]
    fn options_name_versions_and_ports_and_the_rest_is_the_kernels() {
        let all = Options::default().versions;
        for (text, versions, port, mount_port, rest) in [
            ("", all.clone(), None, None, ""),
            ("vers=4.1", vec![Version::V4(1)], None, None, ""),
            (
                "nfsvers=3,port=2050,mountport=9",
                vec![Version::V3],
                Some(2050),
                Some(9),
                "",
            ),
            (
                "ro,rsize=65536,noatime,nconnect=2",
                all,
                None,
                None,
                "rsize=65536,nconnect=2",
            ),
        ] {
            let options: Options = text.parse().unwrap();
            assert_eq!(options.versions, versions, "{text}");
            assert_eq!(
                (options.port, options.mount_port),
                (port, mount_port),
                "{text}"
            );
            assert_eq!(options.rest, rest, "{text}");
        }
        for (text, says) in [
            ("vers=2", "'vers=2' is no version"),
            ("port=0", "'port=0' names no port"),
            ("mountport=x", "'mountport=x' names no port"),
        ] {
            let error = text.parse::<Options>().unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn the_kernel_is_told_addresses_and_a_hard_mount_and_last_what_was_asked_for() {
        let found = |server: &str, own: &str| Found {
            server: server.parse().unwrap(),
            own: own.parse().unwrap(),
            port: 2049,
            mount_port: None,
        };
        let options: Options = "rsize=4096,sec=krb5".parse().unwrap();
        let words = found("192.0.2.1", "192.0.2.9").words(Version::V4(2), &options);
        assert_eq!(
            words,
            "vers=4.2,addr=192.0.2.1,proto=tcp,port=2049,hard,timeo=600,retrans=2,sec=sys,clientaddr=192.0.2.9,\
             rsize=4096,sec=krb5"
        );
        let mut found = found("2001:db8::1", "2001:db8::9");
        found.mount_port = Some(635);
        let words = found.words(Version::V3, &Options::default());
        assert!(words.contains("proto=tcp6,"), "{words}");
        assert!(
            words.ends_with(",nolock,mountproto=tcp6,mountport=635"),
            "{words}"
        );
    }

    #[test]
    fn a_server_that_is_not_there_or_no_server_is_told_within_the_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = Options {
            port: Some(port),
            ..Options::default()
        };
        let soon = || Instant::now() + Duration::from_millis(300);
        let target = Path::new("/nonexistent/target");
        let mute = format!(
            "{:#}",
            mount(&share(), &options, target, soon()).unwrap_err()
        );
        assert!(
            mute.contains("'127.0.0.1'") && mute.contains("timed out"),
            "{mute}"
        );
        drop(listener);
        let refused = format!(
            "{:#}",
            mount(&share(), &options, target, soon()).unwrap_err()
        );
        assert!(
            refused.contains("refused") && refused.contains("does it run"),
            "{refused}"
        );
    }
}
