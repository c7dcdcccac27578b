//! All headers: which bits of a diagram are which field, and sets of fields'
//! values as diagrams.

use std::collections::BTreeSet;

use crate::packet::{Family, Range};
use crate::reach::subject::{Field, Kind, depth, state};

use super::diagram::{Diagram, Diagrams};
use super::grain::{GRAINED, Grain, Missing, Starts, ones};

/// The fields that have bits, in their order. What tells senders apart comes
/// before where it goes, so that all senders share what lies behind (who opened
/// a flow is compared with who sends); what a
/// packet is, and what tracking says of it, comes after the addresses: few of
/// these combinations are judged in different ways.
pub const ORDER: [Field; 24] = [
    Field::SourceMac,
    Field::Source,
    Field::OpenedBy,
    Field::OpenedTo,
    Field::Out,
    Field::Destination,
    Field::State,
    Field::Reply,
    Field::Confirmed,
    Field::Translated,
    Field::Addressed,
    Field::Fragment,
    Field::Depth,
    Field::Long,
    Field::Protocol,
    Field::DestinationPort,
    Field::SourcePort,
    Field::HopLimit,
    Field::DestinationMac,
    Field::Target,
    Field::Operation,
    Field::Malformed,
    Field::SenderMac,
    Field::Limits,
];

/// Fields, with those that have no bits; the last one's number is the highest.
const FIELDS: usize = Field::Family as usize + 1;

/// Bits before those of the first field: what is left open where no host is
/// looked at (`template`).
pub const FACTS: u32 = 64;

/// The bits of a link's number where it is one of what packets come in by.
pub const LINK_BITS: u32 = 16;

/// What a packet of one kind has, and where.
#[derive(Debug, Clone)]
pub struct Header {
    pub kind: Kind,
    /// First bit and number of bits of each field.
    places: [(u32, u32); FIELDS],
    /// Fields that are the same in all packets.
    constants: [Option<u128>; FIELDS],
    /// Fields whose values are told apart by their grains.
    grains: [Option<Grain>; FIELDS],
    /// Fields whose grains are this header's, and no other one's.
    own: [bool; FIELDS],
    missing: Missing,
}

/// A box has a range for each field; boxes of one list are as wide.
#[derive(Debug, Clone, Default)]
pub struct Boxes {
    /// How many fields.
    pub width: usize,
    /// The ranges of all boxes, one box after the other.
    pub ranges: Vec<Range>,
    /// What each box stands for.
    pub values: Vec<Diagram>,
}

impl Boxes {
    /// No box yet, of so many fields.
    pub fn new(width: usize) -> Self {
        Self { width, ranges: Vec::new(), values: Vec::new() }
    }

    /// Adds one that stands for `value`.
    pub fn push(&mut self, ranges: &[Range], value: Diagram) {
        self.ranges.extend(ranges);
        self.values.push(value);
    }

    /// The ranges of one field.
    pub fn column(&self, column: usize) -> impl Iterator<Item = Range> + '_ {
        self.ranges.iter().skip(column).step_by(self.width.max(1)).copied()
    }

    fn get(&self, index: usize) -> &[Range] {
        self.ranges.get(index * self.width..(index + 1) * self.width).unwrap_or_default()
    }
}

impl Header {
    /// That of all packets of a kind, whose fields' values are told apart where
    /// `starts` says, and whose links have numbers up to `last_link`.
    pub fn new(kind: Kind, starts: &Starts, missing: &Missing, last_link: u128) -> Self {
        let mut places = [(0, 0); FIELDS];
        let mut grains = [const { None }; FIELDS];
        let mut first = FACTS;
        for field in ORDER {
            let bits = match field {
                Field::Out => u128::BITS - last_link.leading_zeros(),
                _ if GRAINED.contains(&field) => {
                    let grain = Grain::new(field, width(kind, field), &starts.of(field), missing.clone());
                    let bits = grain.bits();
                    if let Some(place) = grains.get_mut(field as usize) {
                        *place = Some(grain);
                    }
                    bits
                }
                _ => width(kind, field),
            };
            if let Some(place) = places.get_mut(field as usize) {
                *place = (first, bits);
            }
            first += bits;
        }
        Self::with(kind, places, grains, missing)
    }

