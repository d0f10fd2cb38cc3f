//! The kernel's NFS server, in a VM that the guest shares a network with.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::kernel::Kernel;
use crate::media::Medium;
use crate::qemu::Machine;
use crate::qmp::Qmp;
use crate::run::Bed;

/// What the guest's initramfs is asked for in this VM.
const WORDS: &str = "console=ttyS0 panic=1 cowtest=nfs-server";

/// It takes 20 to 35 s on a quiet machine.
const READY: Duration = Duration::from_secs(180);
/// An order is done within this.
const DONE: Duration = Duration::from_secs(60);

/// The server's VM.
#[derive(Debug)]
pub(super) struct ServerVm {
    child: Child,
    /// Its second serial line: orders in, answers out.
    line: BufReader<UnixStream>,
    /// Sockets, in a folder whose name is short enough for them.
    sockets: tempfile::TempDir,
    disk: PathBuf,
}

impl ServerVm {
    /// Starts it with the disk that it exports, and waits until it does.
    pub(super) fn start(
        bed: &Bed,
        (kernel, initramfs): (&Kernel, PathBuf),
        medium: (Medium, PathBuf),
        words: &str,
        dir: &Path,
    ) -> Result<Self> {
        let sockets = tempfile::tempdir()?;
        let disk = medium.1.clone();
        let machine = Machine {
            accel: bed.accel,
            memory_mib: 384,
            memory_at_once: false,
            cut: None,
            firmware: None,
            vmlinuz: kernel.vmlinuz.clone(),
            initramfs,
            words: format!("{WORDS} {words}"),
            media: vec![medium],
            network: None,
        };
        let path = |name: &str| sockets.path().join(name).display().to_string();
        let mut qemu = machine.command();
        qemu.args(["-netdev", &netdev(&path("server"), &path("guest"))])
            .args([
                "-device",
                "virtio-net-pci,netdev=net0,mac=52:54:00:76:00:01",
            ])
            .args([
                "-serial",
                "stdio",
                "-serial",
                &format!("unix:{},server=on,wait=on", path("orders")),
            ])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", path("qmp"))])
            .stdout(File::create(dir.join("server.log"))?)
            .stderr(Stdio::inherit());
        let mut child = qemu.spawn().context("starting the server's VM")?;
        let deadline = Instant::now() + READY;
        let line = loop {
            match UnixStream::connect(path("orders")) {
                Ok(line) => break line,
                Err(_) if Instant::now() < deadline && child.try_wait()?.is_none() => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => {
                    let _ = child.kill();
                    bail!("starting the server's VM: {error}");
                }
            }
        };
        let line = BufReader::new(line);
        let mut server = Self {
            child,
            line,
            sockets,
            disk,
        };
        server.heard("ready", READY).with_context(|| {
            format!(
                "starting the server; see '{}'",
                dir.join("server.log").display()
            )
        })?;
        Ok(server)
    }

    /// The guest's end of the network.
    pub(super) fn netdev(&self) -> String {
        let path = |name: &str| self.sockets.path().join(name).display().to_string();
        netdev(&path("guest"), &path("server"))
    }

    /// Does what the guest asks for: the whole machine stands still, or it does the rest itself.
    pub(super) fn obey(&mut self, order: &str) -> Result<()> {
        let monitor = self.sockets.path().join("qmp");
        let call = |name: &str| Qmp::connect(&monitor)?.call(name, &json!({})).map(drop);
        match order {
            "stop" => call("stop"),
            "start" => call("cont"),
            _ => {
                writeln!(self.line.get_mut(), "{order}")?;
                self.heard("done", DONE)
            }
        }
    }

    fn heard(&mut self, expected: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut said = String::new();
        while Instant::now() < deadline {
            self.line.get_ref().set_read_timeout(Some(limit))?;
            let got = self.line.read_line(&mut said);
            ensure!(
                got.context("hearing the server")? > 0,
                "the server's VM ended; it said '{said}'"
            );
            match said.lines().next_back() {
                Some(line) if line.contains(&format!("COWROOT-TEST {expected}")) => return Ok(()),
                Some(line) if line.contains(" FAILED") => bail!("the server says '{line}'"),
                _ => {}
            }
        }
        bail!("the server did not say '{expected}', but '{said}'")
    }
}

impl Drop for ServerVm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.disk);
    }
}

/// A network of two: each end is a socket that knows the other's.
fn netdev(own: &str, other: &str) -> String {
    format!("dgram,id=net0,local.type=unix,local.path={own},remote.type=unix,remote.path={other}")
}
