//! Whether a rule is about a packet: yes, no, or perhaps.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::firewall::live::rule_text::only;
use crate::ownership::{BRIDGE_PREFIX, LINK_GROUP};
use crate::packet::prefix;
use crate::packet::protocol::{ICMP, ICMPV6, TCP};

use super::packet::{Carries, Packet, Span};

/// An answer that may not be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    No,
    Perhaps,
    Yes,
}

impl Truth {
    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Perhaps => Self::Perhaps,
            Self::Yes => Self::No,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Perhaps,
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq)]
enum Subject<'a> {
    /// A word: an interface, a state, a protocol.
    Text(&'a str),
    /// One of these words.
    Either(&'static [&'static str]),
    /// A protocol, which nft shows by a name of `/etc/protocols`, or by its
    /// number where that file is missing.
    Protocol(&'static [&'static str], u64),
    Number(u64),
    Address(Span),
    Found(Truth),
    /// The packet has none: no comparison is true of it.
    Absent,
    Unknown,
    /// Several things in one.
    Several(Vec<Subject<'a>>),
}

/// The elements of a named set of the rule's table.
pub(super) type Sets<'s> = &'s dyn Fn(&str) -> Option<&'s [Value]>;

/// Whether a `match` statement is true of `packet`.
pub(super) fn matches(body: &Value, packet: &Packet<'_>, sets: Sets<'_>) -> Truth {
    let subject = body.get("left").map_or(Subject::Unknown, |left| subject(left, packet));
    if subject == Subject::Absent {
        return Truth::No;
    }
    let right = body.get("right").unwrap_or(&Value::Null);
    match body.get("op").and_then(Value::as_str).unwrap_or("==") {
        "==" | "in" => is(&subject, right, sets),
        "!=" => is(&subject, right, sets).not(),
        _ => Truth::Perhaps,
    }
}

/// Whether the value that an expression has for `packet` is `right`, for
/// verdict maps.
pub(super) fn is_key(key: &Value, right: &Value, packet: &Packet<'_>, sets: Sets<'_>) -> Truth {
    match subject(key, packet) {
        Subject::Absent => Truth::No,
        subject => is(&subject, right, sets),
    }
}

/// The number that an expression has for a packet, for marks.
pub(super) fn number(value: &Value, packet: &Packet<'_>) -> Option<u64> {
    match subject(value, packet) {
        Subject::Number(number) => Some(number),
        _ => None,
    }
}

fn subject<'a>(left: &Value, packet: &Packet<'a>) -> Subject<'a> {
    if let Some(number) = left.as_u64() {
        return Subject::Number(number);
    }
    let Some((kind, body)) = only(left) else { return Subject::Unknown };
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    match kind {
        "meta" => meta(text("key"), packet),
        "ct" => ct(text("key"), packet),
        "payload" => payload(text("protocol"), text("field"), packet),
        // Guests live without extension headers.
        "exthdr" if packet.carries != Carries::Any => Subject::Absent,
        "fib" => fib(body, packet),
        "concat" => {
            let parts = body.as_array().map(Vec::as_slice).unwrap_or_default();
            Subject::Several(parts.iter().map(|part| subject(part, packet)).collect())
        }
        "&" | "|" | "^" => match body.as_array().map(Vec::as_slice) {
            Some([a, b]) => match (subject(a, packet), subject(b, packet)) {
                (Subject::Number(a), Subject::Number(b)) => Subject::Number(match kind {
                    "&" => a & b,
                    "|" => a | b,
                    _ => a ^ b,
                }),
                // The prefix of an address is a comparison of its own.
                (Subject::Absent, _) => Subject::Absent,
                _ => Subject::Unknown,
            },
            _ => Subject::Unknown,
        },
        _ => Subject::Unknown,
    }
}

