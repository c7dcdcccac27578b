//! Expressions: what a rule reads of a packet, and what it compares it with.

use serde_json::{Map, Value};

use super::Unknown;
use super::evaluate::Trace;
use super::packet::{Field, Packet};
use super::set::{Key, Set, Sets, WIDTH};
use super::value::Type;

/// One or several fields, each with a mask.
#[derive(Debug, Clone)]
pub struct Left {
    pub fields: Vec<(Field, u128)>,
}

impl Left {
    pub fn kinds(&self) -> Vec<Type> {
        self.fields.iter().map(|(field, _)| field.kind()).collect()
    }

    pub fn read(&self, packet: &Packet) -> Result<Option<Key>, Unknown> {
        let mut key = [0; WIDTH];
        for (place, (field, mask)) in key.iter_mut().zip(&self.fields) {
            let Some(value) = field.of(packet)? else { return Ok(None) };
            *place = value & mask;
        }
        Ok(Some(key))
    }

    pub fn parse(value: &Value) -> Result<Self, Unknown> {
        let unknown = || Unknown(format!("expression {value}"));
        let (kind, body) = only(value)?;
        match (kind, body) {
            ("concat", Value::Array(parts)) if parts.len() <= WIDTH => {
                let fields: Result<_, _> = parts.iter().map(|part| Ok((field(part)?, u128::MAX))).collect();
                Ok(Self { fields: fields? })
            }
            ("&", Value::Array(parts)) => match parts.as_slice() {
                [left, mask] => {
                    let field = field(left)?;
                    Ok(Self { fields: vec![(field, field.kind().number(mask)?)] })
                }
                _ => Err(unknown()),
            },
            _ => Ok(Self { fields: vec![(field(value)?, u128::MAX)] }),
        }
    }
}

/// How a value is compared.
#[derive(Debug, Clone)]
pub enum Right {
    /// Is it a member?
    Set(Set),
    /// Is it a member of the named one?
    Named(usize),
    /// Has it any of these bits?
    Bits(u128),
    AtLeast(u128),
    AtMost(u128),
}

/// A comparison.
#[derive(Debug, Clone)]
pub struct Match {
    left: Left,
    right: Right,
    /// The operator is `!=`.
    not: bool,
}

impl Match {
    pub fn parse(value: &Value, sets: &Sets) -> Result<Self, Unknown> {
        let unknown = || Unknown(format!("match {value}"));
        let [op, left, right] = fields(value, ["op", "left", "right"])?;
        let left = Left::parse(left)?;
        let kinds = left.kinds();
        let number = || match kinds.as_slice() {
            [kind] => kind.number(right),
            _ => Err(unknown()),
        };
        let right = match (op.as_str().ok_or_else(unknown)?, right) {
            ("==" | "!=", Value::String(name)) if name.starts_with('@') => {
                Right::Named(sets.find(name, &kinds)?)
            }
            ("==" | "!=", _) => Right::Set(Set::anonymous(&kinds, right)?),
            ("in", _) => Right::Bits(number()?),
            (">=", _) => Right::AtLeast(number()?),
            (">", _) => Right::AtLeast(number()?.saturating_add(1)),
            ("<=", _) => Right::AtMost(number()?),
            _ => return Err(unknown()),
        };
        Ok(Self { left, right, not: op.as_str() == Some("!=") })
    }

    pub fn holds(&self, packet: &Packet, sets: &Sets, trace: &mut Trace) -> Result<bool, Unknown> {
        let Some(key) = self.left.read(packet)? else { return Ok(false) };
        let single = key.first().copied().unwrap_or_default();
        let found = match &self.right {
            Right::Set(set) => set.find(&key).is_some(),
            Right::Named(index) => trace.found(sets.get(*index)?, &key).is_some(),
            Right::Bits(bits) => single & bits != 0,
            Right::AtLeast(least) => single >= *least,
            Right::AtMost(most) => single <= *most,
        };
        Ok(found != self.not)
    }
}

