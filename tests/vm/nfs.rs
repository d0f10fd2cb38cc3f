//! Networks with an NFS server for the cases whose base is on one.
//!
//! The guest's check asks for what is to happen to the server, by a line `COWROOT-HOST ORDER` of its report:
//!
//! * `stop`, `start`: it is away, and comes back;
//! * `replace`: another file takes the image's name;
//! * `change`: every byte of the image changes in place;
//! * `remove`: the image is gone.

mod ganesha;
mod kernel;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::ganesha::Ganesha;
use self::kernel::ServerVm;
use crate::command::run;
use crate::initramfs::Initramfs;
use crate::media::{Bus, Content, Fs, Medium};
use crate::root;
use crate::rootfs::RootFs;
use crate::run::Bed;

/// The server of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// A network without one. This machine is 10.0.2.2 there, the guest 10.0.2.15.
    Nobody,
    /// nfs-ganesha on this machine: NFS 4.1 and 4.2 on 10.0.2.2, port `{port}` in the kernel words; it exports
    /// /export.
    UserSpace,
    /// The same without 4.2.
    UserSpace41,
    /// The same as the first, with a Debian.
    UserSpaceDebian,
    /// The same with NetworkManager and ifupdown in it.
    UserSpaceNetworks,
    /// The same as the first, and the image is an ISO with LiveOS/squashfs.img!/LiveOS/rootfs.img in it.
    UserSpaceNested,
    /// The kernel's, in a VM of its own: all versions, on 192.168.76.1 and fd76::1 for any guest of these networks;
    /// it exports /export, and /closed to somebody else.
    Kernel,
    /// The same with NFS 3 only.
    Kernel3,
}

/// Where the image is below an export.
const IMAGE: &str = "live/root.img";

/// A network that is there, with its server.
#[derive(Debug)]
pub(crate) struct Network(RefCell<Running>);

#[derive(Debug)]
enum Running {
    Nobody,
    UserSpace(Ganesha),
    Kernel(ServerVm),
}

impl Network {
    /// Starts the server and waits until it serves. Its logs and what it exports are in `dir`.
    pub(crate) fn start(server: Server, bed: &Bed, dir: &Path) -> Result<Self> {
        let running = match server {
            Server::Nobody => Running::Nobody,
            Server::UserSpace
            | Server::UserSpace41
            | Server::UserSpaceDebian
            | Server::UserSpaceNetworks
            | Server::UserSpaceNested => {
                let minor = match server {
                    Server::UserSpace41 => "1",
                    _ => "1,2",
                };
                let base = image(server, bed, dir)?;
                Running::UserSpace(Ganesha::start(bed, minor, &base, dir)?)
            }
            Server::Kernel | Server::Kernel3 => {
                let words = if server == Server::Kernel {
                    ""
                } else {
                    "only3"
                };
                let medium = Medium {
                    content: Content::Mini(Fs::Ext4),
                    bus: Bus::Disk,
                    throttle: None,
                };
                let kernel = bed.kernel(crate::apt::SUITE)?;
                let initramfs = Initramfs::NfsServer.get(&bed.cache, &kernel, &bed.binary)?;
                let disk = bed.copy_of(medium, &kernel, &initramfs, &dir.join("exported"))?;
                Running::Kernel(ServerVm::start(
                    bed,
                    (&kernel, initramfs),
                    (medium, disk),
                    words,
                    dir,
                )?)
            }
        };
        Ok(Self(RefCell::new(running)))
    }

    /// QEMU's words for the guest's network card.
    pub(crate) fn args(&self) -> Vec<String> {
        let netdev = match &*self.0.borrow() {
            Running::Kernel(server) => server.netdev(),
            Running::Nobody | Running::UserSpace(_) => "user,id=net0".into(),
        };
        let device = "virtio-net-pci,netdev=net0,mac=52:54:00:76:00:02".to_owned();
        vec!["-netdev".into(), netdev, "-device".into(), device]
    }

    /// The kernel words with what is only known now.
    pub(crate) fn words(&self, words: &str) -> String {
        match &*self.0.borrow() {
            Running::UserSpace(server) => words.replace("{port}", &server.port().to_string()),
            _ => words.to_owned(),
        }
    }

    /// Does what the guest asks for.
    pub(crate) fn obey(&self, order: &str) -> Result<()> {
        match &mut *self.0.borrow_mut() {
            Running::Nobody => bail!("the guest asks for '{order}', and there is no server"),
            Running::UserSpace(server) => match order {
                "stop" => server.stop(),
                "start" => server.serve(),
                _ => alter(&server.export().join(IMAGE), order),
            },
            Running::Kernel(server) => server.obey(order),
        }
        .with_context(|| format!("doing as the guest asks ('{order}')"))
    }
}

/// What nfs-ganesha serves a copy of.
fn image(server: Server, bed: &Bed, dir: &Path) -> Result<PathBuf> {
    match server {
        Server::UserSpaceDebian => root::debian(&bed.cache, &bed.apt, &bed.binary),
        Server::UserSpaceNetworks => root::debian_networks(&bed.cache, &bed.apt, &bed.binary),
        Server::UserSpaceNested => {
            let medium = Medium {
                content: Content::MiniNested,
                bus: Bus::Cd,
                throttle: None,
            };
            let kernel = bed.kernel(crate::apt::SUITE)?;
            bed.copy_of(medium, &kernel, Path::new(""), &dir.join("nested"))
        }
        _ => root::mini(&bed.cache, &bed.binary, RootFs::Ext4, None),
    }
}

/// Changes the image at `path` as somebody on the server would.
fn alter(path: &Path, order: &str) -> Result<()> {
    let other: PathBuf = path.with_extension("new");
    match order {
        "remove" => fs::remove_file(path)?,
        "replace" => {
            run("cp", [path, &other])?;
            invert(&other)?;
            fs::rename(&other, path)?;
        }
        "change" => invert(path)?,
        _ => bail!("no such order"),
    }
    Ok(())
}

/// Changes every byte of a file, in place.
fn invert(path: &Path) -> Result<()> {
    let mut bytes = fs::read(path)?;
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    // Not truncated: the same file with the same size.
    let file = fs::File::options().write(true).open(path)?;
    Ok(std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0)?)
}