    /// That of all packets of a kind that come in by whatever link, each value
    /// apart: first of all is the link.
    pub fn with_entry(kind: Kind) -> Self {
        let mut places = [(0, 0); FIELDS];
        let mut first = FACTS;
        for field in std::iter::once(Field::In).chain(ORDER) {
            let bits = if matches!(field, Field::In | Field::Out) { LINK_BITS } else { width(kind, field) };
            if let Some(place) = places.get_mut(field as usize) {
                *place = (first, bits);
            }
            first += bits;
        }
        Self::with(kind, places, [const { None }; FIELDS], &Missing::default())
    }

    fn with(
        kind: Kind,
        mut places: [(u32, u32); FIELDS],
        grains: [Option<Grain>; FIELDS],
        missing: &Missing,
    ) -> Self {
        // ICMP's type is the first byte where others have their source port.
        let port = places.get(Field::SourcePort as usize).map_or(0, |(first, _)| *first);
        if let Some(place) = places.get_mut(Field::MessageType as usize) {
            *place = (port, 8);
        }
        let (constants, own, missing) = ([None; FIELDS], [false; FIELDS], missing.clone());
        let mut header = Self { kind, places, constants, grains, own, missing };
        let (ether, family) = match kind {
            Kind::Ipv4 => (0x0800, 2),
            Kind::Ipv6 => (0x86dd, 10),
            Kind::Arp => (0x0806, 3),
            // Neither is one that a rule of ours may name.
            Kind::Other => (0, 0),
        };
        header.fix(Field::EtherType, ether);
        header.fix(Field::Family, family);
        header
    }

    /// Makes a field the same in all packets.
    pub fn fix(&mut self, field: Field, value: u128) {
        if let Some(constant) = self.constants.get_mut(field as usize) {
            *constant = Some(value);
        }
    }

    /// The value of a field that is the same in all packets.
    pub fn constant(&self, field: Field) -> Option<u128> {
        self.constants.get(field as usize).copied().flatten()
    }

    /// Tells a field's values apart where `starts` says: of packets of one sender
    /// few matter. The bits are those of all grains.
    pub fn narrow(&mut self, field: Field, starts: &BTreeSet<u128>) {
        let (first, most) = self.place(field);
        let grain = Grain::new(field, width(self.kind, field), starts, self.missing.clone());
        let bits = grain.bits();
        if bits > most {
            return;
        }
        let index = field as usize;
        if let (Some(place), Some(of), Some(own)) =
            (self.places.get_mut(index), self.grains.get_mut(index), self.own.get_mut(index))
        {
            (*place, *of, *own) = ((first, bits), Some(grain), true);
        }
    }

    /// Whether a field's values are told apart as in no other header: what is
    /// known of one is nothing to the others.
    pub fn is_own(&self, field: Field) -> bool {
        self.constant(field).is_some() || self.own.get(field as usize).copied().unwrap_or_default()
    }

    fn grain(&self, field: Field) -> Option<&Grain> {
        self.grains.get(field as usize).and_then(Option::as_ref)
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        if self.kind == Kind::Ipv6 { Family::V6 } else { Family::V4 }
    }

    fn place(&self, field: Field) -> (u32, u32) {
        self.places.get(field as usize).copied().unwrap_or_default()
    }

