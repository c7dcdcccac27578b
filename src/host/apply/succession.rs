//! By which marks the next rules know flows, and whose marks are taken back for it.
//!
//! Rules that refuse what those before them let pass know flows by other marks: the
//! next packet of each is judged again, from the transaction on that loads them.
//! Before it nobody bears the new marks, and until it nobody gets them, as the old
//! rules give only their own. So there is no moment in which one of them means what
//! other rules have allowed.

use crate::firewall::{Forget, Judgement, LoadedMarks, conntrack, marks_flows};
use crate::topology::MarkMask;

use super::execute::unsupported;
use crate::host::HostError;

/// What follows the marks that are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host) struct Succession {
    /// The marks of the next rules.
    pub judgement: Judgement,
    /// Marks that are taken back before these are loaded.
    pub before: Option<Forget>,
    /// Marks that are taken back once they are.
    pub after: Option<Forget>,
}

impl Succession {
    /// The same marks, of rules that refuse nothing that is marked.
    const fn same(judgement: Judgement) -> Self {
        Self { judgement, before: None, after: None }
    }

    /// What follows `loaded` with this mask, where the next rules narrow them. Pure.
    fn after(loaded: LoadedMarks, mask: MarkMask, narrows: bool) -> Self {
        let all = Forget::all(mask.bits());
        match loaded {
            LoadedMarks::Of(old) if old.marks() && old.mask() == mask => {
                if !narrows {
                    return Self::same(old);
                }
                let judgement = old.next();
                Self { judgement, before: Some(Forget::of(&judgement)), after: None }
            }
            // The old rules go on giving marks until they are replaced, which may have
            // bits of the new mask; then the bits that are given up are others' again.
            LoadedMarks::Of(old) if old.marks() => Self {
                judgement: old.apart(mask),
                before: Some(all),
                after: Some(Forget::all(old.mask().bits() & !mask.bits())),
            },
            LoadedMarks::Of(_) | LoadedMarks::None => {
                Self { judgement: Judgement::first(mask), before: Some(all), after: None }
            }
            // Nobody knows what they give.
            LoadedMarks::Unknown => {
                Self { judgement: Judgement::first(mask), before: Some(all), after: Some(all) }
            }
        }
    }

    /// As the kernel allows: where marks can't be taken back nobody is known by one,
    /// and each packet is judged.
    ///
    /// # Errors
    /// Where the kernel doesn't list its flows, though it can.
    pub fn new(loaded: LoadedMarks, mask: MarkMask, narrows: bool) -> Result<Self, HostError> {
        if !marks_flows() {
            return Ok(Self::same(Judgement::first(mask)));
        }
        let mut next = Self::after(loaded, mask, narrows);
        if let Some(forget) = &next.before {
            match forget.bearers() {
                Ok(0) => next.before = None,
                Ok(_) => {}
                Err(error) if unsupported(&error) => return Ok(Self::same(Judgement::unmarked(mask))),
                Err(error) => return Err(HostError::Marks(error)),
            }
        }
        next.after = next.after.filter(|_| conntrack::count() != Some(0));
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASKS: [u32; 3] = [0xf000_0000, 0x00ff_0000, 0x1f00];

    fn mask(bits: u32) -> MarkMask {
        MarkMask::new(bits).unwrap()
    }

    #[test]
    fn only_narrower_rules_have_other_marks() {
        for bits in MASKS {
            let loaded = Judgement::first(mask(bits)).next();
            let wider = Succession::after(LoadedMarks::Of(loaded), mask(bits), false);
            assert_eq!(wider, Succession::same(loaded));
            let narrower = Succession::after(LoadedMarks::Of(loaded), mask(bits), true);
            assert_ne!(narrower.judgement, loaded);
            assert_eq!(narrower.before, Some(Forget::of(&narrower.judgement)));
            assert_eq!(narrower.after, None);
        }
    }

    #[test]
    fn whoever_isnt_known_to_have_given_none_has_all_taken_back() {
        for loaded in [
            LoadedMarks::None,
            LoadedMarks::Unknown,
            LoadedMarks::Of(Judgement::unmarked(mask(MASKS[0]))),
            LoadedMarks::Of(Judgement::first(mask(MASKS[1]))),
        ] {
            for narrows in [false, true] {
                let next = Succession::after(loaded, mask(MASKS[0]), narrows);
                assert!(next.judgement.marks() && next.judgement.mask() == mask(MASKS[0]));
                assert_eq!(next.before, Some(Forget::all(MASKS[0])), "{loaded:?}");
            }
        }
    }

    #[test]
    fn bits_that_are_given_up_are_others_again() {
        let loaded = LoadedMarks::Of(Judgement::first(mask(0x1f00)));
        let next = Succession::after(loaded, mask(0x0ff0), false);
        assert_eq!(next.after, Some(Forget::all(0x1000)));
    }
}
