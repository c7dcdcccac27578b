//! The values that nft's JSON names, as numbers: each field has a type, and each
//! type its words (libnftables-json(5), nft(8)).

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::packet::{Family, Range};
use crate::reach::subject::state;

use super::super::links::LinkNumbers;
use super::Unknown;

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A link, by its name.
    Name,
    /// A link, by the kernel's number of it.
    Index,
    Ether,
    Ipv4,
    Ipv6,
    Protocol,
    Service,
    /// What a frame carries.
    Carried,
    Icmp,
    Icmpv6,
    Igmp,
    /// The kernel's number of a family.
    Family,
    CtState,
    CtStatus,
    CtDirection,
    /// To whom a frame is.
    Addressed,
    ArpOperation,
    Boolean,
    Integer,
}

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
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
    ("info-request", 15),
    ("info-reply", 16),
    ("address-mask-request", 17),
    ("address-mask-reply", 18),
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
    ("mld-listener-reduction", 132),
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

/// As Debian's /etc/protocols has them; nft prints the names of the machine.
const PROTOCOLS: &[(&str, u128)] = &[
    ("ip", 0),
    ("hopopt", 0),
    ("icmp", 1),
    ("igmp", 2),
    ("ggp", 3),
    ("ipencap", 4),
    ("ipv4", 4),
    ("st", 5),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("pup", 12),
    ("udp", 17),
    ("hmp", 20),
    ("xns-idp", 22),
    ("rdp", 27),
    ("iso-tp4", 29),
    ("dccp", 33),
    ("xtp", 36),
    ("ddp", 37),
    ("idpr-cmtp", 38),
    ("ipv6", 41),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("idrp", 45),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("skip", 57),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("rspf", 73),
    ("vmtp", 81),
    ("eigrp", 88),
    ("ospf", 89),
    ("ax.25", 93),
    ("ipip", 94),
    ("etherip", 97),
    ("encap", 98),
    ("pim", 103),
    ("ipcomp", 108),
    ("comp", 108),
    ("vrrp", 112),
    ("l2tp", 115),
    ("isis", 124),
    ("sctp", 132),
    ("fc", 133),
    ("mobility-header", 135),
    ("udplite", 136),
    ("mpls-in-ip", 137),
    ("manet", 138),
    ("hip", 139),
    ("shim6", 140),
    ("wesp", 141),
    ("rohc", 142),
    ("ethernet", 143),
    ("mptcp", 262),
];

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
            _ => return Err(Unknown(format!("the type {name}"))),
        })
    }

    const fn words(self) -> &'static [(&'static str, u128)] {
        match self {
            Self::Protocol => PROTOCOLS,
            Self::Icmp => ICMP,
            Self::Icmpv6 => ICMPV6,
            Self::Igmp => &[("membership-query", 0x11)],
            Self::Carried => &[("ip", 0x0800), ("arp", 0x0806), ("ip6", 0x86dd)],
            Self::Family => &[("ipv4", 2), ("ipv6", 10)],
            Self::CtState => &[
                ("new", state::NEW),
                ("established", state::ESTABLISHED),
                ("related", state::RELATED),
                ("invalid", state::INVALID),
                ("untracked", state::UNTRACKED),
            ],
            Self::CtDirection => &[("original", 0), ("reply", 1)],
            Self::Addressed => {
                &[("host", 0), ("unicast", 0), ("broadcast", 1), ("multicast", 2), ("other", 3)]
            }
            Self::ArpOperation => &[("request", 1), ("reply", 2)],
            _ => &[],
        }
    }

    fn text(self, text: &str, links: &mut LinkNumbers) -> Option<Range> {
        let one = |number| (number, number);
        match self {
            // A pattern is no name.
            Self::Name if text.contains('*') => None,
            Self::Name => Some(links.number(text)),
            // As a number where no link has it.
            Self::Index => match text.parse() {
                Ok(index) => links.index(index).map(one),
                Err(_) => Some(one(links.number(text).0)),
            },
            Self::Ether => {
                let octets: Option<Vec<u8>> =
                    text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
                let octets = octets.filter(|octets| octets.len() == 6)?;
                Some(one(octets.into_iter().fold(0, |sum, octet| (sum << 8) | u128::from(octet))))
            }
            Self::Ipv4 => text.parse::<Ipv4Addr>().ok().map(|address| one(u32::from(address).into())),
            Self::Ipv6 => text.parse::<Ipv6Addr>().ok().map(|address| one(address.into())),
            Self::Integer => Some(one(u128::from_str_radix(text.strip_prefix("0x")?, 16).ok()?)),
            _ => self.words().iter().find(|(word, _)| *word == text).map(|(_, number)| one(*number)),
        }
    }

    /// Where a value, a prefix or a range lies.
    pub fn range(self, value: &Value, links: &mut LinkNumbers) -> Result<Range, Unknown> {
        let unknown = || Unknown(format!("{value} as {self:?}"));
        match value {
            Value::Number(number) => {
                let number = number.as_u64().ok_or_else(unknown)?;
                match self {
                    Self::Name | Self::Ether | Self::Ipv4 | Self::Ipv6 | Self::CtState => Err(unknown()),
                    // Others are of no kind that is told apart.
                    Self::Carried if ![0x0800, 0x0806, 0x86dd].contains(&number) => Err(unknown()),
                    Self::Index => {
                        let index = u32::try_from(number).ok().and_then(|index| links.index(index));
                        index.map(|number| (number, number)).ok_or_else(unknown)
                    }
                    _ => Ok((number.into(), number.into())),
                }
            }
            Value::Bool(value) if self == Self::Boolean => Ok((u128::from(*value), u128::from(*value))),
            Value::String(text) => self.text(text, links).ok_or_else(unknown),
            Value::Object(object) if object.len() == 1 => {
                if let Some(prefix) = object.get("prefix") {
                    return self.prefix(prefix, links);
                }
                let ends = object.get("range").and_then(Value::as_array).map(Vec::as_slice);
                let Some([first, last]) = ends else { return Err(unknown()) };
                // Links have no order.
                if matches!(self, Self::Name | Self::Index | Self::Carried) {
                    return Err(unknown());
                }
                Ok((self.range(first, links)?.0, self.range(last, links)?.1))
            }
            _ => Err(unknown()),
        }
    }

    fn prefix(self, prefix: &Value, links: &mut LinkNumbers) -> Result<Range, Unknown> {
        let unknown = || Unknown(format!("the prefix {prefix}"));
        let family = match self {
            Self::Ipv4 => Family::V4,
            Self::Ipv6 => Family::V6,
            _ => return Err(unknown()),
        };
        let [address, length] = super::exactly(prefix, ["addr", "len"])?;
        let (first, _) = self.range(address, links)?;
        let length = length.as_u64().and_then(|length| u32::try_from(length).ok()).ok_or_else(unknown)?;
        let host = family.bits().checked_sub(length).ok_or_else(unknown)?;
        let rest = 1u128.checked_shl(host).unwrap_or(0).wrapping_sub(1);
        // nft lists none that has more bits than its length says.
        if first & rest == 0 { Ok((first, first | rest)) } else { Err(unknown()) }
    }
}
