//! One field of a set's key, or a map's value, as the kernel has it: the text
//! that nft reads → bytes. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::topology::MacAddr;

/// What a field is, as far as its bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) enum Field {
    /// A link's name, of 16 bytes.
    Name,
    /// A link's MAC.
    Mac,
    Ip4,
    Ip6,
    /// A number of that many bytes, in the network's order.
    Network(usize),
    /// A number of four bytes, in the host's order.
    Host,
    Protocol,
    /// `NFPROTO_*`.
    Family,
}

/// The first and the last value that a text means.
pub(in crate::firewall) type Range = (Vec<u8>, Vec<u8>);

impl Field {
    /// What nft calls it behind `type`, or, of what this version's template says
    /// there, behind `typeof`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ifname" | "iifname" | "oifname" => Self::Name,
            "ether_addr" => Self::Mac,
            "ipv4_addr" => Self::Ip4,
            "ipv6_addr" => Self::Ip6,
            "inet_service" => Self::Network(2),
            "inet_proto" => Self::Protocol,
            "nf_proto" => Self::Family,
            "iface_index" | "devgroup" | "mark" | "iif" | "oif" | "iifgroup" | "oifgroup" | "meta mark"
            | "ct mark" => Self::Host,
            raw => {
                let bits: usize = raw.strip_prefix('@')?.rsplit(',').next()?.parse().ok()?;
                (bits.is_multiple_of(8) && (8..=128).contains(&bits)).then_some(Self::Network(bits / 8))?
            }
        })
    }

    /// The bytes of a text; nothing where it isn't one that hostctl writes. In a
    /// set of intervals, all numbers are compared byte by byte.
    pub fn read(self, text: &str, intervals: bool) -> Option<Range> {
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let one = |text: &str| self.value(text, intervals);
        if let Some(value) = one(text) {
            return Some((value.clone(), value));
        }
        // A name may have these too.
        if self == Self::Name || !intervals {
            return None;
        }
        if let Some((net, bits)) = text.split_once('/') {
            return prefix(one(net)?, bits.parse().ok()?);
        }
        let (first, last) = text.split_once('-')?;
        let (first, last) = (one(first)?, one(last)?);
        (first <= last).then_some((first, last))
    }

    fn value(self, text: &str, intervals: bool) -> Option<Vec<u8>> {
        Some(match self {
            Self::Name => {
                let mut name = text.as_bytes().to_vec();
                // What ends in a star is any name that begins so.
                let plain = !name.is_empty() && name.len() < 16 && !name.contains(&b'*');
                plain.then(|| name.resize(16, 0))?;
                name
            }
            Self::Mac => text.parse::<MacAddr>().ok()?.octets().to_vec(),
            Self::Ip4 => text.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
            Self::Ip6 => text.parse::<Ipv6Addr>().ok()?.octets().to_vec(),
            Self::Network(size) => {
                let bytes = number(text)?.to_be_bytes();
                let (high, low) = bytes.split_at(bytes.len().checked_sub(size)?);
                high.iter().all(|byte| *byte == 0).then(|| low.to_vec())?
            }
            Self::Host => {
                let number = u32::try_from(number(text)?).ok()?;
                if intervals { number.to_be_bytes() } else { number.to_ne_bytes() }.to_vec()
            }
            Self::Protocol => vec![protocol(text)?],
            Self::Family => vec![match text {
                "ipv4" => 2,
                "ipv6" => 10,
                _ => return None,
            }],
        })
    }
}

fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(digits) => u128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Those that nft lists by a name, whatever it read.
fn protocol(text: &str) -> Option<u8> {
    Some(match text {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "ipv6-icmp" | "icmpv6" => 58,
        "comp" => 108,
        "sctp" => 132,
        "udplite" => 136,
        number => number.parse().ok()?,
    })
}

