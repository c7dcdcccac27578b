//! A space of packets in few words: boxes of headers.

use crate::packet::protocol::{TCP, UDP};
use crate::packet::{Family, Range};
use crate::reach::Ports;
use crate::reach::subject::{Field, state};

use super::diagram::{Diagram, Diagrams};
use super::header::{Header, ORDER};

/// Packets whose fields are in these ranges, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderBox {
    /// Source addresses, as numbers.
    pub sources: Vec<Range>,
    /// Destination addresses, as numbers.
    pub destinations: Vec<Range>,
    /// What connection tracking says of them.
    pub tracked: Vec<Tracked>,
    /// The protocol's numbers.
    pub protocols: (u8, u8),
    /// Destination ports, where the protocol has them.
    pub ports: Option<(u16, u16)>,
    /// Types of ICMP messages, where it is that.
    pub types: Option<(u8, u8)>,
}

/// What connection tracking says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tracked {
    /// It opens a flow.
    New,
    /// It goes on with one, as it was opened.
    Established,
    /// It answers one.
    Reply,
    /// It is about another flow.
    Related,
    /// It is of no flow.
    Invalid,
    /// It isn't tracked.
    Untracked,
}

impl Tracked {
    /// Everything.
    pub const ALL: [Self; 6] =
        [Self::New, Self::Established, Self::Reply, Self::Related, Self::Invalid, Self::Untracked];

    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "first packets",
            Self::Established => "later packets",
            Self::Reply => "replies",
            Self::Related => "about another flow",
            Self::Invalid => "of no flow",
            Self::Untracked => "untracked",
        }
    }

    /// As the fields say it; what is about another flow is of either direction.
    const fn of(tracking: u128, reply: u128) -> Self {
        match (tracking, reply) {
            (state::NEW, _) => Self::New,
            (state::ESTABLISHED, 0) => Self::Established,
            (state::ESTABLISHED, _) => Self::Reply,
            (state::RELATED, _) => Self::Related,
            (state::INVALID, _) => Self::Invalid,
            _ => Self::Untracked,
        }
    }
}

/// Which fields boxes tell apart, besides protocols, ports and types.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    pub sources: bool,
    pub destinations: bool,
    pub tracking: bool,
}

/// A space as boxes.
pub fn boxes(diagrams: &mut Diagrams, header: &Header, space: Diagram, told: Told) -> Vec<HeaderBox> {
    let shown = |field: &Field| match field {
        Field::Source => told.sources,
        Field::Destination => told.destinations,
        Field::State | Field::Reply => told.tracking,
        Field::Protocol | Field::DestinationPort | Field::SourcePort => true,
        _ => false,
    };
    let mut left = space;
    for field in ORDER.into_iter().filter(|field| !shown(field)) {
        left = header.some(diagrams, left, field);
    }
    let mut found = Vec::new();
    for (sources, rest) in alike(diagrams, header, left, Field::Source, told.sources) {
        for (destinations, rest) in alike(diagrams, header, rest, Field::Destination, told.destinations) {
            for (tracked, rest) in tracking(diagrams, header, rest, told.tracking) {
                let whole = HeaderBox {
                    sources: sources.clone(),
                    destinations: destinations.clone(),
                    tracked,
                    protocols: (0, u8::MAX),
                    ports: None,
                    types: None,
                };
                for (protocols, rest) in header.parts(diagrams, rest, Field::Protocol) {
                    services(diagrams, header, &whole, protocols, rest, &mut found);
                }
            }
        }
    }
    found
}

/// Values of a field of which the same is left, together.
fn alike(
    diagrams: &Diagrams,
    header: &Header,
    space: Diagram,
    field: Field,
    told: bool,
) -> Vec<(Vec<Range>, Diagram)> {
    if space == Diagram::NEVER {
        return Vec::new();
    }
    if !told {
        return vec![(Vec::new(), space)];
    }
    if let Some(value) = header.constant(field) {
        return vec![(vec![(value, value)], space)];
    }
    let mut found: Vec<(Vec<Range>, Diagram)> = Vec::new();
    for (range, rest) in header.parts(diagrams, space, field) {
        match found.iter_mut().find(|(_, other)| *other == rest) {
            _ if rest == Diagram::NEVER => {}
            Some((ranges, _)) => ranges.push(range),
            None => found.push((vec![range], rest)),
        }
    }
    found
}