    /// Where a packet has a field: of what follows the network header it may be
    /// cut off.
    pub fn present(&self, diagrams: &mut Diagrams, field: Field) -> Diagram {
        let ip = matches!(self.kind, Kind::Ipv4 | Kind::Ipv6);
        let arp = self.kind == Kind::Arp;
        let needs = match field {
            Field::Protocol => depth::PROTOCOL,
            Field::MessageType => depth::TYPE,
            Field::SourcePort | Field::DestinationPort => depth::PORTS,
            Field::Target => depth::TARGET,
            Field::Source | Field::Destination => return truth(ip || arp),
            Field::Operation | Field::Malformed | Field::SenderMac => return truth(arp),
            Field::HopLimit => return truth(self.kind == Kind::Ipv6),
            Field::Fragment => return truth(ip),
            // Of what belongs to no flow tracking says no more.
            Field::Reply | Field::OpenedBy | Field::OpenedTo => {
                let tracked = self.range(diagrams, Field::State, (state::NEW, state::RELATED));
                return if ip { tracked } else { Diagram::NEVER };
            }
            _ => return Diagram::ALWAYS,
        };
        if !ip {
            return Diagram::NEVER;
        }
        self.range(diagrams, Field::Depth, (needs, depth::TARGET))
    }

    /// Where a field is in a range.
    pub fn range(&self, diagrams: &mut Diagrams, field: Field, range: Range) -> Diagram {
        self.among(diagrams, field, &[range])
    }

    /// Where a field is in one of the ranges.
    pub fn among(&self, diagrams: &mut Diagrams, field: Field, ranges: &[Range]) -> Diagram {
        let mut boxes = Boxes::new(1);
        for range in ranges {
            boxes.push(&[*range], Diagram::ALWAYS);
        }
        self.boxes(diagrams, &[field], &boxes)
    }

    /// Whether a mask of a field has few holes, where these are many ranges.
    pub fn takes_mask(&self, field: Field, mask: u128) -> bool {
        const HOLES: u32 = 10;
        let bits = width(self.kind, field);
        let free = mask.trailing_zeros().min(bits);
        self.grain(field).is_none() || bits - free - (mask >> free).count_ones().min(bits - free) <= HOLES
    }

    /// Where `field & mask == value`.
    pub fn masked(&self, diagrams: &mut Diagrams, field: Field, mask: u128, value: u128) -> Diagram {
        // Bits that the mask takes away are never there.
        if value & !mask != 0 {
            return Diagram::NEVER;
        }
        if let Some(constant) = self.constant(field) {
            return truth(constant & mask == value);
        }
        if self.grain(field).is_some() {
            return self.among(diagrams, field, &matching(mask, value, width(self.kind, field)));
        }
        let (first, bits) = self.place(field);
        let mut result = Diagram::ALWAYS;
        for place in 0..bits {
            let bit = 1u128 << place;
            if mask & bit != 0 {
                let (zero, one) =
                    if value & bit != 0 { (Diagram::NEVER, result) } else { (result, Diagram::NEVER) };
                result = diagrams.decide(first + bits - 1 - place, zero, one);
            }
        }
        result
    }

    /// What the boxes stand for; nothing elsewhere. Where boxes overlap, it is
    /// the first one's value.
    pub fn boxes(&self, diagrams: &mut Diagrams, fields: &[Field], boxes: &Boxes) -> Diagram {
        let mut columns: Vec<(u32, u32, usize)> = Vec::new();
        for (column, field) in fields.iter().enumerate() {
            if self.constant(*field).is_none() {
                let (first, bits) = self.place(*field);
                columns.push((first, bits, column));
            }
        }
        columns.sort_unstable();
        let mut open = Boxes::new(columns.len());
        for (row, value) in boxes.values.iter().enumerate() {
            let of_row = boxes.get(row);
            let here = fields.iter().zip(of_row).all(|(field, (first, last))| {
                self.constant(*field).is_none_or(|constant| (*first..=*last).contains(&constant))
            });
            if !here {
                continue;
            }
            let numbers: Option<Vec<Range>> = columns
                .iter()
                .map(|(_, _, column)| {
                    let (field, range) = (*fields.get(*column)?, *of_row.get(*column)?);
                    match self.grain(field) {
                        Some(grain) => grain.numbers(range),
                        None => Some(range).filter(|(first, last)| first <= last),
                    }
                })
                .collect();
            if let Some(numbers) = numbers {
                open.push(&numbers, *value);
            }
        }
        let rows: Vec<usize> = (0..open.values.len()).collect();
        let columns: Vec<(u32, u32)> = columns.iter().map(|(first, bits, _)| (*first, *bits)).collect();
        Build { diagrams, boxes: &open, columns: &columns }.at(&rows, 0, 0, 0)
    }

