//! The network, where the base is on a server: brought up, or waited for, and left alone by the root.
//!
//! A bare initramfs has nobody else: addresses of the word `ip=` that the kernel has not set by itself (it does so
//! only with CONFIG_IP_PNP, and before any module is loaded) are set here. Other initramfs do that in their own ways.

mod left_alone;
mod netlink;
mod words;

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

pub use self::left_alone::leave_alone;
use self::netlink::{Netlink, Way};
use self::words::{Static, Word};
use super::modules::Modules;

const LOOK: Duration = Duration::from_millis(100);

/// Where the kernel shows its interfaces.
const INTERFACES: &str = "/sys/class/net";

/// An only interface is taken for the one that is meant after so long: its neighbour may come a little later.
const SETTLE: Duration = Duration::from_secs(2);

/// Who sees to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// This process, by the words `ip=`.
    We,
    /// The same, and udev loads the drivers.
    WeAndUdev,
    /// The initramfs.
    Others,
}

/// Wait for a way to `server`, and see to it that there is one if nobody else does.
///
/// # Errors
/// There is none at `deadline`, or there will never be; with what is there.
pub(super) fn bring_up(
    server: IpAddr,
    words: &[String],
    who: Who,
    modules: &mut Modules,
    deadline: Instant,
) -> anyhow::Result<()> {
    let reaching = || format!("reaching the NFS server '{server}'");
    let netlink =
        Netlink::open().with_context(|| format!("{}: this kernel has no network", reaching()))?;
    let started = Instant::now();
    let mut todo = None;
    loop {
        if who == Who::We {
            modules.load_for_hardware();
        }
        let is_there = || usable_way(&netlink, server).with_context(reaching);
        if is_there()?.is_some() {
            return Ok(());
        }
        if who != Who::Others {
            // Only now: what the kernel has done itself stays as it is.
            let words = match todo.take() {
                Some(left) => left,
                None => to_do(words).with_context(reaching)?,
            };
            let is_settled = started.elapsed() >= SETTLE;
            todo = Some(apply(&netlink, words, is_settled).with_context(reaching)?);
            if is_there()?.is_some() {
                return Ok(());
            }
        }
        if Instant::now() >= deadline {
            let why = no_way(who, todo.as_deref().unwrap_or_default(), modules);
            bail!(
                "{}: no network: no way there after {} s; {why}",
                reaching(),
                started.elapsed().as_secs()
            );
        }
        std::thread::sleep(LOOK);
    }
}

/// The way to `server`, if this machine has an address by which it can be answered.
fn usable_way(netlink: &Netlink, server: IpAddr) -> anyhow::Result<Option<Way>> {
    let way = netlink.way_to(server).context("asking for a route")?;
    Ok(way.filter(|way| match way.source {
        // What every interface has by itself does not reach beyond the next router.
        Some(IpAddr::V6(source)) => !source.is_unicast_link_local(),
        Some(IpAddr::V4(_)) => true,
        None => false,
    }))
}

/// What the words say that is to be done.
fn to_do(words: &[String]) -> anyhow::Result<Vec<Word>> {
    const STATIC: &str = "ip=<address>::<gateway>:<netmask>::<device>:none";
    let words: Result<Vec<Word>, String> = words.iter().map(|word| Word::of(word)).collect();
    let words = words.map_err(anyhow::Error::msg)?;
    let is_asked = words.contains(&Word::Asked);
    let todo: Vec<Word> = words
        .into_iter()
        .filter(|word| matches!(word, Word::Static(_) | Word::Announced(_)))
        .collect();
    match (todo.is_empty(), is_asked) {
        (false, _) => Ok(todo),
        (true, true) => bail!(
            "no network: this initramfs asks nobody for an address, and the kernel has not done it (that takes \
             CONFIG_IP_PNP_DHCP and a driver that is no module); write one down, {STATIC}, or use an initramfs of \
             dracut, initramfs-tools, or mkinitcpio with its hook 'net'"
        ),
        (true, false) => bail!(
            "no network: the command line gives this machine no address; say {STATIC}, or ip=auto6 where IPv6 \
             routers announce one"
        ),
    }
}

/// Do what can be done now. What is left waits for its interface.
fn apply(netlink: &Netlink, words: Vec<Word>, is_settled: bool) -> anyhow::Result<Vec<Word>> {
    let mut left = Vec::new();
    for word in words {
        let device = match &word {
            Word::Static(word) => word.device.as_deref(),
            Word::Announced(device) => device.as_deref(),
            Word::Asked | Word::Off => continue,
        };
        let Some(interface) = interface(device, is_settled)? else {
            left.push(word);
            continue;
        };
        let configuring = || format!("configuring the interface '{interface}'");
        let index = index_of(&interface).with_context(configuring)?;
        netlink.set_up(index).with_context(configuring)?;
        if let Word::Static(word) = &word {
            configure(netlink, index, word).with_context(configuring)?;
        }
        log::debug!("interface '{interface}' configured: {word:?}");
    }
    Ok(left)
}

