//! Values that nobody tells apart: the rules and the model ask of an address
//! whether it is in this range or that, and between two ends of ranges all
//! addresses fare alike. A diagram decides by the number of such a grain, which
//! has some ten bits where an IPv6 address has 128 (compare "atomic predicates",
//! H. Yang and S. S. Lam, "Real-time verification of network properties using
//! atomic predicates", 2013).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::packet::Range;
use crate::reach::subject::Field;

/// The fields whose values are taken in grains.
pub const GRAINED: [Field; 8] = [
    Field::SourceMac,
    Field::Source,
    Field::OpenedBy,
    Field::OpenedTo,
    Field::Destination,
    Field::DestinationPort,
    Field::Target,
    Field::SenderMac,
];

/// Where the grains of one field begin.
#[derive(Debug, Clone)]
pub struct Grain {
    field: Field,
    /// In order; the first is 0.
    starts: Rc<[u128]>,
    /// The field's highest value.
    highest: u128,
    /// Ends of ranges that were asked for and lie within a grain.
    missing: Missing,
}

/// Ends of ranges that lie within a grain: where there are any, nothing is to be
/// said before these grains are divided.
pub type Missing = Rc<RefCell<BTreeSet<(Field, u128)>>>;

impl Grain {
    /// The grains that begin at `starts`, of a field of so many bits.
    pub fn new(field: Field, bits: u32, starts: &BTreeSet<u128>, missing: Missing) -> Self {
        let highest = ones(bits);
        let starts = starts.iter().copied().filter(|start| *start != 0 && *start <= highest);
        Self { field, starts: std::iter::once(0).chain(starts).collect(), highest, missing }
    }

    /// The bits of a grain's number.
    pub fn bits(&self) -> u32 {
        usize::BITS - (self.starts.len() - 1).leading_zeros()
    }

    /// The numbers of a range's grains. What lies behind the last one's number is
    /// the last one's as well.
    pub fn numbers(&self, (first, last): Range) -> Option<Range> {
        if first > last || first > self.highest {
            return None;
        }
        let first = self.number(first);
        let last = match last.checked_add(1).filter(|next| *next <= self.highest) {
            None => ones(self.bits()),
            Some(next) => self.number(next).saturating_sub(1),
        };
        Some((first, last.max(first)))
    }

    /// The number of the grain that begins at a value, or which it lies in.
    fn number(&self, value: u128) -> u128 {
        let behind = self.starts.partition_point(|start| *start <= value);
        if behind.checked_sub(1).and_then(|index| self.starts.get(index)) != Some(&value) {
            self.missing.borrow_mut().insert((self.field, value));
        }
        u128::try_from(behind.saturating_sub(1)).unwrap_or(u128::MAX)
    }

    /// The values of a range of grains' numbers.
    pub fn values(&self, (first, last): Range) -> Range {
        let start = |number: u128| usize::try_from(number).ok().and_then(|index| self.starts.get(index));
        let begin = start(first).or(self.starts.last()).copied().unwrap_or(0);
        let end = last.checked_add(1).and_then(start).map_or(self.highest, |next| next - 1);
        (begin, end)
    }
}

/// Where the grains of all fields begin, in packets of one kind.
#[derive(Debug, Clone, Default)]
pub struct Starts(BTreeMap<Field, BTreeSet<u128>>);

impl Starts {
    /// Tells apart what is in a range from what isn't.
    pub fn divide(&mut self, field: Field, (first, last): Range) {
        let starts = self.0.entry(field).or_default();
        starts.insert(first);
        starts.extend(last.checked_add(1));
    }

    /// Begins a grain at a value.
    pub fn begin(&mut self, field: Field, value: u128) -> bool {
        self.0.entry(field).or_default().insert(value)
    }

    /// Those of a field.
    pub fn of(&self, field: Field) -> BTreeSet<u128> {
        self.0.get(&field).cloned().unwrap_or_default()
    }

    /// How many there are of a field.
    pub fn len(&self, field: Field) -> usize {
        self.0.get(&field).map_or(0, BTreeSet::len)
    }

    /// Has one grain of a field again.
    pub fn forget(&mut self, field: Field) {
        self.0.remove(&field);
    }
}

/// All ones, of so many bits.
pub const fn ones(bits: u32) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_in_a_range_where_its_grain_is(
            ends in prop::collection::vec((0u128..40, 0u128..40), 1..6), value in 0u128..32,
        ) {
            let mut starts = Starts::default();
            ends.iter().for_each(|range| starts.divide(Field::Source, *range));
            let missing = Missing::default();
            let grain = Grain::new(Field::Source, 5, &starts.of(Field::Source), missing.clone());
            let own = grain.number(value);
            missing.borrow_mut().clear();
            for range in ends {
                let inside = grain.numbers(range).is_some_and(|(first, last)| first <= own && own <= last);
                prop_assert_eq!(inside, range.0 <= value && value <= range.1);
                if let Some(numbers) = grain.numbers(range) {
                    prop_assert_eq!(grain.values(numbers), (range.0, range.1.min(31)));
                }
            }
            prop_assert!(missing.borrow().is_empty());
        }

        #[test]
        fn an_end_that_lies_within_a_grain_is_told(first in 1u128..31, start in 1u128..31) {
            let missing = Missing::default();
            let grain = Grain::new(Field::Source, 5, &[start].into(), missing.clone());
            grain.numbers((first, 31));
            prop_assert_eq!(missing.borrow().is_empty(), first == start);
        }
    }
}