fn meta<'a>(key: &str, packet: &Packet<'a>) -> Subject<'a> {
    let name = |name: Option<&'a str>| name.map_or(Subject::Text(""), Subject::Text);
    match key {
        "iifname" | "iif" => name(packet.iif),
        "oifname" | "oif" => name(packet.oif),
        "iifgroup" if packet.iif.is_some_and(is_bridge) => Subject::Number(LINK_GROUP.into()),
        "oifgroup" if packet.oif.is_some_and(is_bridge) => Subject::Number(LINK_GROUP.into()),
        "iifkind" if packet.iif.is_some_and(is_bridge) => Subject::Text("bridge"),
        "oifkind" if packet.oif.is_some_and(is_bridge) => Subject::Text("bridge"),
        "nfproto" => Subject::Text(if packet.v6 { "ipv6" } else { "ipv4" }),
        "protocol" => match packet.carries {
            Carries::Any => Subject::Unknown,
            _ => Subject::Text(if packet.v6 { "ip6" } else { "ip" }),
        },
        "l4proto" => match packet.carries {
            Carries::Tcp => Subject::Protocol(&["tcp"], TCP.into()),
            Carries::Ping if packet.v6 => Subject::Protocol(&["ipv6-icmp", "icmpv6"], ICMPV6.into()),
            Carries::Ping => Subject::Protocol(&["icmp"], ICMP.into()),
            Carries::Any => Subject::Unknown,
        },
        "pkttype" if packet.carries != Carries::Any => Subject::Either(&["host", "unicast"]),
        "mark" => packet.mark.map_or(Subject::Unknown, Subject::Number),
        _ => Subject::Unknown,
    }
}

/// Bridges of hostctl's, whose names begin with this.
fn is_bridge(name: &str) -> bool {
    name.starts_with(BRIDGE_PREFIX)
}

fn ct<'a>(key: &str, packet: &Packet<'a>) -> Subject<'a> {
    if packet.carries == Carries::Any {
        return Subject::Unknown;
    }
    match key {
        "state" => Subject::Text(if packet.reply { "established" } else { "new" }),
        // Neither is anybody's port forward; the answers of what goes out are
        // of a translated flow, which rules don't tell by this.
        "status" => Subject::Text("confirmed"),
        "direction" => Subject::Text(if packet.reply { "reply" } else { "original" }),
        _ => Subject::Unknown,
    }
}

fn payload<'a>(protocol: &str, field: &str, packet: &Packet<'a>) -> Subject<'a> {
    let known = packet.carries != Carries::Any;
    match (protocol, field) {
        ("ip", _) if packet.v6 => Subject::Absent,
        ("ip6", _) if !packet.v6 => Subject::Absent,
        ("ip" | "ip6", "saddr") if known => Subject::Address(packet.from),
        ("ip" | "ip6", "daddr") if known => Subject::Address(packet.to),
        ("ip", "protocol") | ("ip6", "nexthdr") => meta("l4proto", packet),
        ("icmp" | "icmpv6", "type") if packet.carries == Carries::Ping => {
            if (protocol == "icmpv6") == packet.v6 { Subject::Text("echo-request") } else { Subject::Absent }
        }
        ("icmp" | "icmpv6" | "udp" | "sctp" | "dccp" | "igmp" | "arp", _)
            if packet.carries == Carries::Tcp =>
        {
            Subject::Absent
        }
        ("tcp" | "udp" | "th" | "sctp" | "dccp" | "arp", _) if packet.carries == Carries::Ping => {
            Subject::Absent
        }
        _ => Subject::Unknown,
    }
}

/// Where the kernel would send the packet, or its answer.
fn fib<'a>(body: &Value, packet: &Packet<'a>) -> Subject<'a> {
    let flags: Vec<&str> =
        body.get("flags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    match body.get("result").and_then(Value::as_str) {
        // Guests and the tailnet have routes by the interface they come by.
        Some("oif") if flags.contains(&"saddr") => Subject::Found(Truth::Yes),
        Some("type") if flags.contains(&"daddr") && packet.to != Span::Any => {
            Subject::Text(if packet.local { "local" } else { "unicast" })
        }
        _ => Subject::Unknown,
    }
}

