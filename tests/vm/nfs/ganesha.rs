//! nfs-ganesha, a server in user space, on this machine and for its own guests only.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::command::run;
use crate::packages::Tree;
use crate::run::Bed;

const PACKAGES: [&str; 2] = ["nfs-ganesha", "nfs-ganesha-vfs"];

/// Its own library, and its plug-ins.
const LIBRARIES: [&str; 2] = ["usr/lib/ganesha", "usr/lib/x86_64-linux-gnu/ganesha"];

/// It begins to serve within this time.
const READY: Duration = Duration::from_secs(60);

/// The server, which runs or is away.
#[derive(Debug)]
pub(super) struct Ganesha {
    tree: Tree,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Ganesha {
    /// Has it serve a copy of `base`.
    pub(super) fn start(bed: &Bed, minor: &str, base: &Path, dir: &Path) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let mut server = Self {
            tree: Tree::get(&bed.cache, &bed.apt, &PACKAGES)?,
            dir: dir.join("ganesha"),
            port,
            child: None,
        };
        let _absent = fs::remove_dir_all(&server.dir);
        let image = server.export().join(super::IMAGE);
        fs::create_dir_all(image.parent().context("the image's folder")?)?;
        fs::create_dir_all(server.dir.join("recovery"))?;
        run(
            "cp",
            [
                "--sparse=always".as_ref(),
                base.as_os_str(),
                image.as_os_str(),
            ],
        )?;
        fs::write(server.dir.join("conf"), server.settings(minor))?;
        server.serve()?;
        Ok(server)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The exported folder.
    pub(super) fn export(&self) -> PathBuf {
        self.dir.join("export")
    }

    fn settings(&self, minor: &str) -> String {
        let plugins = self.tree.path("usr/lib/x86_64-linux-gnu/ganesha");
        let (plugins, export) = (plugins.display(), self.export());
        let (export, recovery) = (export.display(), self.dir.join("recovery"));
        // PrivilegedPort: slirp does not come from one. Attr_Expiration_Time: what changes in the folder is seen, as
        // with the kernel's server.
        format!(
            "NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = {}; Bind_addr = 127.0.0.1; Plugins_Dir = \"{plugins}\"; \
             allow_set_io_flusher_fail = true; Enable_NLM = false; Enable_RQUOTA = false; }}\n\
             NFSV4 {{ Grace_Period = 5; Lease_Lifetime = 10; Minor_Versions = {minor}; RecoveryBackend = fs; \
             RecoveryRoot = \"{}\"; Only_Numeric_Owners = true; UseGetpwnam = true; DomainName = \"test\"; }}\n\
             NFS_KRB5 {{ Active_krb5 = false; }}\n\
             EXPORT {{ Export_Id = 1; Path = \"{export}\"; Pseudo = \"/export\"; Access_Type = RO; \
             Squash = No_Root_Squash; SecType = sys; Protocols = 4; PrivilegedPort = false; Attr_Expiration_Time = 0; \
             FSAL {{ Name = VFS; }} }}\n\
             LOG {{ Default_Log_Level = EVENT; }}\n",
            self.port,
            recovery.display(),
        )
    }

    /// Has it run, and waits until it answers.
    pub(super) fn serve(&mut self) -> Result<()> {
        let root = nix::unistd::geteuid().is_root();
        ensure!(
            root,
            "starting nfs-ganesha: it opens files by handle (CAP_DAC_READ_SEARCH), so run this case as root"
        );
        let log = self.dir.join("log");
        let mut ganesha = self.tree.command("usr/bin/ganesha.nfsd", &LIBRARIES);
        ganesha
            .arg("-F")
            .arg("-f")
            .arg(self.dir.join("conf"))
            .arg("-L")
            .arg(&log)
            .arg("-p")
            .arg(self.dir.join("pid"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = ganesha.spawn().context("starting nfs-ganesha")?;
        let deadline = Instant::now() + READY;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "starting nfs-ganesha: {status}; '{}' says why",
                    log.display()
                );
            }
            if Instant::now() > deadline {
                child.kill()?;
                bail!(
                    "starting nfs-ganesha: not ready; '{}' may say why",
                    log.display()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.child = Some(child);
        Ok(())
    }

    /// Takes it away at once, as if its machine had lost its power.
    pub(super) fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Ganesha {
    fn drop(&mut self) {
        let _ = self.stop();
        let _ = fs::remove_dir_all(self.export());
    }
}
