//! By which mark a tracked flow is known that the rules have judged.

use serde::{Deserialize, Serialize};

use crate::topology::MarkMask;

/// The marks (`ct mark`) that the rules give the flows that they let pass, and know
/// them by from then on. Within the mask the lowest bit is the class, those above it
/// the generation: what an earlier generation marked is judged anew. The other bits
/// of the mark are other programs'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Judgement {
    mask: MarkMask,
    generation: Generation,
}

/// Which of the rules that followed each other; none where nobody is to be known by a
/// mark: marks of old can't be taken back everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Generation {
    Numbered(u32),
    Unmarked,
}

impl Default for Generation {
    fn default() -> Self {
        Self::Numbered(1)
    }
}

/// What a flow may do that the rules have let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It is between guests.
    Between,
    /// It is a guest's, and leads out by an exit.
    Out,
}

/// Bits of tracked flows' marks, and what they are where a mark is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marked {
    /// What they are.
    pub value: u32,
    /// Which.
    pub mask: u32,
}

impl Judgement {
    /// The first generation's.
    pub fn first(mask: MarkMask) -> Self {
        Self { mask, ..Self::default() }
    }

    /// By which nobody is known: each packet is judged.
    pub const fn unmarked(mask: MarkMask) -> Self {
        Self { mask, generation: Generation::Unmarked }
    }

    /// Of which one of the marks is `value`, within the mask.
    pub const fn from_mark(mask: MarkMask, value: u32) -> Option<Self> {
        let bits = mask.bits();
        if value & !bits != 0 {
            return None;
        }
        match value >> bits.trailing_zeros() >> 1 {
            0 => None,
            number => Some(Self { mask, generation: Generation::Numbered(number) }),
        }
    }

    /// The mask.
    pub const fn mask(&self) -> MarkMask {
        self.mask
    }

    /// Whether flows are known by their marks at all.
    pub const fn marks(&self) -> bool {
        matches!(self.generation, Generation::Numbered(_))
    }

    /// The mark, within the mask, of a flow that may do this; never 0, which is that
    /// of one that nobody judged.
    pub const fn mark(&self, class: Class) -> u32 {
        let number = match self.generation {
            Generation::Numbered(number) => number,
            // Nothing that is loaded has it.
            Generation::Unmarked => Self::last(self.mask),
        };
        let class = match class {
            Class::Between => 0,
            Class::Out => 1,
        };
        (number << 1 | class) << self.mask.bits().trailing_zeros()
    }

    /// What is kept of a flow's mark.
    pub const fn rest(&self) -> u32 {
        !self.mask.bits()
    }

    /// That of the rules that follow: after the last comes the first.
    #[must_use]
    pub const fn next(self) -> Self {
        let number = match self.generation {
            Generation::Numbered(number) if number < Self::last(self.mask) => number + 1,
            Generation::Numbered(_) | Generation::Unmarked => 1,
        };
        Self { mask: self.mask, generation: Generation::Numbered(number) }
    }

    /// The highest number of a generation.
    const fn last(mask: MarkMask) -> u32 {
        mask.bits() >> mask.bits().trailing_zeros() >> 1
    }

    /// The flows that the rules know by these marks.
    pub fn known(&self) -> Vec<Marked> {
        let marked = |class| Marked { value: self.mark(class), mask: self.mask.bits() };
        if self.marks() { [Class::Between, Class::Out].map(marked).into() } else { Vec::new() }
    }

    /// What all marks of its generation have, whatever their class; none where nobody
    /// gets one.
    pub fn generation(&self) -> Option<Marked> {
        let class = 1 << self.mask.bits().trailing_zeros();
        let value = self.mark(Class::Between);
        self.marks().then_some(Marked { value, mask: self.mask.bits() & !class })
    }