fn tracking(
    diagrams: &mut Diagrams,
    header: &Header,
    space: Diagram,
    told: bool,
) -> Vec<(Vec<Tracked>, Diagram)> {
    if !told {
        return vec![(Vec::new(), space)];
    }
    let mut by_tracking = vec![Diagram::NEVER; Tracked::ALL.len()];
    for (states, rest) in header.parts(diagrams, space, Field::State) {
        for state in states.0..=states.1.min(state::UNTRACKED) {
            for (replies, rest) in header.parts(diagrams, rest, Field::Reply) {
                for reply in replies.0..=replies.1 {
                    let tracked = Tracked::of(state, reply);
                    if let Some(known) = by_tracking.get_mut(tracked as usize) {
                        *known = diagrams.or(*known, rest);
                    }
                }
            }
        }
    }
    let mut found: Vec<(Vec<Tracked>, Diagram)> = Vec::new();
    for (tracked, rest) in Tracked::ALL.into_iter().zip(by_tracking) {
        match found.iter_mut().find(|(_, other)| *other == rest) {
            _ if rest == Diagram::NEVER => {}
            Some((all, _)) => all.push(tracked),
            None => found.push((vec![tracked], rest)),
        }
    }
    found
}

/// By ports where the protocol has them, and by types where it is ICMP.
fn services(
    diagrams: &mut Diagrams,
    header: &Header,
    whole: &HeaderBox,
    protocols: Range,
    rest: Diagram,
    found: &mut Vec<HeaderBox>,
) {
    if rest == Diagram::NEVER {
        return;
    }
    let byte = |number: u128| u8::try_from(number).unwrap_or(u8::MAX);
    let protocols = (byte(protocols.0), byte(protocols.1));
    let one = |ports, types| HeaderBox { protocols, ports, types, ..whole.clone() };
    if rest == Diagram::ALWAYS {
        found.push(one(None, None));
        return;
    }
    let icmp = header.family().icmp();
    if protocols == (icmp, icmp) {
        let by_type = header.some(diagrams, rest, Field::DestinationPort);
        for (types, rest) in header.parts(diagrams, by_type, Field::MessageType) {
            if header.some(diagrams, rest, Field::SourcePort) != Diagram::NEVER {
                found.push(one(None, Some((byte(types.0), byte(types.1)))));
            }
        }
        return;
    }
    let by_port = header.some(diagrams, rest, Field::SourcePort);
    for (ports, rest) in header.parts(diagrams, by_port, Field::DestinationPort) {
        if rest != Diagram::NEVER {
            let port = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
            found.push(one(Some((port(ports.0), port(ports.1))), None));
        }
    }
}

/// The protocols, ports and types of boxes, in words: `tcp 22, 80; ping`.
pub fn services_text<'b>(family: Family, boxes: impl IntoIterator<Item = &'b HeaderBox>) -> String {
    let mut by_ports: Vec<(Ports, Vec<(u8, u8)>)> = Vec::new();
    let mut whole: Vec<(u8, u8)> = Vec::new();
    let mut types: Vec<(u8, u8)> = Vec::new();
    let mut ports: Vec<((u8, u8), Ports)> = Vec::new();
    for one in boxes {
        match (one.ports, one.types) {
            (None, None) => whole.push(one.protocols),
            (_, Some(range)) => types.push(range),
            (Some((first, last)), None) => match ports.iter_mut().find(|(of, _)| *of == one.protocols) {
                Some((_, known)) => known.push(first, last),
                None => {
                    let mut fresh = Ports::default();
                    fresh.push(first, last);
                    ports.push((one.protocols, fresh));
                }
            },
        }
    }
    // Protocols with the same ports are said together.
    for (protocols, ports) in ports {
        match by_ports.iter_mut().find(|(other, _)| *other == ports) {
            Some((_, all)) => all.push(protocols),
            None => by_ports.push((ports, vec![protocols])),
        }
    }
    whole.sort_unstable();
    if joined(&whole) == [(0, u8::MAX)] {
        return "everything".into();
    }
    let mut texts: Vec<String> = Vec::new();
    for (ports, protocols) in by_ports {
        texts.push(format!("{} {ports}", protocols_text(family, &joined(&protocols))));
    }
    if !types.is_empty() {
        texts.push(types_text(family, &types));
    }
    if !whole.is_empty() {
        texts.push(protocols_text(family, &joined(&whole)));
    }
    texts.join("; ")
}

