//! Expressions: what a rule reads of a packet.

use serde_json::{Map, Value};

use crate::packet::Range;
use crate::packet::protocol::{ICMP, ICMPV6, TCP, UDP};
use crate::reach::subject::{Field, Kind, fragment};

use super::super::diagram::{Diagram, Diagrams};
use super::super::header::{Header, truth};
use super::words::Type;
use super::{Unknown, only};

const IGMP: u8 = 2;

/// The protocol whose headers nft calls so, and the family of those that have
/// just one.
pub fn protocol_of(name: &str) -> Option<(u8, Option<Kind>)> {
    Some(match name {
        "tcp" | "tcp option" => (TCP, None),
        "udp" => (UDP, None),
        "icmp" => (ICMP, Some(Kind::Ipv4)),
        "icmpv6" => (ICMPV6, Some(Kind::Ipv6)),
        "igmp" => (IGMP, Some(Kind::Ipv4)),
        "dccp" => (33, None),
        "esp" => (50, None),
        "ah" => (51, None),
        "comp" => (108, None),
        "sctp" | "sctp chunk" => (132, None),
        "udplite" => (136, None),
        _ => return None,
    })
}

fn protocol_number(name: &str) -> Option<u8> {
    protocol_of(name).map(|(number, _)| number)
}

/// One thing that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    pub field: Field,
    pub kind: Type,
    /// It is there only in packets of this kind.
    of: Option<Kind>,
    /// And of this protocol.
    protocol: Option<u8>,
}

/// The left side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// One field, or several.
    Fields(Vec<Read>),
    /// Some bits of a field.
    Masked(Read, u128),
    /// Some values of a field that isn't one of [`Field`]'s own, each with what it
    /// means: the fragment header's and the like.
    Meaning(Meaning),
}

/// What is compared as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// IPv6 has a fragment header.
    Fragmented,
    /// IPv6's fragment has an offset.
    Offset,
    /// IPv4's fragment has an offset, or more follow.
    Part,
    /// The packet's length.
    Length,
    /// IPv4's or ARP's fixed fields: whether they aren't as Ethernet's, one bit.
    Arp(u128, u64),
}

impl Read {
    const fn new(field: Field, kind: Type) -> Self {
        Self { field, kind, of: None, protocol: None }
    }

    const fn of(self, kind: Kind) -> Self {
        Self { of: Some(kind), ..self }
    }

    const fn with(self, protocol: u8) -> Self {
        Self { protocol: Some(protocol), ..self }
    }

    /// Whether packets of a kind may have it.
    pub fn is_of(&self, kind: Kind) -> bool {
        self.of.is_none_or(|of| of == kind)
    }

    /// Where a packet has it.
    pub fn present(&self, header: &Header, diagrams: &mut Diagrams) -> Diagram {
        if !self.is_of(header.kind) {
            return Diagram::NEVER;
        }
        let there = header.present(diagrams, self.field);
        let Some(protocol) = self.protocol else { return there };
        let number = header.among(diagrams, Field::Protocol, &[(protocol.into(), protocol.into())]);
        let known = header.present(diagrams, Field::Protocol);
        let both = diagrams.and(there, number);
        diagrams.and(both, known)
    }
}

impl Left {
    /// The types of its fields.
    pub fn kinds(&self) -> Vec<Type> {
        match self {
            Self::Fields(reads) => reads.iter().map(|read| read.kind).collect(),
            Self::Masked(read, _) => vec![read.kind],
            Self::Meaning(_) => vec![Type::Integer],
        }
    }

    pub fn parse(value: &Value) -> Result<Self, Unknown> {
        let unknown = || Unknown(format!("the expression {value}"));
        let (kind, body) = only(value)?;
        match (kind, body) {
            ("concat", Value::Array(parts)) => {
                let reads: Result<Vec<_>, _> = parts.iter().map(read).collect();
                Ok(Self::Fields(reads?))
            }
            ("&", Value::Array(parts)) => match parts.as_slice() {
                [left, mask] => masked(left, mask).ok_or_else(unknown),
                _ => Err(unknown()),
            },
            _ => match meaning(kind, body) {
                Some(meaning) => Ok(Self::Meaning(meaning)),
                None => Ok(Self::Fields(vec![read(value)?])),
            },
        }
    }
}