fn configure(netlink: &Netlink, index: u32, word: &Static) -> anyhow::Result<()> {
    let Static {
        address,
        prefix,
        gateway,
        host,
        ..
    } = word;
    netlink
        .add_address(index, *address, *prefix)
        .with_context(|| format!("giving it the address {address}/{prefix}"))?;
    if let Some(gateway) = gateway {
        netlink
            .add_gateway(index, *gateway)
            .with_context(|| format!("setting the gateway {gateway}; is it in its network?"))?;
    }
    if let Some(host) = host
        && let Err(error) = fs::write("/proc/sys/kernel/hostname", host)
    {
        log::debug!("setting the host's name '{host}': {error}");
    }
    Ok(())
}

/// The interface that is meant, if it is there.
fn interface(named: Option<&str>, is_settled: bool) -> anyhow::Result<Option<String>> {
    let there = interfaces();
    if let Some(named) = named {
        return Ok(there.into_iter().find(|name| name == named));
    }
    // Without hardware behind it an interface is one that somebody has made.
    let mut cards = there;
    cards.retain(|name| Path::new(INTERFACES).join(name).join("device").exists());
    match cards.as_slice() {
        [_, _, ..] => bail!(
            "there are several network interfaces, {}; name one in the word ip=",
            cards.join(", ")
        ),
        [one] if is_settled => Ok(Some(one.clone())),
        _ => Ok(None),
    }
}

/// All interfaces by name, but the one to this machine itself.
fn interfaces() -> Vec<String> {
    let there = fs::read_dir(INTERFACES).into_iter().flatten().flatten();
    let names = there.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != "lo").collect();
    names.sort();
    names
}

fn attribute(interface: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new(INTERFACES).join(interface).join(name)).ok()?;
    Some(text.trim().to_owned())
}

fn index_of(interface: &str) -> anyhow::Result<u32> {
    let index = attribute(interface, "ifindex").and_then(|index| index.parse().ok());
    index.context("it has gone")
}

/// The interface's name.
fn name_of(index: u32) -> Option<String> {
    let mut names = interfaces();
    names.push("lo".into());
    names
        .into_iter()
        .find(|name| index_of(name).is_ok_and(|found| found == index))
}

/// Why there may be no way.
fn no_way(who: Who, todo: &[Word], modules: &Modules) -> String {
    let state = |name: &String| {
        let state = attribute(name, "operstate").unwrap_or_default();
        format!("'{name}' ({state})")
    };
    let there: Vec<String> = interfaces().iter().map(state).collect();
    let there = match there.is_empty() {
        true => "no network interface at all".to_owned(),
        false => there.join(", "),
    };
    let mut text = match (who, todo) {
        (Who::Others, _) => format!(
            "is the initramfs told to bring the network up (ip=...; dracut: rd.neednet=1)? There is {there}"
        ),
        (Who::We | Who::WeAndUdev, []) => {
            format!("does the word ip= name the right network and gateway? There is {there}")
        }
        (Who::We | Who::WeAndUdev, _) => format!(
            "the interface that ip= means is not there; is its driver in the initramfs? There is {there}"
        ),
    };
    for driver in modules.refused() {
        text.push_str(&format!("\n  {driver}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn who_names_no_address_is_told_what_to_write_and_whom_to_use() {
        for (given, says) in [
            (vec![], "gives this machine no address; say ip=<address>"),
            (vec!["off"], "gives this machine no address"),
            (
                vec!["dhcp"],
                "an initramfs of dracut, initramfs-tools, or mkinitcpio with its hook 'net'",
            ),
            (vec!["10.0.2.15"], "names no netmask"),
        ] {
            let error = to_do(&words(&given)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let todo = to_do(&words(&["dhcp", "auto6"])).unwrap();
        assert_eq!(todo, [Word::Announced(None)]);
    }

    #[test]
    fn a_way_by_which_nobody_could_answer_is_none() {
        let netlink = Netlink::open().unwrap();
        let own: IpAddr = [127, 0, 0, 1].into();
        assert!(usable_way(&netlink, own).unwrap().is_some());
        assert_eq!(interface(Some("nonexistent0"), true).unwrap(), None);
    }
}
