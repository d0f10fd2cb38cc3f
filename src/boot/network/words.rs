//! The kernel's word `ip=`, as the kernel and other initramfs read it.

use std::net::{IpAddr, Ipv4Addr};

/// What a word says about the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// An interface has this address.
    Static(Static),
    /// An interface, or the only one, has what IPv6 routers announce.
    Announced(Option<String>),
    /// Somebody else is to be asked (DHCP and its like).
    Asked,
    /// Nothing is to be done.
    Off,
}

/// An address that was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Static {
    pub(super) address: IpAddr,
    /// Bits of it that all machines of the network have.
    pub(super) prefix: u8,
    pub(super) gateway: Option<IpAddr>,
    pub(super) host: Option<String>,
    pub(super) device: Option<String>,
}

const FORM: &str =
    "write ip=ADDRESS::GATEWAY:NETMASK:HOSTNAME:DEVICE:none, IPv6 addresses in brackets";

impl Word {
    /// Read the value of an `ip=`.
    ///
    /// # Errors
    /// What makes no sense in it.
    pub(super) fn of(value: &str) -> Result<Self, String> {
        let fields = fields(value);
        let field = |at: usize| {
            let field = fields.get(at).copied().unwrap_or_default();
            Some(field).filter(|field| !field.is_empty())
        };
        match (fields.as_slice(), field(0)) {
            ([how], _) if is_how(how) => Ok(Self::by(how, None)),
            ([device, how, ..], Some(_)) if is_how(how) => {
                Ok(Self::by(how, Some((*device).to_owned())))
            }
            // Who names no address wants one from somebody.
            (_, None) => Ok(Self::by(
                field(6).unwrap_or("any"),
                field(5).map(str::to_owned),
            )),
            (_, Some(address)) => {
                let how = field(6).unwrap_or("none");
                if !matches!(Self::by(how, None), Self::Off) {
                    return Err(format!(
                        "'ip={value}' gives an address and asks for one ('{how}'); say none there"
                    ));
                }
                let address = parsed(address, value)?;
                let mask =
                    field(3).ok_or_else(|| format!("'ip={value}' names no netmask; {FORM}"))?;
                Ok(Self::Static(Static {
                    address,
                    prefix: prefix(mask, address)
                        .ok_or_else(|| format!("'{mask}' in 'ip={value}' is no netmask; {FORM}"))?,
                    gateway: field(2).map(|gateway| parsed(gateway, value)).transpose()?,
                    host: field(4).map(str::to_owned),
                    device: field(5).map(str::to_owned),
                }))
            }
        }
    }

    fn by(how: &str, device: Option<String>) -> Self {
        match how {
            "off" | "none" | "static" => Self::Off,
            "auto6" | "link6" => Self::Announced(device),
            _ => Self::Asked,
        }
    }
}

/// Whether a field says how an address is come by.
fn is_how(field: &str) -> bool {
    const HOW: [&str; 14] = [
        "off",
        "none",
        "static",
        "on",
        "any",
        "dhcp",
        "dhcp4",
        "dhcp6",
        "single-dhcp",
        "bootp",
        "rarp",
        "both",
        "ibft",
        "either6",
    ];
    HOW.contains(&field) || matches!(field, "auto6" | "link6")
}

/// Split at colons outside brackets, which are taken off.
fn fields(value: &str) -> Vec<&str> {
    let mut is_bracketed = false;
    let fields = value.split(|letter| {
        is_bracketed = match letter {
            '[' => true,
            ']' => false,
            _ => is_bracketed,
        };
        letter == ':' && !is_bracketed
    });
    let bare = |field: &'_ str| -> Option<usize> {
        (field.starts_with('[') && field.ends_with(']')).then(|| field.len() - 1)
    };
    fields
        .map(|field| match bare(field) {
            Some(end) => field.get(1..end).unwrap_or_default(),
            None => field,
        })
        .collect()
}

fn parsed(address: &str, value: &str) -> Result<IpAddr, String> {
    let parsed = address.parse();
    parsed.map_err(|_| format!("'{address}' in 'ip={value}' is no address; {FORM}"))
}

/// A netmask as the kernel writes it (255.255.255.0), or as others do (24).
fn prefix(mask: &str, address: IpAddr) -> Option<u8> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    if let Ok(prefix) = mask.parse() {
        return Some(prefix).filter(|prefix| (1..=most).contains(prefix));
    }
    let mask: u32 = mask.parse::<Ipv4Addr>().ok()?.into();
    let is_mask = address.is_ipv4() && mask != 0 && mask.count_zeros() == mask.trailing_zeros();
    is_mask.then(|| u8::try_from(mask.leading_ones()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_written_down_is_read() {
        for (value, address, prefix, gateway, host, device) in [
            (
                "10.0.2.15::10.0.2.2:255.255.255.0:box:eth0:none",
                "10.0.2.15",
                24,
                Some("10.0.2.2"),
                Some("box"),
                Some("eth0"),
            ),
            (
                "10.0.2.15:10.0.2.2::255.255.0.0::eth0:off:9.9.9.9",
                "10.0.2.15",
                16,
                None,
                None,
                Some("eth0"),
            ),
            ("10.0.2.15:::8", "10.0.2.15", 8, None, None, None),
            (
                "[2001:db8::9]::[2001:db8::1]:64:box:eth1:none",
                "2001:db8::9",
                64,
                Some("2001:db8::1"),
                Some("box"),
                Some("eth1"),
            ),
        ] {
            let expected = Static {
                address: address.parse().unwrap(),
                prefix,
                gateway: gateway.map(|gateway| gateway.parse().unwrap()),
                host: host.map(str::to_owned),
                device: device.map(str::to_owned),
            };
            assert_eq!(Word::of(value), Ok(Word::Static(expected)), "{value}");
        }
    }

    #[test]
    fn how_else_one_comes_by_an_address_is_told_apart() {
        for (value, expected) in [
            ("dhcp", Word::Asked),
            ("on", Word::Asked),
            ("eth0:dhcp", Word::Asked),
            (":::::eth0:dhcp", Word::Asked),
            (":::::eth0", Word::Asked),
            ("", Word::Asked),
            ("ibft", Word::Asked),
            ("off", Word::Off),
            ("none", Word::Off),
            ("auto6", Word::Announced(None)),
            ("eth0:auto6", Word::Announced(Some("eth0".into()))),
            (":::::eth1:auto6", Word::Announced(Some("eth1".into()))),
        ] {
            assert_eq!(Word::of(value), Ok(expected), "{value}");
        }
        for (value, says) in [
            ("10.0.2.15", "names no netmask"),
            ("10.0.2.15:::255.0.255.0", "'255.0.255.0' in"),
            ("10.0.2.15:::33", "no netmask"),
            ("10.0.2.300:::24", "'10.0.2.300' in"),
            ("10.0.2.15::gate:24", "'gate' in"),
            ("10.0.2.15:::24::eth0:dhcp", "asks for one"),
            ("2001:db8::9::eth0:none", "is no address"),
            ("[2001:db8::9]:::255.255.255.0", "no netmask"),
        ] {
            let error = Word::of(value).unwrap_err();
            assert!(error.contains(says), "{value}: {error}");
        }
    }
}