fn masked(left: &Value, mask: &Value) -> Option<Left> {
    if *left == serde_json::json!({ "payload": { "protocol": "ip", "field": "frag-off" } }) {
        return (mask.as_u64() == Some(0x3fff)).then_some(Left::Meaning(Meaning::Part));
    }
    let read = read(left).ok()?;
    let links = &mut super::super::links::LinkNumbers::default();
    let numbered = matches!(read.kind, Type::Ether | Type::Ipv4 | Type::Ipv6);
    let (mask, _) = numbered.then(|| read.kind.range(mask, links).ok()).flatten()?;
    Some(Left::Masked(read, mask))
}

fn meaning(kind: &str, body: &Value) -> Option<Meaning> {
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let keys = body.as_object().map_or(0, Map::len);
    Some(match (kind, keys) {
        ("meta", 1) if text("key") == Some("length") => Meaning::Length,
        ("exthdr", 1) if text("name") == Some("frag") => Meaning::Fragmented,
        ("exthdr", 2) if text("name") == Some("frag") && text("field") == Some("frag-off") => Meaning::Offset,
        ("payload", 2) if text("protocol") == Some("arp") => match text("field")? {
            "htype" => Meaning::Arp(1, 1),
            "ptype" => Meaning::Arp(2, 0x0800),
            "hlen" => Meaning::Arp(4, 6),
            "plen" => Meaning::Arp(8, 4),
            _ => return None,
        },
        _ => return None,
    })
}

impl Meaning {
    /// Where a comparison with one number holds.
    pub fn holds(
        self,
        header: &Header,
        diagrams: &mut Diagrams,
        operator: &str,
        right: &Value,
    ) -> Result<Diagram, Unknown> {
        let unknown = || Unknown(format!("{self:?} {operator} {right}"));
        let ip6 = truth(header.kind == Kind::Ipv6);
        let number = right.as_u64();
        Ok(match (self, operator) {
            (Self::Length, ">") if number == Some(1500) => header.range(diagrams, Field::Long, (1, 1)),
            (Self::Fragmented, "==") if right == &Value::Bool(true) => {
                let part = header.range(diagrams, Field::Fragment, (fragment::FIRST, fragment::LATER));
                diagrams.and(part, ip6)
            }
            (Self::Offset, "!=") if number == Some(0) => {
                let later = header.range(diagrams, Field::Fragment, (fragment::LATER, fragment::LATER));
                diagrams.and(later, ip6)
            }
            (Self::Part, "!=") if number == Some(0) => {
                let part = header.range(diagrams, Field::Fragment, (fragment::FIRST, fragment::LATER));
                diagrams.and(part, truth(header.kind == Kind::Ipv4))
            }
            (Self::Arp(bit, expected), "!=") if number == Some(expected) || (bit == 2 && right == "ip") => {
                let malformed = header.masked(diagrams, Field::Malformed, bit, bit);
                diagrams.and(malformed, truth(header.kind == Kind::Arp))
            }
            _ => return Err(unknown()),
        })
    }
}

/// One field. Those of a protocol are there only in its packets: nft compares
/// the protocol first, and lists it no more.
fn read(value: &Value) -> Result<Read, Unknown> {
    let unknown = || Unknown(format!("the expression {value}"));
    let (kind, body) = only(value)?;
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let number = |key: &str| body.get(key).and_then(Value::as_u64);
    let keys = body.as_object().map_or(0, Map::len);
    let ip = |field, family| match family {
        "ip" => Some(Read::new(field, Type::Ipv4).of(Kind::Ipv4)),
        "ip6" => Some(Read::new(field, Type::Ipv6).of(Kind::Ipv6)),
        _ => None,
    };
    let found = match (kind, keys) {
        ("meta", 1) => match text("key").unwrap_or_default() {
            "iifname" => Some(Read::new(Field::In, Type::Name)),
            "iif" => Some(Read::new(Field::In, Type::Index)),
            "oifname" => Some(Read::new(Field::Out, Type::Name)),
            "oif" => Some(Read::new(Field::Out, Type::Index)),
            "nfproto" => Some(Read::new(Field::Family, Type::Family)),
            "protocol" => Some(Read::new(Field::EtherType, Type::Carried)),
            "l4proto" => Some(Read::new(Field::Protocol, Type::Protocol)),
            "pkttype" => Some(Read::new(Field::Addressed, Type::Addressed)),
            _ => None,
        },
        ("ct", 1) => match text("key").unwrap_or_default() {
            "state" => Some(Read::new(Field::State, Type::CtState)),
            "status" => Some(Read::new(Field::Confirmed, Type::CtStatus)),
            "direction" => Some(Read::new(Field::Reply, Type::CtDirection)),
            _ => None,
        },
        ("ct", 2) if text("dir") == Some("original") => match text("key").unwrap_or_default().split_once(' ')
        {
            Some((family, "saddr")) => ip(Field::OpenedBy, family),
            Some((family, "daddr")) => ip(Field::OpenedTo, family),
            _ => None,
        },
        ("payload", 2) => payload(text("protocol").unwrap_or_default(), text("field").unwrap_or_default()),
        // What nft has no name for: IGMP's type, and neighbour discovery's target.
        ("payload", 3) if text("base") == Some("th") => match (number("offset"), number("len")) {
            (Some(0), Some(8)) => Some(Read::new(Field::MessageType, Type::Igmp)),
            (Some(64), Some(128)) => Some(Read::new(Field::Target, Type::Integer)),
            _ => None,
        },
        _ => None,
    };
    found.ok_or_else(unknown)
}

