//! The kernel's network by rtnetlink: a link up, an address, a gateway, and which way to a server.
#![allow(
    clippy::host_endian_bytes,
    reason = "netlink speaks in the machine's own order"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
const HEAD_BYTES: usize = 16;

/// The way to another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// The interface's number.
    pub(super) index: u32,
    /// This machine's address on it.
    pub(super) source: Option<IpAddr>,
}

/// A socket to the kernel's network.
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    /// Open one.
    ///
    /// # Errors
    /// The kernel has no network.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?))
    }

    /// Switch an interface on.
    pub(super) fn set_up(&self, index: u32) -> io::Result<()> {
        const RTM_NEWLINK: u16 = 16;
        const IFF_UP: u32 = 1;
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        // The flags, and which of them to change.
        body.extend(IFF_UP.to_ne_bytes());
        body.extend(IFF_UP.to_ne_bytes());
        self.order(RTM_NEWLINK, 0, &body)
    }

    /// Give an interface an address, if it has not got it.
    pub(super) fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        const BROADCAST: u16 = 4;
        // The kernel would look for a second first whether another machine has an IPv6 address, and use none of
        // it meanwhile. This one was written down by somebody, and the boot waits for it.
        const IFA_F_NODAD: u8 = 2;
        let mut body = vec![family(address), prefix, IFA_F_NODAD, 0];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, IFA_LOCAL, &bytes(address));
        attribute(&mut body, IFA_ADDRESS, &bytes(address));
        if let (IpAddr::V4(address), 0..=30) = (address, prefix) {
            let broadcast = address.to_bits() | (u32::MAX >> prefix);
            attribute(&mut body, BROADCAST, &broadcast.to_be_bytes());
        }
        self.order(RTM_NEWADDR, CREATE | REPLACE, &body)
    }

    /// Have the kernel keep an address of this machine after its lease: an IPv4 one, for what IPv6 routers announce
    /// they renew. Whether there was something to do.
    pub(super) fn keep_address(&self, index: u32, address: Ipv4Addr) -> io::Result<bool> {
        let (ours, mut kept) = (IpAddr::V4(address), false);
        for found in self.addresses(family(ours))? {
            if let Some(body) = without_end(found, index, &bytes(ours)) {
                self.order(RTM_NEWADDR, REPLACE, &body)?;
                kept = true;
            }
        }
        Ok(kept)
    }

    /// The bodies of all that the kernel says of this machine's addresses.
    fn addresses(&self, family: u8) -> io::Result<Vec<Vec<u8>>> {
        const RTM_GETADDR: u16 = 22;
        const DUMP: u16 = 0x300;
        let mut found = Vec::new();
        self.send(RTM_GETADDR, DUMP, &[family, 0, 0, 0, 0, 0, 0, 0])?;
        while messages(&self.receive()?, &mut found)? {}
        Ok(found)
    }

    /// Let all other networks be behind `gateway`.
    pub(super) fn add_gateway(&self, index: u32, gateway: IpAddr) -> io::Result<()> {
        const RTM_NEWROUTE: u16 = 24;
        const MAIN_TABLE: u8 = 254;
        const BY_BOOT: u8 = 3;
        const UNICAST: u8 = 1;
        let mut body = vec![family(gateway), 0, 0, 0, MAIN_TABLE, BY_BOOT, 0, UNICAST];
        body.extend([0; 4]);
        attribute(&mut body, RTA_GATEWAY, &bytes(gateway));
        attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
        self.order(RTM_NEWROUTE, CREATE | REPLACE, &body)
    }

    /// The way to `target`; `None` if there is none.
    pub(super) fn way_to(&self, target: IpAddr) -> io::Result<Option<Way>> {
        const RTM_GETROUTE: u16 = 26;
        let address = bytes(target);
        let bits = u8::try_from(address.len() * 8).unwrap_or_default();
        let mut body = vec![family(target), bits];
        body.extend([0; 10]);
        attribute(&mut body, RTA_DST, &address);
        match self.ask(RTM_GETROUTE, 0, &body) {
            Ok(answer) => Ok(way(&answer)),
            Err(error) => match error.raw_os_error() {
                // The last two: this kernel has no such addresses, or not yet.
                Some(
                    libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EAFNOSUPPORT | libc::EOPNOTSUPP,
                ) => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn order(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.ask(kind, flags | ACK, body).map(drop)
    }

    /// Send one message, and get the answer's body.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.send(kind, flags, body)?;
        answered(&self.receive()?)
    }

    fn send(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(HEAD_BYTES + body.len()).unwrap_or_default();
        let mut message = len.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((flags | REQUEST).to_ne_bytes());
        message.extend([0; 8]);
        message.extend_from_slice(body);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        Ok(())
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        // The kernel sends no larger ones, unless asked with a larger one.
        let mut answer = vec![0; 32 << 10];
        let got = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        answer.truncate(got);
        Ok(answer)
    }
}

const RTM_NEWADDR: u16 = 20;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;

fn family(address: IpAddr) -> u8 {
    let family = match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    u8::try_from(family).unwrap_or_default()
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Append an attribute, padded as the kernel wants it.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).unwrap_or_default();
    body.extend(len.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The body of an answer, or the error that it tells.
fn answered(answer: &[u8]) -> io::Result<Vec<u8>> {
    const ERROR: u16 = 2;
    let nonsense = || io::Error::from(io::ErrorKind::InvalidData);
    let (head, body) = answer.split_at_checked(HEAD_BYTES).ok_or_else(nonsense)?;
    let kind = head.get(4..).and_then(|head| head.first_chunk());
    if kind.map(|kind| u16::from_ne_bytes(*kind)) != Some(ERROR) {
        return Ok(body.to_vec());
    }
    match body.first_chunk().map(|errno| i32::from_ne_bytes(*errno)) {
        Some(0) => Ok(Vec::new()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
        None => Err(nonsense()),
    }
}

/// What a route's message says.
fn way(body: &[u8]) -> Option<Way> {
    const ROUTE_BYTES: usize = 12;
    let (mut index, mut source) = (None, None);
    for (kind, place) in attributes(body, ROUTE_BYTES)? {
        let value = body.get(place)?;
        match kind {
            RTA_OIF => index = value.first_chunk().map(|index| u32::from_ne_bytes(*index)),
            RTA_PREFSRC => {
                let four = <[u8; 4]>::try_from(value).map(IpAddr::from);
                source = four.or(<[u8; 16]>::try_from(value).map(IpAddr::from)).ok();
            }
            _ => {}
        }
    }
    index.map(|index| Way { index, source })
}

/// The attributes behind the first `at` bytes of a message's body: their kinds, and where their values are.
fn attributes(body: &[u8], mut at: usize) -> Option<Vec<(u16, Range<usize>)>> {
    let mut found = Vec::new();
    while let Some((head, _)) = body.get(at..)?.split_first_chunk::<4>() {
        let [len_low, len_high, kind_low, kind_high] = *head;
        let len = usize::from(u16::from_ne_bytes([len_low, len_high]));
        let end = at
            .checked_add(len)
            .filter(|end| len >= 4 && *end <= body.len())?;
        found.push((u16::from_ne_bytes([kind_low, kind_high]), at + 4..end));
        at = end.next_multiple_of(4).min(body.len());
    }
    Some(found)
}

/// Put the bodies of a datagram's messages into `found`; whether more are to come.
fn messages(mut datagram: &[u8], found: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    let nonsense = || io::Error::from(io::ErrorKind::InvalidData);
    while let Some((head, _)) = datagram.split_first_chunk::<8>() {
        let [a, b, c, d, kind_low, kind_high, ..] = *head;
        let len = u32::from_ne_bytes([a, b, c, d]);
        let len = usize::try_from(len).map_err(|_| nonsense())?;
        let message = datagram.get(..len).ok_or_else(nonsense)?;
        let body = message.get(HEAD_BYTES..).ok_or_else(nonsense)?;
        match u16::from_ne_bytes([kind_low, kind_high]) {
            DONE => return Ok(false),
            ERROR => return answered(message).map(|_| false),
            _ => found.push(body.to_vec()),
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// The message of an address that is `ours` and will end, as one that does not; `None` for others.
fn without_end(mut body: Vec<u8>, index: u32, ours: &[u8]) -> Option<Vec<u8>> {
    const ADDRESS_BYTES: usize = 8;
    const FOR_EVER: [u8; 4] = u32::MAX.to_ne_bytes();
    if body.get(4..ADDRESS_BYTES)? != index.to_ne_bytes() {
        return None;
    }
    let attributes = attributes(&body, ADDRESS_BYTES)?;
    let place = |kind| {
        let mut all = attributes.iter();
        all.find_map(|(found, place)| (*found == kind).then(|| place.clone()))
    };
    // Between two machines the other's is the address.
    let own = place(IFA_LOCAL).or_else(|| place(IFA_ADDRESS))?;
    let lifetimes = place(IFA_CACHEINFO)?;
    let is_ours = body.get(own)? == ours;
    // First how long it is preferred, then how long it is valid.
    let lifetimes = body.get_mut(lifetimes)?.first_chunk_mut::<8>()?;
    let ends = lifetimes.last_chunk::<4>() != Some(&FOR_EVER);
    lifetimes.fill(u8::MAX);
    (is_ours && ends).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_oneself_is_there_without_any_right() {
        let netlink = Netlink::open().unwrap();
        let own: IpAddr = [127, 0, 0, 1].into();
        let way = netlink.way_to(own).unwrap().unwrap();
        assert_eq!(way.source, Some(own));
        let name = super::super::name_of(way.index);
        assert_eq!(name.as_deref(), Some("lo"));
    }

    #[test]
    fn all_addresses_are_listed_and_those_that_do_not_end_stay() {
        let netlink = Netlink::open().unwrap();
        let own: IpAddr = [127, 0, 0, 1].into();
        let index = netlink.way_to(own).unwrap().unwrap().index;
        let all = netlink.addresses(family(own)).unwrap();
        let is_there = |body: &Vec<u8>| body.get(4..8) == Some(&index.to_ne_bytes()[..]);
        assert!(all.iter().any(is_there), "{all:?}");
        // Without any right it could not change one.
        assert!(!netlink.keep_address(index, [127, 0, 0, 1].into()).unwrap());
    }

    #[test]
    fn an_address_that_ends_is_kept_with_all_else_that_is_said_of_it() {
        let of = |lifetimes: [u32; 4]| {
            let mut body = vec![2, 24, 0, 0];
            body.extend(7u32.to_ne_bytes());
            attribute(&mut body, IFA_ADDRESS, &[10, 0, 2, 15]);
            attribute(&mut body, IFA_LOCAL, &[10, 0, 2, 15]);
            let lifetimes: Vec<u8> = lifetimes.into_iter().flat_map(u32::to_ne_bytes).collect();
            attribute(&mut body, IFA_CACHEINFO, &lifetimes);
            attribute(&mut body, 9, &1024u32.to_ne_bytes());
            body
        };
        let ends = of([3600, 7200, 5, 6]);
        let for_ever = of([u32::MAX, u32::MAX, 5, 6]);
        let own = [10, 0, 2, 15];
        assert_eq!(without_end(ends.clone(), 7, &own), Some(for_ever.clone()));
        assert_eq!(without_end(for_ever, 7, &own), None, "it does not end");
        assert_eq!(
            without_end(ends.clone(), 8, &own),
            None,
            "another interface"
        );
        assert_eq!(without_end(ends.clone(), 7, &[10, 0, 2, 16]), None);
        for cut in 0..ends.len() {
            let _ = without_end(ends[..cut].to_vec(), 7, &own);
        }
    }

    #[test]
    fn a_dump_is_read_to_its_end() {
        let message = |kind: u16, body: &[u8]| {
            let len = u32::try_from(HEAD_BYTES + body.len()).unwrap();
            let mut message = len.to_ne_bytes().to_vec();
            message.extend(kind.to_ne_bytes());
            message.resize(HEAD_BYTES, 0);
            message.extend(body);
            message
        };
        let mut found = Vec::new();
        let datagram = [message(20, &[1; 4]), message(20, &[2; 8])].concat();
        assert!(messages(&datagram, &mut found).unwrap());
        assert!(!messages(&message(3, &[0; 4]), &mut found).unwrap());
        assert_eq!(found, [vec![1; 4], vec![2; 8]]);
        let refused = message(2, &(-1i32).to_ne_bytes());
        let error = messages(&refused, &mut found).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        for nonsense in [[0; HEAD_BYTES], [255; HEAD_BYTES]] {
            assert!(messages(&nonsense, &mut found).is_err());
        }
    }

    #[test]
    fn what_the_kernel_says_is_never_read_beyond_its_end() {
        let mut body = vec![0; 12];
        attribute(&mut body, RTA_OIF, &7u32.to_ne_bytes());
        attribute(&mut body, RTA_PREFSRC, &[10, 0, 2, 15]);
        let expected = Way {
            index: 7,
            source: Some([10, 0, 2, 15].into()),
        };
        assert_eq!(way(&body), Some(expected));
        for len in 0..body.len() {
            let _ = way(&body[..len]);
        }
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..6)).collect();
            let _ = (way(&bytes), answered(&bytes));
        }
        assert_eq!(answered(&[0; 20]).unwrap(), [0; 4]);
    }
}
