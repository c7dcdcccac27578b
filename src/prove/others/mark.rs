//! Marks of packets and of their flows: 32 bits, each of which is a function of
//! all headers.

use serde_json::Value;

use super::super::diagram::{Diagram, Diagrams};
use super::super::rules::only;
use super::question;
use super::question::Questions;

/// As many as a mark has.
const BITS: usize = 32;

/// One mark, its lowest bit first.
pub type Bits = [Diagram; BITS];

/// Whose mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    /// The packet's own (`meta mark`).
    Packet,
    /// That of its flow (`ct mark`).
    Flow,
}

/// What is computed of marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Computed {
    Number(u32),
    Of(Whose),
    Both(Operation, Box<[Computed; 2]>),
    /// Anything: the first of as many questions.
    Anything(u32),
}

/// Of two numbers, bit by bit, or by so many places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    And,
    Or,
    Xor,
    Left,
    Right,
}

/// The mark that an expression names.
pub fn whose(value: &Value) -> Option<Whose> {
    let (kind, body) = only(value).ok()?;
    let mark = body.get("key").and_then(Value::as_str) == Some("mark");
    match kind {
        "meta" if mark => Some(Whose::Packet),
        "ct" if mark => Some(Whose::Flow),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// A mark with a mask over it.
pub fn masked(value: &Value) -> Option<(Whose, u32)> {
    if let Some(whose) = whose(value) {
        return Some((whose, u32::MAX));
    }
    match only(value).ok()? {
        ("&", Value::Array(parts)) => match parts.as_slice() {
            [mark, mask] => Some((whose(mark)?, number(mask)?)),
            _ => None,
        },
        _ => None,
    }
}

impl Computed {
    /// What isn't known of an expression is anything.
    pub fn parse(value: &Value, questions: &mut Questions) -> Self {
        Self::known(value).unwrap_or_else(|| {
            let bits: Vec<u32> = (0..BITS).map(|_| questions.once("a mark that is computed")).collect();
            Self::Anything(bits.first().copied().unwrap_or_default())
        })
    }

    fn known(value: &Value) -> Option<Self> {
        if let Some(number) = number(value) {
            return Some(Self::Number(number));
        }
        if let Some(whose) = whose(value) {
            return Some(Self::Of(whose));
        }
        let (kind, body) = only(value).ok()?;
        let operation = match kind {
            "&" => Operation::And,
            "|" => Operation::Or,
            "^" => Operation::Xor,
            "<<" => Operation::Left,
            ">>" => Operation::Right,
            _ => return None,
        };
        let [a, b] = body.as_array()?.as_slice() else { return None };
        Some(Self::Both(operation, Box::new([Self::known(a)?, Self::known(b)?])))
    }

    const fn number(&self) -> Option<u32> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// Both marks of all packets.
#[derive(Debug, Clone)]
pub struct Marks {
    packet: Bits,
    flow: Bits,
}

impl Marks {
    /// Nobody marked a packet that comes in; flows that are `known` may have
    /// been marked.
    pub fn new(diagrams: &mut Diagrams, known: Diagram, questions: &mut Questions) -> Self {
        let flow = std::array::from_fn(|place| {
            let bit = questions.same(&format!("flow's mark {place}"), "ct mark");
            let any = question::yes(diagrams, bit);
            diagrams.and(known, any)
        });
        Self { packet: [Diagram::NEVER; BITS], flow }
    }

    pub const fn of(&self, whose: Whose) -> &Bits {
        match whose {
            Whose::Packet => &self.packet,
            Whose::Flow => &self.flow,
        }
    }

    /// Marks packets where `hit` holds.
    pub fn set(&mut self, diagrams: &mut Diagrams, whose: Whose, hit: Diagram, bits: &Bits) {
        let marks = match whose {
            Whose::Packet => &mut self.packet,
            Whose::Flow => &mut self.flow,
        };
        for (mark, bit) in marks.iter_mut().zip(bits) {
            *mark = diagrams.choose(hit, *bit, *mark);
        }
    }

    /// What an expression comes to.
    pub fn computed(&self, diagrams: &mut Diagrams, value: &Computed) -> Bits {
        match value {
            Computed::Number(number) => {
                std::array::from_fn(
                    |place| if number >> place & 1 == 1 { Diagram::ALWAYS } else { Diagram::NEVER },
                )
            }
            Computed::Of(whose) => *self.of(*whose),
            Computed::Anything(first) => {
                let mut bits = *first..;
                std::array::from_fn(|_| question::yes(diagrams, bits.next().unwrap_or(*first)))
            }
            Computed::Both(operation, parts) => {
                let [left, right] = parts.as_ref();
                let a = self.computed(diagrams, left);
                let by = right.number().and_then(|number| usize::try_from(number).ok()).unwrap_or(BITS);
                let shifted = |place: Option<usize>| place.and_then(|place| a.get(place)).copied();
                match operation {
                    Operation::Left => {
                        return std::array::from_fn(|place| {
                            shifted(place.checked_sub(by)).unwrap_or(Diagram::NEVER)
                        });
                    }
                    Operation::Right => {
                        return std::array::from_fn(|place| {
                            shifted(place.checked_add(by)).unwrap_or(Diagram::NEVER)
                        });
                    }
                    Operation::And | Operation::Or | Operation::Xor => {}
                }
                let b = self.computed(diagrams, right);
                let mut pairs = a.into_iter().zip(b);
                std::array::from_fn(|_| {
                    let (a, b) = pairs.next().unwrap_or((Diagram::NEVER, Diagram::NEVER));
                    match operation {
                        Operation::And => diagrams.and(a, b),
                        Operation::Or => diagrams.or(a, b),
                        _ => {
                            let not = diagrams.not(b);
                            diagrams.choose(a, not, b)
                        }
                    }
                })
            }
        }
    }

    /// Where a mark under a mask is in a range; both ends included.
    pub fn within(
        &self,
        diagrams: &mut Diagrams,
        (whose, mask): (Whose, u32),
        (first, last): (u32, u32),
    ) -> Diagram {
        // From the lowest bit up: as long as the higher ones are the same.
        let (mut at_least, mut at_most) = (Diagram::ALWAYS, Diagram::ALWAYS);
        for (place, bit) in self.of(whose).iter().enumerate() {
            let bit = if mask >> place & 1 == 1 { *bit } else { Diagram::NEVER };
            at_least = if first >> place & 1 == 1 {
                diagrams.and(bit, at_least)
            } else {
                diagrams.or(bit, at_least)
            };
            at_most = if last >> place & 1 == 1 {
                diagrams.choose(bit, at_most, Diagram::ALWAYS)
            } else {
                diagrams.minus(at_most, bit)
            };
        }
        diagrams.and(at_least, at_most)
    }

    /// What is known of marks that don't depend on what `forget` takes away; of
    /// others nothing is.
    pub fn without(
        &mut self,
        diagrams: &mut Diagrams,
        questions: &mut Questions,
        forget: &impl Fn(&mut Diagrams, Diagram) -> Diagram,
    ) {
        for bit in self.packet.iter_mut().chain(&mut self.flow) {
            if forget(diagrams, *bit) != *bit {
                let any = questions.once("mark");
                *bit = question::yes(diagrams, any);
            }
        }
    }
}
