//! A rule list → boxes of addresses, protocols and ports that no two share a
//! point: what nft's concatenated interval sets take, so that one look-up
//! decides, however many rules there are.
//!
//! Only what differs from the list's default is listed. The addresses are
//! swept in order; between two borders of prefixes the same rules are in
//! force, and what they say about ports is a short list of ranges. Boxes of
//! the same ports whose addresses touch become one.

use std::collections::{BTreeMap, BTreeSet};

use crate::packet::protocol::{ICMP, ICMPV6, TCP, UDP};
use crate::packet::{Family, Range};
use crate::topology::{PolicyProtocol, RuleList};

/// Most boxes of a rule list, in one family. Loading as many takes nft a
/// second or so.
pub const BOXES_MAX: usize = 16_384;

/// Most of them before those that touch become one.
const PARTS_MAX: usize = 64 * BOXES_MAX;

/// TCP or UDP ports at which the default doesn't hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) struct PortBox {
    pub addresses: Range,
    pub protocol: u8,
    pub ports: (u16, u16),
}

/// Other protocols for which the default doesn't hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) struct ProtocolBox {
    pub addresses: Range,
    pub protocols: (u8, u8),
}

/// Where the default of a rule list doesn't hold, in one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::firewall) struct Boxes {
    pub ports: Vec<PortBox>,
    pub protocols: Vec<ProtocolBox>,
}

/// There are more than [`BOXES_MAX`] boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) struct TooMany;

/// What the rules in force say of one lane.
type Pieces = Vec<(u16, u16)>;

/// TCP's ports, UDP's ports, or the numbers of the other protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Tcp,
    Udp,
    Other,
}

const LANES: [Lane; 3] = [Lane::Tcp, Lane::Udp, Lane::Other];

impl Boxes {
    /// Where the default of `list` doesn't hold.
    ///
    /// # Errors
    /// Where that takes more than [`BOXES_MAX`] boxes.
    pub fn new(list: &RuleList, family: Family) -> Result<Self, TooMany> {
        let mut boxes = Self::default();
        let mut open: [(u128, Pieces); 3] = Default::default();
        let mut inforce: BTreeSet<usize> = BTreeSet::new();
        for (border, (come, go)) in borders(list, family) {
            inforce.extend(come);
            for rule in go {
                inforce.remove(&rule);
            }
            for (lane, (start, pieces)) in LANES.iter().zip(&mut open) {
                let now = exceptions(list, &inforce, *lane, family);
                if *pieces != now {
                    if let Some(last) = border.checked_sub(1) {
                        boxes.add(*lane, (*start, last), pieces)?;
                    }
                    (*start, *pieces) = (border, now);
                }
            }
        }
        for (lane, (start, pieces)) in LANES.iter().zip(&open) {
            boxes.add(*lane, (*start, family.last()), pieces)?;
        }
        boxes.join();
        if boxes.ports.len() + boxes.protocols.len() > BOXES_MAX { Err(TooMany) } else { Ok(boxes) }
    }

    /// Makes one of boxes that differ in their addresses alone, and touch.
    fn join(&mut self) {
        let touch = |a: &mut Range, b: &Range| {
            let touches = a.1.checked_add(1) == Some(b.0);
            if touches {
                a.1 = b.1;
            }
            touches
        };
        self.ports.sort_unstable_by_key(|b| (b.protocol, b.ports, b.addresses));
        self.ports.dedup_by(|b, a| {
            (a.protocol, a.ports) == (b.protocol, b.ports) && touch(&mut a.addresses, &b.addresses)
        });
        self.protocols.sort_unstable_by_key(|b| (b.protocols, b.addresses));
        self.protocols.dedup_by(|b, a| a.protocols == b.protocols && touch(&mut a.addresses, &b.addresses));
    }

    fn add(&mut self, lane: Lane, addresses: Range, pieces: &Pieces) -> Result<(), TooMany> {
        for &(first, last) in pieces {
            let protocol = match lane {
                Lane::Tcp => TCP,
                Lane::Udp => UDP,
                Lane::Other => {
                    let number = |number: u16| u8::try_from(number).unwrap_or(u8::MAX);
                    let protocols = (number(first), number(last));
                    self.protocols.push(ProtocolBox { addresses, protocols });
                    continue;
                }
            };
            self.ports.push(PortBox { addresses, protocol, ports: (first, last) });
        }
        if self.ports.len() + self.protocols.len() > PARTS_MAX { Err(TooMany) } else { Ok(()) }
    }
}

