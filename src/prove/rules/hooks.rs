//! What a rule may ask at which hook: elsewhere the kernel answers another thing
//! than the prover would, or breaks the rule off. hostctl asks none of it there.

use std::collections::BTreeSet;

use serde_json::Value;

/// What isn't the same at every hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// To whom its frame was.
    Addressed,
    /// What the kernel takes the packet for, whatever tags its frame has.
    Carried,
    /// What its frame says that it is; a packet of the host's has no frame yet.
    EtherType,
    /// Connection tracking.
    Tracked,
    /// Whether it is a part of a packet: put together at priority -400.
    Fragment,
    /// The hop limit, which routing counts down.
    HopLimit,
    /// Where it goes out.
    Out,
    /// The number of the link that it comes in by.
    InIndex,
    /// Its family, by a rule of its own.
    Family,
    /// An ICMP message, of whatever family: nft doesn't list which it compared.
    Message,
}

/// At each hook that is followed: its priorities, and what can't be asked there.
const HOOKS: [(&str, &str, &[i64], &[Asked]); 7] = {
    use Asked::{Addressed, Carried, EtherType, Fragment, HopLimit, InIndex, Out, Tracked};
    [
        ("bridge", "prerouting", &[-300], &[Addressed, Carried, Tracked, Out, InIndex]),
        ("bridge", "input", &[-200], &[Addressed, Carried, Tracked, Out, InIndex]),
        (
            "inet",
            "prerouting",
            &[-450],
            &[Addressed, Carried, EtherType, Tracked, Fragment, HopLimit, Out, InIndex],
        ),
        ("inet", "input", &[0], &[Addressed, Carried, EtherType, Fragment, InIndex]),
        ("inet", "forward", &[0, -150], &[Carried, EtherType, Fragment, InIndex]),
        ("inet", "output", &[0], &[Addressed, Carried, EtherType, Fragment, InIndex]),
        (
            "inet",
            "postrouting",
            &[100],
            &[Addressed, Carried, EtherType, Tracked, Fragment, HopLimit, InIndex],
        ),
    ]
};

/// Whether packets are followed at a hook with this priority.
pub fn is_followed(family: &str, hook: &str, priority: i64) -> bool {
    HOOKS.iter().any(|(of, at, priorities, _)| *of == family && *at == hook && priorities.contains(&priority))
}

/// What can't be asked at a hook.
pub fn unasked(family: &str, hook: &str) -> &'static [Asked] {
    HOOKS.iter().find(|(of, at, ..)| *of == family && *at == hook).map_or(&[], |(.., asked)| *asked)
}

/// What a rule's statements ask of all that.
pub fn asked(value: &Value) -> BTreeSet<Asked> {
    let mut found = BTreeSet::new();
    look(value, &mut found);
    found
}

fn look(value: &Value, found: &mut BTreeSet<Asked>) {
    match value {
        Value::Array(parts) => parts.iter().for_each(|part| look(part, found)),
        Value::Object(fields) => {
            for (kind, body) in fields {
                found.extend(of(kind, body));
                look(body, found);
            }
        }
        _ => {}
    }
}

fn of(kind: &str, body: &Value) -> Option<Asked> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    match (kind, text("key"), text("protocol"), text("field")) {
        ("ct", ..) => Some(Asked::Tracked),
        ("meta", "pkttype", ..) => Some(Asked::Addressed),
        ("meta", "protocol", ..) => Some(Asked::Carried),
        ("meta", "oif" | "oifname", ..) => Some(Asked::Out),
        ("meta", "iif", ..) => Some(Asked::InIndex),
        ("meta", "nfproto", ..) => Some(Asked::Family),
        ("exthdr", ..) | ("payload", _, "ip", "frag-off") => Some(Asked::Fragment),
        ("payload", _, "ether", "type") => Some(Asked::EtherType),
        ("payload", _, "ip6", "hoplimit") => Some(Asked::HopLimit),
        ("payload", _, "icmp" | "icmpv6", _) => Some(Asked::Message),
        _ => None,
    }
}