fn is(subject: &Subject<'_>, right: &Value, sets: Sets<'_>) -> Truth {
    let any = |values: &[Value]| {
        values.iter().fold(Truth::No, |found, value| {
            if found == Truth::Yes { found } else { found.or(is(subject, value, sets)) }
        })
    };
    if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
        return sets(name).map_or(Truth::Perhaps, any);
    }
    if let Value::Array(values) = right {
        return any(values);
    }
    match only(right) {
        Some(("set" | "list", Value::Array(values))) => return any(values),
        Some(("elem", body)) => {
            return body.get("val").map_or(Truth::Perhaps, |value| is(subject, value, sets));
        }
        Some(("concat", Value::Array(values))) => {
            return match subject {
                Subject::Several(parts) if parts.len() == values.len() => {
                    let pairs = parts.iter().zip(values);
                    pairs.fold(Truth::Yes, |found, (part, value)| match part {
                        Subject::Absent => Truth::No,
                        part => found.and(is(part, value, sets)),
                    })
                }
                _ => Truth::Perhaps,
            };
        }
        _ => {}
    }
    match subject {
        Subject::Protocol(_, number) if right.is_number() => Truth::of(right.as_u64() == Some(*number)),
        // What nft has a word for it doesn't show as a number.
        Subject::Text(_) | Subject::Either(_) if right.is_number() => Truth::No,
        Subject::Text(text) => right.as_str().map_or(Truth::Perhaps, |right| word(text, right)),
        Subject::Either(texts) | Subject::Protocol(texts, _) => {
            right.as_str().map_or(Truth::Perhaps, |right| {
                texts.iter().fold(Truth::No, |found, text| found.or(word(text, right)))
            })
        }
        Subject::Number(number) => right.as_u64().map_or(Truth::Perhaps, |right| Truth::of(right == *number)),
        Subject::Address(span) => prefixes(right).map_or(Truth::Perhaps, |right| within(*span, &right)),
        Subject::Found(found) => match right.as_bool() {
            Some(true) => *found,
            Some(false) => found.not(),
            None => Truth::Perhaps,
        },
        Subject::Absent => Truth::No,
        Subject::Unknown | Subject::Several(_) => Truth::Perhaps,
    }
}

fn word(text: &str, right: &str) -> Truth {
    match right.strip_suffix('*') {
        Some(start) => Truth::of(text.starts_with(start)),
        None => Truth::of(text == right),
    }
}

/// The prefixes that an address of the listing stands for.
fn prefixes(right: &Value) -> Option<Vec<IpNet>> {
    let address = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
    match only(right) {
        Some(("prefix", body)) => {
            let length = body.get("len")?.as_u64()?.try_into().ok()?;
            Some(vec![IpNet::new(address(body.get("addr")?)?, length).ok()?])
        }
        Some(("range", body)) => match (address(body.get(0)?)?, address(body.get(1)?)?) {
            (IpAddr::V4(a), IpAddr::V4(b)) => Some(ipnet::Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect()),
            (IpAddr::V6(a), IpAddr::V6(b)) => Some(ipnet::Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect()),
            _ => None,
        },
        _ => Some(vec![IpNet::from(address(right)?)]),
    }
}

/// Whether an address of `span` is one of `right`.
fn within(span: Span, right: &[IpNet]) -> Truth {
    right.iter().fold(Truth::No, |found, prefix| {
        found.or(match span {
            Span::Within(span) if prefix.contains(&span) => Truth::Yes,
            Span::Within(span) => {
                if span.contains(prefix) {
                    Truth::Perhaps
                } else {
                    Truth::No
                }
            }
            Span::Internet if prefix.prefix_len() == 0 => Truth::Yes,
            Span::Internet => {
                if is_public(*prefix) {
                    Truth::Perhaps
                } else {
                    Truth::No
                }
            }
            Span::Any => Truth::Perhaps,
        })
    })
}

/// Whether a prefix has public addresses; documentation's count as public.
fn is_public(prefix: IpNet) -> bool {
    let special = || prefix::private().iter().chain(prefix::metadata());
    match prefix {
        IpNet::V4(_) => !special().any(|special| special.contains(&prefix)),
        IpNet::V6(prefix) => match from_6to4(prefix) {
            Some(inner) => is_public(inner),
            None => "2000::/3"
                .parse::<ipnet::Ipv6Net>()
                .is_ok_and(|global| global.contains(&prefix) || prefix.contains(&global)),
        },
    }
}

/// The IPv4 prefix whose hosts have these addresses by 6to4 (RFC 3056).
fn from_6to4(prefix: ipnet::Ipv6Net) -> Option<IpNet> {
    let [first, a, b, ..] = prefix.addr().segments();
    let length = prefix.prefix_len().checked_sub(16)?.min(32);
    let inner = std::net::Ipv4Addr::from((u32::from(a) << 16) | u32::from(b));
    (first == 0x2002).then(|| ipnet::Ipv4Net::new(inner, length).ok().map(IpNet::V4))?
}