/// In order, those that touch as one.
fn joined(ranges: &[(u8, u8)]) -> Vec<(u8, u8)> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut found: Vec<(u8, u8)> = Vec::new();
    for (first, last) in sorted {
        match found.last_mut() {
            Some((_, end)) if u16::from(first) <= u16::from(*end) + 1 => *end = (*end).max(last),
            _ => found.push((first, last)),
        }
    }
    found
}

fn protocols_text(family: Family, ranges: &[(u8, u8)]) -> String {
    let has = |number: u8| ranges.iter().any(|(first, last)| (*first..=*last).contains(&number));
    let named = [(TCP, "tcp"), (UDP, "udp"), (family.icmp(), "icmp")];
    let unnamed = |number: u8| named.iter().all(|(other, _)| *other != number);
    let mut texts: Vec<String> =
        named.iter().filter(|(number, _)| has(*number)).map(|(_, name)| (*name).to_string()).collect();
    if (0..=u8::MAX).filter(|number| unnamed(*number)).all(has) {
        texts.push("other protocols".into());
        return texts.join(", ");
    }
    let mut rest: Vec<(u8, u8)> = Vec::new();
    for number in (0..=u8::MAX).filter(|number| has(*number) && unnamed(*number)) {
        match rest.last_mut() {
            Some((_, end)) if u16::from(number) == u16::from(*end) + 1 => *end = number,
            _ => rest.push((number, number)),
        }
    }
    if !rest.is_empty() {
        texts.push(format!("protocol {}", numbers(&rest)));
    }
    texts.join(", ")
}

fn types_text(family: Family, types: &[(u8, u8)]) -> String {
    let (echo, _) = family.echo();
    match joined(types).as_slice() {
        [(0, u8::MAX)] => "icmp".into(),
        [(first, last)] if (*first, *last) == (echo, echo) => "ping".into(),
        several => format!("icmp type {}", numbers(several)),
    }
}

fn numbers(ranges: &[(u8, u8)]) -> String {
    let text = |(first, last): &(u8, u8)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::grain::{Missing, Starts};
    use super::*;
    use crate::reach::subject::Kind;

    /// All headers of IPv4, whose ports are told apart at 80 and 91.
    fn header() -> Header {
        let mut starts = Starts::default();
        starts.divide(Field::DestinationPort, (80, 90));
        Header::new(Kind::Ipv4, &starts, &Missing::default(), 1)
    }

    fn text(header: &Header, diagrams: &mut Diagrams, space: Diagram) -> String {
        let found = boxes(diagrams, header, space, Told::default());
        services_text(header.family(), &found)
    }

    #[test]
    fn a_space_is_said_in_few_words() {
        let (mut diagrams, header) = (Diagrams::default(), header());
        let diagrams = &mut diagrams;
        assert_eq!(text(&header, diagrams, Diagram::ALWAYS), "everything");
        assert_eq!(text(&header, diagrams, Diagram::NEVER), "");
        let tcp = header.range(diagrams, Field::Protocol, (6, 6));
        let port = header.range(diagrams, Field::DestinationPort, (80, 90));
        let web = diagrams.and(tcp, port);
        assert_eq!(text(&header, diagrams, web), "tcp 80-90");
        let icmp = header.range(diagrams, Field::Protocol, (1, 1));
        let echo = header.range(diagrams, Field::MessageType, (8, 8));
        let ping = diagrams.and(icmp, echo);
        let both = diagrams.or(web, ping);
        assert_eq!(text(&header, diagrams, both), "tcp 80-90; ping");
        let rest = diagrams.not(web);
        assert_eq!(text(&header, diagrams, rest), "tcp 0-79, 91-65535; udp, icmp, other protocols");
        let few = header.range(diagrams, Field::Protocol, (0, 2));
        assert_eq!(text(&header, diagrams, few), "icmp, protocol 0, 2");
    }

    #[test]
    fn what_is_the_same_in_all_packets_is_told_as_it_is() {
        let (mut diagrams, mut header) = (Diagrams::default(), header());
        header.fix(Field::Source, 7);
        let told = Told { sources: true, tracking: true, ..Told::default() };
        let replies = header.range(&mut diagrams, Field::Reply, (1, 1));
        let found = boxes(&mut diagrams, &header, replies, told);
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(one.sources, [(7, 7)]);
        assert!(one.tracked.contains(&Tracked::Reply) && !one.tracked.contains(&Tracked::Established));
    }
}
