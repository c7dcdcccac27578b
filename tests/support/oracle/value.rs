//! The values that nft's JSON names, as numbers: each field of a packet has a
//! type, and each type its words.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use serde_json::Value;

use super::Unknown;

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// At most 15 bytes of text.
    Name,
    /// A link's number.
    Index,
    Ether,
    Ipv4,
    Ipv6,
    Protocol,
    Service,
    /// What a frame carries.
    Payload,
    Icmp,
    Icmpv6,
    Igmp,
    Family,
    CtState,
    CtStatus,
    CtDirection,
    /// To whom a frame is.
    Addressed,
    ArpOperation,
    TcpFlags,
    Boolean,
    Integer,
}

/// Both ends included.
pub type Range = (u128, u128);

const ICMP: &[(&str, u128)] = &[
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
];

const ICMPV6: &[(&str, u128)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
    ("nd-redirect", 137),
    ("router-renumbering", 138),
    ("ind-neighbor-solicit", 141),
    ("ind-neighbor-advert", 142),
    ("mld2-listener-report", 143),
];

const PROTOCOLS: &[(&str, u128)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("comp", 108),
    ("ipcomp", 108),
    ("sctp", 132),
    ("udplite", 136),
];

/// The machine's own names of protocols, by which nft prints them.
static NAMES: LazyLock<HashMap<String, u128>> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/etc/protocols").unwrap_or_default();
    let entry = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        Some((words.next()?.to_string(), words.next()?.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
});

impl Type {
    /// What nft calls it in a set's `type`.
    pub fn named(name: &str) -> Result<Self, Unknown> {
        Ok(match name {
            "ifname" => Self::Name,
            "iface_index" => Self::Index,
            "ether_addr" => Self::Ether,
            "ipv4_addr" => Self::Ipv4,
            "ipv6_addr" => Self::Ipv6,
            "inet_proto" => Self::Protocol,
            "inet_service" => Self::Service,
            "nf_proto" => Self::Family,
            "integer" => Self::Integer,
            _ => return Err(Unknown(format!("type {name}"))),
        })
    }

    fn words(self) -> &'static [(&'static str, u128)] {
        match self {
            Self::Protocol => PROTOCOLS,
            Self::Icmp => ICMP,
            Self::Icmpv6 => ICMPV6,
            Self::Igmp => &[("membership-query", 0x11)],
            Self::Payload => &[("ip", 0x0800), ("arp", 0x0806), ("ip6", 0x86dd)],
            Self::Family => &[("ipv4", 2), ("ipv6", 10)],
            Self::CtState => {
                &[("invalid", 1), ("established", 2), ("related", 4), ("new", 8), ("untracked", 64)]
            }
            Self::CtStatus => &[("confirmed", 8), ("snat", 0x10), ("dnat", 0x20)],
            Self::CtDirection => &[("original", 0), ("reply", 1)],
            Self::Addressed => &[("host", 0), ("broadcast", 1), ("multicast", 2), ("other", 3)],
            Self::ArpOperation => &[("request", 1), ("reply", 2)],
            Self::TcpFlags => &[("fin", 1), ("syn", 2), ("rst", 4), ("psh", 8), ("ack", 16)],
            _ => &[],
        }
    }

    fn bits(self) -> u32 {
        match self {
            Self::Ipv4 => 32,
            _ => 128,
        }
    }

    /// A single value.
    pub fn number(self, value: &Value) -> Result<u128, Unknown> {
        let unknown = || Unknown(format!("{value} as {self:?}"));
        match value {
            Value::Number(number) if self != Self::Name => {
                number.as_u64().map(u128::from).ok_or_else(unknown)
            }
            Value::Bool(value) if self == Self::Boolean => Ok(u128::from(*value)),
            Value::String(text) => self.text(text).ok_or_else(unknown),
            // Flags are or-ed; nft 1.1 says so.
            Value::Array(values) if self == Self::TcpFlags => {
                values.iter().try_fold(0, |flags, value| Ok(flags | self.number(value)?))
            }
            Value::Object(ored) if self == Self::TcpFlags && ored.len() == 1 => {
                self.number(ored.get("|").filter(|flags| flags.is_array()).ok_or_else(unknown)?)
            }
            _ => Err(unknown()),
        }
    }

    fn text(self, text: &str) -> Option<u128> {
        match self {
            Self::Name => name(text),
            Self::Index => text.parse().ok(),
            Self::Ether => {
                let octets: Result<Vec<u8>, _> =
                    text.split(':').map(|part| u8::from_str_radix(part, 16)).collect();
                let octets = octets.ok().filter(|octets| octets.len() == 6)?;
                Some(octets.into_iter().fold(0, |sum, octet| sum << 8 | u128::from(octet)))
            }
            Self::Ipv4 => text.parse::<Ipv4Addr>().ok().map(|address| u32::from(address).into()),
            Self::Ipv6 => text.parse::<Ipv6Addr>().ok().map(u128::from),
            Self::Integer => u128::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
            _ => {
                let word = self.words().iter().find(|(word, _)| *word == text).map(|(_, number)| *number);
                word.or_else(|| NAMES.get(text).copied().filter(|_| self == Self::Protocol))
            }
        }
    }

    /// A value, a prefix or a range.
    pub fn range(self, value: &Value) -> Result<Range, Unknown> {
        let unknown = || Unknown(format!("{value} as a range of {self:?}"));
        let Some(object) = value.as_object() else {
            let number = self.number(value)?;
            return Ok((number, number));
        };
        match (object.len(), object.get("prefix"), object.get("range")) {
            (1, Some(prefix), None) => {
                let fields = prefix.as_object().filter(|fields| fields.len() == 2).ok_or_else(unknown)?;
                let first = self.number(fields.get("addr").ok_or_else(unknown)?)?;
                let length = fields.get("len").and_then(Value::as_u64).ok_or_else(unknown)?;
                let host = u64::from(self.bits()).checked_sub(length).ok_or_else(unknown)?;
                Ok((
                    first,
                    first
                        | (1u128.checked_shl(u32::try_from(host).unwrap_or(128)).unwrap_or(0))
                            .wrapping_sub(1),
                ))
            }
            (1, None, Some(Value::Array(ends))) => match ends.as_slice() {
                [first, last] => Ok((self.number(first)?, self.number(last)?)),
                _ => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }
}

/// The number that a link of that [`name`] has in a scene.
pub fn index(name: u128) -> u128 {
    1000 + name % 65521
}

/// An interface's name as a number; none for a pattern or one that is too
/// long.
pub fn name(text: &str) -> Option<u128> {
    let fits = text.len() < 16 && !text.contains('*');
    let mut bytes = [0; 16];
    bytes.get_mut(..text.len()).filter(|_| fits)?.copy_from_slice(text.as_bytes());
    Some(u128::from_be_bytes(bytes))
}