fn prefix(net: Vec<u8>, bits: usize) -> Option<Range> {
    if bits > net.len() * 8 {
        return None;
    }
    let mask = |index: usize| match bits.saturating_sub(index * 8) {
        0 => 0,
        left @ 1..8 => 0xff_u8 << (8 - left),
        _ => 0xff,
    };
    let first: Vec<u8> = net.iter().enumerate().map(|(index, byte)| byte & mask(index)).collect();
    let last = first.iter().enumerate().map(|(index, byte)| byte | !mask(index)).collect();
    // Another text than nft writes isn't understood.
    (first == net).then_some((first, last))
}

/// The value after one; nothing after the last.
pub(in crate::firewall) fn after(value: &[u8]) -> Option<Vec<u8>> {
    let mut next = value.to_vec();
    for byte in next.iter_mut().rev() {
        match byte.checked_add(1) {
            Some(more) => {
                *byte = more;
                return Some(next);
            }
            None => *byte = 0,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str, intervals: bool) -> Option<Range> {
        Field::named(name).unwrap().read(text, intervals)
    }

    fn one(bytes: &[u8]) -> Option<Range> {
        Some((bytes.to_vec(), bytes.to_vec()))
    }

    #[test]
    fn fields_are_as_the_kernel_has_them() {
        assert_eq!(read("ifname", "\"br-a\"", false), one(b"br-a\0\0\0\0\0\0\0\0\0\0\0\0"));
        assert_eq!(read("ether_addr", "02:00:00:00:00:01", false), one(&[2, 0, 0, 0, 0, 1]));
        assert_eq!(read("iface_index", "\"258\"", false), one(&258_u32.to_ne_bytes()));
        assert_eq!(read("iface_index", "258", true), one(&[0, 0, 1, 2]));
        assert_eq!(read("mark", "0x01000000", false), one(&0x0100_0000_u32.to_ne_bytes()));
        assert_eq!(read("inet_service", "258", false), one(&[1, 2]));
        assert_eq!(read("inet_service", "80-90", true), Some((vec![0, 80], vec![0, 90])));
        assert_eq!(read("inet_proto", "ipv6-icmp", false), one(&[58]));
        assert_eq!(read("nf_proto", "ipv6", false), one(&[10]));
        assert_eq!(read("@th,64,128", "0x1", false), one(&1_u128.to_be_bytes()));
        assert_eq!(read("ipv4_addr", "10.1.0.0/15", true), None, "bits beyond the prefix");
        let half = Some((vec![10, 2, 0, 0], vec![10, 3, 255, 255]));
        assert_eq!(read("ipv4_addr", "10.2.0.0/15", true), half);
        assert_eq!(read("ipv4_addr", "10.2.0.0-10.3.255.255", true), half);
        assert_eq!(read("ipv6_addr", "::/0", true), Some((vec![0; 16], vec![0xff; 16])));
    }

    #[test]
    fn what_isnt_understood_isnt_guessed() {
        for (name, text) in [
            ("ifname", ""),
            ("ifname", "br-*"),
            ("ifname", "a-name-of-sixteen"),
            ("ipv4_addr", "10.0.0"),
            ("ipv4_addr", "10.0.0.0/33"),
            ("ipv4_addr", "10.0.0.2-10.0.0.1"),
            ("inet_service", "65536"),
            ("inet_service", "http"),
            ("inet_proto", "256"),
            ("iface_index", "4294967296"),
            ("nf_proto", "arp"),
        ] {
            assert_eq!(read(name, text, true), None, "{name} {text}");
        }
        assert_eq!(read("ipv4_addr", "10.0.0.0/8", false), None, "no intervals there");
        assert_eq!(Field::named("@th,64,12"), None);
        assert_eq!(Field::named("string"), None);
    }

    #[test]
    fn the_last_value_has_none_after_it() {
        assert_eq!(after(&[10, 255]), Some(vec![11, 0]));
        assert_eq!(after(&[255, 255]), None);
    }
}
