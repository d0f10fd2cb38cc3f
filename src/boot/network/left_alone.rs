//! The interface that carries the root is left alone by what the root starts: it must not be taken down, nor get
//! another address or name.
//!
//! Each of NetworkManager, systemd-networkd and ifupdown reads something below /run, which the root takes over.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;

use super::netlink::{Netlink, Way};
use super::{INTERFACES, name_of};

/// Tell the root's network services, in `run` (/run), to leave alone what reaches `server`.
///
/// # Errors
/// There is no way to the server, or the files cannot be written.
pub fn leave_alone(server: IpAddr, run: &Path) -> anyhow::Result<()> {
    let telling = || format!("having the network to '{server}' left alone by the root");
    let netlink = Netlink::open().with_context(telling)?;
    let way = netlink.way_to(server).with_context(telling)?;
    let way = way.with_context(telling)?;
    keep_address(&netlink, &way);
    let name = name_of(way.index).with_context(telling)?;
    let mut names = BTreeSet::new();
    with_those_below(Path::new(INTERFACES), &name, &mut names);
    log::debug!("left alone: {names:?}");
    tell(run, &names).with_context(telling)
}

/// Nobody renews the lease of an address from now on, and without one the root is lost.
fn keep_address(netlink: &Netlink, way: &Way) {
    let Some(IpAddr::V4(address)) = way.source else {
        return;
    };
    match netlink.keep_address(way.index, address) {
        Ok(true) => log::info!("the address {address} is kept, also when its lease ends"),
        Ok(false) => {}
        Err(error) => log::warn!(
            "keeping the address {address}: {error}; when its lease ends the root waits for ever"
        ),
    }
}

/// An interface and those that it is made of: a bridge's, a bond's, that of a VLAN.
fn with_those_below(interfaces: &Path, name: &str, names: &mut BTreeSet<String>) {
    if !names.insert(name.to_owned()) {
        return;
    }
    let entries = fs::read_dir(interfaces.join(name))
        .into_iter()
        .flatten()
        .flatten();
    for entry in entries {
        let entry = entry.file_name();
        if let Some(lower) = entry
            .to_str()
            .and_then(|entry| entry.strip_prefix("lower_"))
        {
            with_those_below(interfaces, lower, names);
        }
    }
}

fn tell(run: &Path, names: &BTreeSet<String>) -> anyhow::Result<()> {
    let write = |path: &str, text: &str| {
        let path = run.join(path);
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(run))?;
            fs::write(&path, text)
        };
        write().with_context(|| format!("writing '{}'", path.display()))
    };
    let devices: Vec<String> = names
        .iter()
        .map(|name| format!("interface-name:{name}"))
        .collect();
    write(
        "NetworkManager/conf.d/90-cowroot.conf",
        &format!("[keyfile]\nunmanaged-devices+={}\n", devices.join(";")),
    )?;
    for name in names {
        // udev would rename it, and then nothing below, nor what others say of it, would fit.
        write(
            &format!("systemd/network/00-cowroot-{name}.link"),
            &format!(
                "[Match]\nOriginalName={name}\n\n[Link]\nNamePolicy=keep\nMACAddressPolicy=none\n"
            ),
        )?;
        write(
            &format!("systemd/network/00-cowroot-{name}.network"),
            &format!("[Match]\nName={name}\n\n[Link]\nUnmanaged=yes\n"),
        )?;
        // ifup at a hotplug event.
        let unit = run.join(format!("systemd/system/ifup@{name}.service"));
        fs::create_dir_all(unit.parent().unwrap_or(run)).context("masking ifup")?;
        let _ = fs::remove_file(&unit);
        symlink("/dev/null", &unit).with_context(|| format!("masking '{}'", unit.display()))?;
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // It counts only what networkd manages, and would wait two minutes. A root that is there has come over the network.
    for instance in ["".to_owned()]
        .into_iter()
        .chain(names.iter().map(|name| format!("@{name}")))
    {
        let path =
            format!("systemd/system/systemd-networkd-wait-online{instance}.service.d/cowroot.conf");
        write(
            &path,
            &format!("[Unit]\nConditionPathExists=!/run/{path}\n"),
        )?;
    }
    // ifup -a and ifdown -a, which know no commas there.
    write(
        "systemd/system/networking.service.d/cowroot.conf",
        &format!(
            "[Service]\nEnvironment=\"EXCLUDE_INTERFACES={}\"\n",
            names.join(" ")
        ),
    )?;
    // For them without systemd: an interface that they think they have configured is not touched.
    for name in &names {
        write(&format!("network/ifstate.{name}"), &format!("{name}\n"))?;
    }
    let state: String = names
        .iter()
        .map(|name| format!("{name}={name}\n"))
        .collect();
    write("network/ifstate", &state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_comes_with_those_it_is_made_of() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "br0/lower_bond0",
            "bond0/lower_eth0",
            "bond0/lower_eth1",
            "eth0/upper_bond0",
            "eth1",
            "eth2",
        ] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        let mut names = BTreeSet::new();
        with_those_below(folder.path(), "br0", &mut names);
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["bond0", "br0", "eth0", "eth1"]
        );
    }

    #[test]
    fn each_service_finds_what_it_reads() {
        let run = tempfile::tempdir().unwrap();
        let names = BTreeSet::from(["eth0".to_owned(), "eth1".to_owned()]);
        tell(run.path(), &names).unwrap();
        tell(run.path(), &names).unwrap();
        for (path, says) in [
            (
                "NetworkManager/conf.d/90-cowroot.conf",
                "unmanaged-devices+=interface-name:eth0;interface-name:eth1",
            ),
            (
                "systemd/network/00-cowroot-eth0.network",
                "Name=eth0\n\n[Link]\nUnmanaged=yes",
            ),
            (
                "systemd/network/00-cowroot-eth1.link",
                "OriginalName=eth1\n\n[Link]\nNamePolicy=keep",
            ),
            (
                "systemd/system/networking.service.d/cowroot.conf",
                "Environment=\"EXCLUDE_INTERFACES=eth0 eth1\"\n",
            ),
            ("network/ifstate", "eth0=eth0\neth1=eth1\n"),
            ("network/ifstate.eth1", "eth1\n"),
            (
                "systemd/system/systemd-networkd-wait-online@eth0.service.d/cowroot.conf",
                "ConditionPathExists=!/run/systemd/system/systemd-networkd-wait-online@eth0.service.d/cowroot.conf\n",
            ),
            (
                "systemd/system/systemd-networkd-wait-online.service.d/cowroot.conf",
                "ConditionPathExists=!/run/systemd/",
            ),
        ] {
            let text = fs::read_to_string(run.path().join(path)).unwrap();
            assert!(text.contains(says), "{path}: {text}");
        }
        let masked = fs::read_link(run.path().join("systemd/system/ifup@eth0.service")).unwrap();
        assert_eq!(masked, Path::new("/dev/null"));
    }
}
