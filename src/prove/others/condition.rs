//! What a rule asks of a packet, where it is known; a question, where it isn't.

use crate::packet::Range;
use crate::reach::subject::{Field, Kind};

use super::super::diagram::{Diagram, Diagrams};
use super::super::header::{Boxes, Header, truth};
use super::super::rules::expression::Read;
use super::mark::{Marks, Whose};
use super::question;

/// What a rule asks.
#[derive(Debug, Clone)]
pub enum Condition {
    /// Anything.
    Any,
    /// Fields are in one of these boxes.
    Fields(Vec<Field>, Boxes),
    /// Some bits of a field.
    Bits(Field, u128, u128),
    /// A packet has what is read.
    Has(Read),
    /// It is of this kind, and protocol.
    Is(Option<Kind>, Option<u8>),
    /// What headers don't say.
    Question(u32),
    /// A mark is in one of these ranges under a mask.
    Marked(Whose, u32, Vec<(u32, u32)>),
    /// Of what type routing takes its destination, or its source.
    Routed(Side, Vec<String>),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Either(Vec<Condition>),
}

/// An end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

/// Whether the host's own addresses are at the ends of packets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own {
    pub source: bool,
    pub destination: bool,
}

/// Where and of which packets conditions are asked.
pub struct At<'a> {
    pub diagrams: &'a mut Diagrams,
    pub header: &'a Header,
    pub marks: &'a Marks,
    pub own: Own,
}

impl Condition {
    /// Whether it is of headers and questions alone: the same wherever it is
    /// asked.
    pub fn is_fixed(&self) -> bool {
        match self {
            Self::Marked(..) | Self::Routed(..) => false,
            Self::Not(inner) => inner.is_fixed(),
            Self::All(parts) | Self::Either(parts) => parts.iter().all(Self::is_fixed),
            _ => true,
        }
    }

    /// Where it holds.
    pub fn holds(&self, at: &mut At<'_>) -> Diagram {
        let header = at.header;
        match self {
            Self::Any => Diagram::ALWAYS,
            Self::Fields(fields, boxes) => header.boxes(at.diagrams, fields, boxes),
            Self::Bits(field, mask, value) => header.masked(at.diagrams, *field, *mask, *value),
            Self::Has(read) => read.present(header, at.diagrams),
            Self::Is(kind, protocol) => {
                if kind.is_some_and(|kind| kind != header.kind) {
                    return Diagram::NEVER;
                }
                let Some(protocol) = protocol else { return Diagram::ALWAYS };
                let known = header.present(at.diagrams, Field::Protocol);
                let number = u128::from(*protocol);
                let is = header.range(at.diagrams, Field::Protocol, (number, number));
                at.diagrams.and(known, is)
            }
            Self::Question(bit) => question::yes(at.diagrams, *bit),
            Self::Marked(whose, mask, ranges) => {
                let mut any = Diagram::NEVER;
                for range in ranges {
                    let within = at.marks.within(at.diagrams, (*whose, *mask), *range);
                    any = at.diagrams.or(any, within);
                }
                any
            }
            Self::Routed(side, types) => routed(at, *side, types),
            Self::Not(inner) => {
                let inner = inner.holds(at);
                at.diagrams.not(inner)
            }
            Self::All(parts) => parts.iter().fold(Diagram::ALWAYS, |all, part| {
                let part = part.holds(at);
                at.diagrams.and(all, part)
            }),
            Self::Either(parts) => parts.iter().fold(Diagram::NEVER, |any, part| {
                let part = part.holds(at);
                at.diagrams.or(any, part)
            }),
        }
    }

    pub fn not(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Never.
    pub fn never() -> Self {
        Self::Any.not()
    }
}

/// What is routed anywhere has a route.
fn routed(at: &mut At<'_>, side: Side, types: &[String]) -> Diagram {
    let (field, own) = match side {
        Side::Source => (Field::Source, at.own.source),
        Side::Destination => (Field::Destination, at.own.destination),
    };
    let (groups, everybody): (Range, Range) = match at.header.kind {
        Kind::Ipv6 => ((0xff << 120, u128::MAX), (1, 0)),
        _ => ((0xe000_0000, 0xefff_ffff), (0xffff_ffff, 0xffff_ffff)),
    };
    let groups = at.header.range(at.diagrams, field, groups);
    let everybody = at.header.range(at.diagrams, field, everybody);
    let several = at.diagrams.or(groups, everybody);
    types.iter().fold(Diagram::NEVER, |any, word| {
        let these = match word.as_str() {
            "multicast" => groups,
            "broadcast" => everybody,
            "local" => at.diagrams.minus(truth(own), several),
            "unicast" => at.diagrams.minus(truth(!own), several),
            _ => Diagram::NEVER,
        };
        at.diagrams.or(any, these)
    })
}