    /// A generation of `mask` none of whose marks the rules of `self` could make.
    #[must_use]
    pub fn apart(self, mask: MarkMask) -> Self {
        let made: Vec<u32> = self.known().iter().map(|known| known.value & mask.bits()).collect();
        let is_made = |other: &Self| other.known().iter().any(|known| made.contains(&known.value));
        // Two marks are of two generations at most, and each mask has seven.
        let mut other = Self::first(mask);
        while is_made(&other) {
            other = other.next();
        }
        other
    }
}

/// How it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgementRecord {
    mask: MarkMask,
    /// 0: nobody is known.
    generation: u32,
}

impl From<Judgement> for JudgementRecord {
    fn from(Judgement { mask, generation }: Judgement) -> Self {
        let generation = match generation {
            Generation::Numbered(number) => number,
            Generation::Unmarked => 0,
        };
        Self { mask, generation }
    }
}

impl JudgementRecord {
    /// What was written; none where the mask has no such generation.
    pub const fn judgement(self) -> Option<Judgement> {
        let Self { mask, generation } = self;
        match generation {
            0 => Some(Judgement::unmarked(mask)),
            number if number <= Judgement::last(mask) => {
                Some(Judgement { mask, generation: Generation::Numbered(number) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn masks() -> impl Strategy<Value = MarkMask> {
        (4..25_u32, 0..29_u32)
            .prop_filter_map("taken", |(bits, shift)| MarkMask::new(((1_u32 << bits) - 1) << shift).ok())
    }

    #[test]
    fn the_default() {
        let judgement = Judgement::default();
        assert_eq!((judgement.mark(Class::Between), judgement.mark(Class::Out)), (0x2000_0000, 0x3000_0000));
        assert_eq!(judgement.rest(), 0x0fff_ffff);
        assert_eq!(judgement.next().mark(Class::Between), 0x4000_0000);
        let mut last = judgement;
        for _ in 0..6 {
            last = last.next();
        }
        assert_eq!((last.mark(Class::Out), last.next()), (0xf000_0000, judgement));
    }

    proptest! {
        #[test]
        fn marks_are_within_the_mask_apart_and_read_back(mask in masks()) {
            let mut judgement = Judgement::first(mask);
            let mut seen = BTreeSet::from([0]);
            for _ in 0..7 {
                for class in [Class::Between, Class::Out] {
                    let mark = judgement.mark(class);
                    prop_assert_eq!(mark & judgement.rest(), 0);
                    prop_assert!(seen.insert(mark), "{:#x} twice", mark);
                    prop_assert_eq!(Judgement::from_mark(mask, mark), Some(judgement));
                }
                prop_assert_eq!(JudgementRecord::from(judgement).judgement(), Some(judgement));
                judgement = judgement.next();
            }
        }

        #[test]
        fn any_value_of_the_mask_is_of_one_generation_or_none(mask in masks(), value: u32) {
            let value = value & mask.bits();
            let marks = |judgement: Judgement| judgement.known().iter().any(|known| known.value == value);
            let class = 1 << mask.bits().trailing_zeros();
            prop_assert_eq!(Judgement::from_mark(mask, value).is_some_and(marks), value & !class != 0);
            prop_assert_eq!(Judgement::from_mark(mask, value | !mask.bits()), None);
        }

        #[test]
        fn another_masks_generation_is_none_that_is_made(from in masks(), to in masks(), steps in 0..9_usize) {
            let loaded = (0..steps).fold(Judgement::first(from), |judgement, _| judgement.next());
            let other = loaded.apart(to);
            for known in other.known() {
                prop_assert!(loaded.known().iter().all(|made| made.value & to.bits() != known.value));
            }
        }
    }

    #[test]
    fn who_isnt_to_be_known_has_no_mark() {
        let unmarked = Judgement::unmarked(MarkMask::default());
        assert!(!unmarked.marks() && unmarked.known().is_empty());
        assert_eq!(JudgementRecord::from(unmarked).judgement(), Some(unmarked));
        assert_eq!(unmarked.next(), Judgement::default());
        let beyond = JudgementRecord { mask: MarkMask::default(), generation: 8 };
        assert_eq!(beyond.judgement(), None);
    }
}