/// The addresses at which rules begin and end to be in force: from the first
/// address on, in order.
fn borders(list: &RuleList, family: Family) -> BTreeMap<u128, (Vec<usize>, Vec<usize>)> {
    let mut borders: BTreeMap<u128, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    borders.entry(0).or_default();
    for (index, rule) in list.rules.iter().enumerate() {
        let ranges = match &rule.peers {
            None => vec![(0, family.last())],
            Some(peers) => union(peers.iter().filter_map(|net| family.range(net)).collect()),
        };
        for (first, last) in ranges {
            borders.entry(first).or_default().0.push(index);
            if last < family.last() {
                borders.entry(last + 1).or_default().1.push(index);
            }
        }
    }
    borders
}

/// The same addresses in ranges that neither overlap nor touch.
fn union(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut apart: Vec<Range> = Vec::new();
    for (first, last) in ranges {
        match apart.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
            _ => apart.push((first, last)),
        }
    }
    apart
}

/// Where on a lane the rules in force differ from the default. The list is in
/// the order of evaluation, so what an earlier rule took is taken.
fn exceptions(list: &RuleList, inforce: &BTreeSet<usize>, lane: Lane, family: Family) -> Pieces {
    let mut free: Pieces = match lane {
        Lane::Tcp | Lane::Udp => vec![(0, u16::MAX)],
        // All but those with ports.
        Lane::Other => vec![(0, 5), (7, 16), (18, 255)],
    };
    let mut differ = Pieces::new();
    for rule in inforce.iter().filter_map(|index| list.rules.get(*index)) {
        let whole = [(0, u16::MAX)];
        let ports: Vec<(u16, u16)> = rule.ports.iter().map(|ports| (ports.first(), ports.last())).collect();
        let claims: &[(u16, u16)] = match (rule.protocol, lane, family) {
            (PolicyProtocol::Any, ..) => &whole,
            (PolicyProtocol::Tcp, Lane::Tcp, _) | (PolicyProtocol::Udp, Lane::Udp, _) if ports.is_empty() => {
                &whole
            }
            (PolicyProtocol::Tcp, Lane::Tcp, _) | (PolicyProtocol::Udp, Lane::Udp, _) => &ports,
            (PolicyProtocol::Icmp, Lane::Other, Family::V4) => &[(ICMP as u16, ICMP as u16)],
            (PolicyProtocol::Icmpv6, Lane::Other, Family::V6) => &[(ICMPV6 as u16, ICMPV6 as u16)],
            _ => &[],
        };
        for &claim in claims {
            let taken = take(&mut free, claim);
            if rule.action != list.default {
                differ.extend(taken);
            }
        }
        if free.is_empty() {
            break;
        }
    }
    merge(differ)
}

/// Takes a range out of what is free (in order), and returns what of it was
/// free.
fn take(free: &mut Pieces, (first, last): (u16, u16)) -> Pieces {
    let start = free.partition_point(|piece| piece.1 < first);
    let end = free.partition_point(|piece| piece.0 <= last).max(start);
    let mut taken: Pieces = free.get(start..end).unwrap_or_default().to_vec();
    let before = taken.first().filter(|piece| piece.0 < first).map(|piece| (piece.0, first - 1));
    let after = taken.last().filter(|piece| piece.1 > last).map(|piece| (last + 1, piece.1));
    for piece in &mut taken {
        *piece = (piece.0.max(first), piece.1.min(last));
    }
    free.splice(start..end, before.into_iter().chain(after));
    taken
}

/// Neighbours as one, in order.
fn merge(mut pieces: Pieces) -> Pieces {
    pieces.sort_unstable();
    let mut merged = Pieces::new();
    for (first, last) in pieces {
        match merged.last_mut() {
            Some(previous) if previous.1.checked_add(1) == Some(first) => previous.1 = last,
            _ => merged.push((first, last)),
        }
    }
    merged
}
