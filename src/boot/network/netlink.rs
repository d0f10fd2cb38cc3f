//! The kernel's network by rtnetlink: a link up, an address, a gateway, and which way to a server.
#![allow(
    clippy::host_endian_bytes,
    reason = "netlink speaks in the machine's own order"
)]

use std::io;
use std::net::IpAddr;
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
        const RTM_NEWADDR: u16 = 20;
        const ADDRESS: u16 = 1;
        const LOCAL: u16 = 2;
        const BROADCAST: u16 = 4;
        // The kernel would look for a second first whether another machine has an IPv6 address, and use none of
        // it meanwhile. This one was written down by somebody, and the boot waits for it.
        const IFA_F_NODAD: u8 = 2;
        let mut body = vec![family(address), prefix, IFA_F_NODAD, 0];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, LOCAL, &bytes(address));
        attribute(&mut body, ADDRESS, &bytes(address));
        if let (IpAddr::V4(address), 0..=30) = (address, prefix) {
            let broadcast = address.to_bits() | (u32::MAX >> prefix);
            attribute(&mut body, BROADCAST, &broadcast.to_be_bytes());
        }
        self.order(RTM_NEWADDR, CREATE | REPLACE, &body)
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
        let len = u32::try_from(HEAD_BYTES + body.len()).unwrap_or_default();
        let mut message = len.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((flags | REQUEST).to_ne_bytes());
        message.extend([0; 8]);
        message.extend_from_slice(body);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = vec![0; 8192];
        let got = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        answer.truncate(got);
        answered(&answer)
    }
}

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
    let mut rest = body.get(ROUTE_BYTES..)?;
    let (mut index, mut source) = (None, None);
    while let Some((head, _)) = rest.split_first_chunk::<4>() {
        let [len_low, len_high, kind_low, kind_high] = *head;
        let len = usize::from(u16::from_ne_bytes([len_low, len_high]));
        let value = rest.get(4..len)?;
        match u16::from_ne_bytes([kind_low, kind_high]) {
            RTA_OIF => index = value.first_chunk().map(|index| u32::from_ne_bytes(*index)),
            RTA_PREFSRC => {
                let four = <[u8; 4]>::try_from(value).map(IpAddr::from);
                source = four.or(<[u8; 16]>::try_from(value).map(IpAddr::from)).ok();
            }
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    index.map(|index| Way { index, source })
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