/// The field that an expression names. Those of a protocol are there only in
/// its packets: nft compares the protocol first, and lists it no more.
fn field(value: &Value) -> Result<Field, Unknown> {
    let unknown = || Unknown(format!("expression {value}"));
    let (kind, body) = only(value)?;
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let keys = body.as_object().map_or(0, Map::len);
    Ok(match (kind, keys) {
        ("meta", 1) => match text("key") {
            Some("iifname") => Field::Iif,
            Some("oifname") => Field::Oif,
            Some("oif") => Field::OifIndex,
            Some("nfproto") => Field::Family,
            Some("l4proto") => Field::Protocol,
            Some("pkttype") => Field::PacketType,
            Some("length") => Field::Length,
            _ => return Err(unknown()),
        },
        ("ct", 1) => match text("key") {
            Some("state") => Field::CtState,
            Some("status") => Field::CtStatus,
            Some("direction") => Field::CtDirection,
            _ => return Err(unknown()),
        },
        ("ct", 2) => match (text("key"), text("dir")) {
            (Some("ip saddr"), Some("original")) => Field::CtSource4,
            (Some("ip daddr"), Some("original")) => Field::CtDestination4,
            (Some("ip6 saddr"), Some("original")) => Field::CtSource6,
            (Some("ip6 daddr"), Some("original")) => Field::CtDestination6,
            _ => return Err(unknown()),
        },
        ("payload", 2) => payload(text("protocol"), text("field")).ok_or_else(unknown)?,
        // The body of a neighbour discovery message.
        ("payload", 3) => {
            let body = fields(body, ["base", "offset", "len"])?;
            if body.map(ToString::to_string) == ["\"th\"", "64", "128"] {
                Field::Absent(Type::Integer)
            } else {
                return Err(unknown());
            }
        }
        ("exthdr", 1) if text("name") == Some("frag") => Field::Fragmented,
        ("exthdr", 2) if (text("name"), text("field")) == (Some("frag"), Some("frag-off")) => {
            Field::Absent(Type::Integer)
        }
        _ => return Err(unknown()),
    })
}

fn payload(protocol: Option<&str>, field: Option<&str>) -> Option<Field> {
    Some(match (protocol?, field?) {
        ("ether", "saddr") => Field::EtherSource,
        ("ether", "daddr") => Field::EtherDestination,
        ("ether", "type") => Field::EtherType,
        ("ip", "saddr") => Field::Source4,
        ("ip", "daddr") => Field::Destination4,
        ("ip", "frag-off") => Field::FragmentOffset,
        ("ip6", "saddr") => Field::Source6,
        ("ip6", "daddr") => Field::Destination6,
        ("ip6", "hoplimit") => Field::HopLimit,
        ("th", "dport") => Field::Port(None),
        ("tcp", "dport") => Field::Port(Some(6)),
        ("udp", "sport") => Field::SourcePort(Some(17)),
        ("udp", "dport") => Field::Port(Some(17)),
        ("tcp", "flags") => Field::TcpFlags,
        ("icmp", "type") => Field::IcmpType,
        ("icmpv6", "type") => Field::Icmp6Type,
        // Those 128 bits of a neighbour discovery message, as nft 1.1 lists them.
        ("icmpv6", "taddr") => Field::Absent(Type::Integer),
        ("igmp", "type") => Field::Absent(Type::Igmp),
        ("arp", "htype" | "hlen" | "plen") => Field::Absent(Type::Integer),
        ("arp", "ptype") => Field::Absent(Type::Payload),
        ("arp", "operation") => Field::Absent(Type::ArpOperation),
        ("arp", "saddr ether") => Field::Absent(Type::Ether),
        ("arp", "saddr ip" | "daddr ip") => Field::Absent(Type::Ipv4),
        _ => return None,
    })
}

/// The key and value of an object that has just one.
pub fn only(value: &Value) -> Result<(&str, &Value), Unknown> {
    let mut entries = value.as_object().into_iter().flatten();
    match (entries.next(), entries.next()) {
        (Some((key, body)), None) => Ok((key, body)),
        _ => Err(Unknown(value.to_string())),
    }
}

/// The values of an object that has these keys and no others.
pub fn fields<'v, const N: usize>(value: &'v Value, keys: [&str; N]) -> Result<[&'v Value; N], Unknown> {
    let unknown = || Unknown(format!("{value}: it should have {keys:?}"));
    let object = value.as_object().filter(|object| object.len() == N).ok_or_else(unknown)?;
    let mut values = [value; N];
    for (place, key) in values.iter_mut().zip(keys) {
        *place = object.get(key).ok_or_else(unknown)?;
    }
    Ok(values)
}