    /// The value of a field on a way through a diagram; what isn't looked at is
    /// 0.
    pub fn value(&self, path: &[(u32, bool)], field: Field) -> u128 {
        if let Some(constant) = self.constant(field) {
            return constant;
        }
        let (first, bits) = self.place(field);
        let mut value = 0;
        for (bit, one) in path {
            if (first..first + bits).contains(bit) && *one {
                value |= 1u128 << (bits - 1 - (bit - first));
            }
        }
        self.grain(field).map_or(value, |grain| likely(self.kind, field, grain.values((value, value))))
    }

    /// Where it holds for some value of a field.
    pub fn some(&self, diagrams: &mut Diagrams, diagram: Diagram, field: Field) -> Diagram {
        let (first, bits) = self.place(field);
        diagrams.some(diagram, first..first + bits)
    }

    /// What is left of a function where a field has a value.
    pub fn given(&self, diagrams: &mut Diagrams, diagram: Diagram, field: Field, value: u128) -> Diagram {
        diagrams.given(diagram, self.place(field), value)
    }

    /// Where it holds for some value of all fields but these.
    pub fn only(&self, diagrams: &mut Diagrams, diagram: Diagram, fields: &[Field]) -> Diagram {
        let mut places: Vec<(u32, u32)> = fields.iter().map(|field| self.place(*field)).collect();
        places.sort_unstable();
        let (mut left, mut from) = (diagram, 0);
        for (first, bits) in places {
            left = diagrams.some(left, from..first);
            from = first + bits;
        }
        diagrams.some(left, from..u32::MAX)
    }

    /// What is left of a function for each range of a field's values; it looks
    /// at none of the fields before.
    pub fn parts(&self, diagrams: &Diagrams, diagram: Diagram, field: Field) -> Vec<(Range, Diagram)> {
        if let Some(constant) = self.constant(field) {
            return vec![((constant, constant), diagram)];
        }
        let (first, bits) = self.place(field);
        let mut parts = diagrams.parts(diagram, first, bits);
        if let Some(grain) = self.grain(field) {
            for (numbers, _) in &mut parts {
                *numbers = grain.values(*numbers);
            }
        }
        parts
    }

    /// The bit of a packet that has these fields' values exchanged, for each of
    /// its bits: as wide in both of a pair.
    pub fn exchanged(&self, pairs: &[(Field, Field)], bit: u32) -> u32 {
        for (a, b) in pairs {
            for (from, to) in [(a, b), (b, a)] {
                let ((from, bits), (to, _)) = (self.place(*from), self.place(*to));
                if (from..from + bits).contains(&bit) {
                    return to + (bit - from);
                }
            }
        }
        bit
    }

    /// The first of the bits that say which limits are used up; no other follows.
    pub fn limits(&self) -> u32 {
        self.place(Field::Limits).0
    }

    /// Whether a way through a diagram looks at a field.
    pub fn looks_at(&self, path: &[(u32, bool)], field: Field) -> bool {
        let (first, bits) = self.place(field);
        self.constant(field).is_some() || path.iter().any(|(bit, _)| (first..first + bits).contains(bit))
    }
}

/// Always, or never.
pub const fn truth(holds: bool) -> Diagram {
    if holds { Diagram::ALWAYS } else { Diagram::NEVER }
}