fn payload(protocol: &str, field: &str) -> Option<Read> {
    let arp = |field, kind| Read::new(field, kind).of(Kind::Arp);
    let icmp6 = |field, kind| Read::new(field, kind).of(Kind::Ipv6).with(ICMPV6);
    Some(match (protocol, field) {
        ("ether", "saddr") => Read::new(Field::SourceMac, Type::Ether),
        ("ether", "daddr") => Read::new(Field::DestinationMac, Type::Ether),
        ("ether", "type") => Read::new(Field::EtherType, Type::Carried),
        ("ip", "saddr") => Read::new(Field::Source, Type::Ipv4).of(Kind::Ipv4),
        ("ip", "daddr") => Read::new(Field::Destination, Type::Ipv4).of(Kind::Ipv4),
        ("ip6", "saddr") => Read::new(Field::Source, Type::Ipv6).of(Kind::Ipv6),
        ("ip6", "daddr") => Read::new(Field::Destination, Type::Ipv6).of(Kind::Ipv6),
        ("ip", "protocol") => Read::new(Field::Protocol, Type::Protocol).of(Kind::Ipv4),
        ("ip6", "hoplimit") => Read::new(Field::HopLimit, Type::Integer).of(Kind::Ipv6),
        ("th", "sport") => Read::new(Field::SourcePort, Type::Service),
        ("th", "dport") => Read::new(Field::DestinationPort, Type::Service),
        ("tcp", "sport") => Read::new(Field::SourcePort, Type::Service).with(TCP),
        ("tcp", "dport") => Read::new(Field::DestinationPort, Type::Service).with(TCP),
        ("udp", "sport") => Read::new(Field::SourcePort, Type::Service).with(UDP),
        ("udp", "dport") => Read::new(Field::DestinationPort, Type::Service).with(UDP),
        ("sctp" | "dccp" | "udplite", "sport") => {
            Read::new(Field::SourcePort, Type::Service).with(protocol_number(protocol)?)
        }
        ("sctp" | "dccp" | "udplite", "dport") => {
            Read::new(Field::DestinationPort, Type::Service).with(protocol_number(protocol)?)
        }
        ("icmp", "type") => Read::new(Field::MessageType, Type::Icmp).of(Kind::Ipv4).with(ICMP),
        ("icmpv6", "type") => icmp6(Field::MessageType, Type::Icmpv6),
        // As nft 1.1 lists those 128 bits.
        ("icmpv6", "taddr") => icmp6(Field::Target, Type::Ipv6),
        ("igmp", "type") => Read::new(Field::MessageType, Type::Igmp).with(IGMP),
        ("arp", "operation") => arp(Field::Operation, Type::ArpOperation),
        ("arp", "saddr ether") => arp(Field::SenderMac, Type::Ether),
        ("arp", "saddr ip") => arp(Field::Source, Type::Ipv4),
        ("arp", "daddr ip") => arp(Field::Destination, Type::Ipv4),
        _ => return None,
    })
}

/// A translation of bits: `ct status` has several in one word.
pub fn status(word: &str) -> Option<Field> {
    match word {
        "confirmed" => Some(Field::Confirmed),
        "dnat" => Some(Field::Translated),
        _ => None,
    }
}

/// A number's range in a field.
pub const fn at_least(first: u128) -> Range {
    (first, u128::MAX)
}