/// One of the values that nobody tells apart: one that a host may have, where there
/// is one among them (RFC 5737, RFC 3849, a locally administered MAC).
fn likely(kind: Kind, field: Field, (first, last): Range) -> u128 {
    const V4: [u128; 3] = [0xcb00_7101, 0xc633_6401, 0xc000_0201];
    const V6: [u128; 3] = [(0x2001_0db8 << 96) | 1, (0x2001_0db8_0001 << 80) | 1, (0xfd00 << 112) | 1];
    const MAC: [u128; 1] = [0x0200_0000_0001];
    let some: &[u128] = match (field, kind) {
        (Field::Source | Field::Destination, Kind::Ipv4) => &V4,
        (Field::Source | Field::Destination, Kind::Ipv6) => &V6,
        (Field::SourceMac, _) => &MAC,
        _ => &[],
    };
    some.iter().copied().find(|value| (first..=last).contains(value)).unwrap_or(first)
}

/// The bits that a field has in packets of a kind.
const fn width(kind: Kind, field: Field) -> u32 {
    match field {
        Field::State | Field::Depth => 3,
        Field::Reply | Field::Confirmed | Field::Translated | Field::Long => 1,
        Field::Addressed | Field::Fragment => 2,
        Field::SourceMac | Field::DestinationMac | Field::SenderMac => 48,
        Field::Source | Field::Destination | Field::OpenedBy | Field::OpenedTo => match kind {
            Kind::Ipv6 => 128,
            Kind::Ipv4 | Kind::Arp | Kind::Other => 32,
        },
        Field::Operation | Field::SourcePort | Field::DestinationPort => 16,
        Field::Target => 128,
        Field::Malformed => 4,
        _ => 8,
    }
}

/// The values with these bits, as ranges: one for each value of the mask's holes.
fn matching(mask: u128, value: u128, bits: u32) -> Vec<Range> {
    // Below its lowest bit a mask leaves a range; above, each hole doubles them.
    let free = mask.trailing_zeros().min(bits);
    let mut ranges = vec![(value & mask, value & mask | ones(free))];
    for bit in free..bits {
        if mask & 1 << bit == 0 {
            let with: Vec<Range> =
                ranges.iter().map(|(first, last)| (first | 1 << bit, last | 1 << bit)).collect();
            ranges.extend(with);
        }
    }
    ranges
}

struct Build<'b> {
    diagrams: &'b mut Diagrams,
    boxes: &'b Boxes,
    /// First bit, and number of bits.
    columns: &'b [(u32, u32)],
}

impl Build<'_> {
    /// Of the boxes `rows`, where the fields before are decided, and the first
    /// bits of this one are `prefix`.
    fn at(&mut self, rows: &[usize], field: usize, bit: u32, prefix: u128) -> Diagram {
        let Some(first) = rows.first() else { return Diagram::NEVER };
        let Some(&(place, bits)) = self.columns.get(field) else {
            return self.boxes.values.get(*first).copied().unwrap_or(Diagram::NEVER);
        };
        let rest = bits - bit;
        let last = prefix | ones(rest);
        let range = |boxes: &Boxes, row: usize| boxes.get(row).get(field).copied().unwrap_or((1, 0));
        let covers = |boxes: &Boxes, row: usize| {
            let (low, high) = range(boxes, row);
            low <= prefix && last <= high
        };
        if rest == 0 || rows.iter().all(|row| covers(self.boxes, *row)) {
            return self.at(rows, field + 1, 0, 0);
        }
        let middle = prefix | 1 << (rest - 1);
        let lower: Vec<usize> =
            rows.iter().copied().filter(|row| range(self.boxes, *row).0 < middle).collect();
        let upper: Vec<usize> =
            rows.iter().copied().filter(|row| range(self.boxes, *row).1 >= middle).collect();
        // What was cut off by the bits before is in neither half.
        let lower: Vec<usize> = lower.into_iter().filter(|row| range(self.boxes, *row).1 >= prefix).collect();
        let upper: Vec<usize> = upper.into_iter().filter(|row| range(self.boxes, *row).0 <= last).collect();
        let zero = self.at(&lower, field, bit + 1, prefix);
        let one = self.at(&upper, field, bit + 1, middle);
        self.diagrams.decide(place + bit, zero, one)
    }
}
