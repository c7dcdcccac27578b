//! What the host should be; of its firewall also what this kernel makes of it,
//! which is asked of nft and the kernel.

use std::collections::BTreeSet;

use crate::firewall::{
    self, Difference, Forget, Judgement, Listing, Live, LoadedMarks, Ruleset, Surroundings, narrows, nft,
};
use crate::topology::{Name, Topology};

use super::current::Current;
use super::succession::Succession;
use crate::host::HostError;

/// What the host should be.
#[derive(Debug, Clone)]
pub struct Goal<'a> {
    /// Every name and address of what is looked at.
    pub topology: &'a Topology,
    /// The same of the whole host: who may reach whom depends on all of it.
    pub whole: &'a Topology,
    /// The firewall.
    pub ruleset: Ruleset,
    /// What the kernel lists once it has loaded it, where that had to be known.
    pub listing: Option<Listing>,
    /// The marks that are listed there.
    pub listed: Judgement,
    /// What separates the loaded firewall from it.
    pub difference: Difference,
    /// The firewall's text, where it has to be loaded whole.
    pub text: String,
    /// Marks of flows that are taken back before the firewall changes, and after.
    pub forget: [Option<Forget>; 2],
    /// Which guests are started again for what waits for it.
    pub restart: Restart,
}

/// Which guests are started again for what waits for their next start. Whoever
/// asks for it knows that they are: nothing else does it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Restart {
    /// None.
    #[default]
    No,
    /// Each for which something waits.
    All,
    /// Of these each for which something waits.
    Named(BTreeSet<Name>),
}

impl Restart {
    pub(super) fn includes(&self, name: &Name) -> bool {
        match self {
            Self::No => false,
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }
}

/// The desired firewall of a topology, and how to get there. Where the rules
/// change, this kernel has taken them, away from the host; what `known`
/// learned of the same ruleset isn't asked again.
///
/// # Errors
/// Where a policy is too large, the template is broken, or nft or the kernel refuses the text.
pub fn goal<'a>(
    topology: &'a Topology,
    current: &Current,
    known: Option<&Goal<'_>>,
) -> Result<Goal<'a>, HostError> {
    goal_in(topology, current, &current.surroundings, known)
}

/// As [`goal`], in these surroundings.
///
/// # Errors
/// As [`goal`].
pub fn goal_in<'a>(
    topology: &'a Topology,
    current: &Current,
    surroundings: &Surroundings,
    known: Option<&Goal<'_>>,
) -> Result<Goal<'a>, HostError> {
    let ruleset = Ruleset::new(topology, surroundings)?;
    let mask = topology.mark_mask;
    let mut goal = Goal {
        topology,
        listed: ruleset.judgement,
        whole: topology,
        ruleset,
        listing: None,
        difference: Difference::None,
        text: String::new(),
        forget: [None, None],
        restart: Restart::No,
    };
    match &current.firewall {
        Live::Known(loaded) => {
            let narrows = narrows(loaded, &goal.ruleset, &[]);
            goal.follow(Succession::new(LoadedMarks::Of(loaded.judgement), mask, narrows)?);
            goal.difference = Difference::between_rulesets(loaded, &goal.ruleset)?;
        }
        Live::Listed(listing) if listing.is_empty() => {
            goal.follow(Succession::new(LoadedMarks::None, mask, true)?);
            goal.difference = Difference::absent();
        }
        Live::Listed(live) => {
            let marks = live.judgement();
            // With the marks that are loaded, where they can be.
            goal.follow(Succession::new(marks, mask, false)?);
            goal.listed = goal.ruleset.judgement;
            let text = firewall::render(&goal.ruleset)?;
            let known = known.filter(|known| {
                known.ruleset == goal.ruleset && known.listed == goal.listed && known.listing.is_some()
            });
            let desired = match known.and_then(|known| known.listing.clone()) {
                Some(listing) => listing,
                None => nft::rehearse(&text)?,
            };
            goal.difference = Difference::between(live, &desired);
            // Of what others did it isn't known whether it is narrower to undo it.
            if goal.difference != Difference::None {
                goal.follow(Succession::new(marks, mask, true)?);
                if matches!(goal.difference, Difference::Elements(_)) && goal.ruleset.judgement != goal.listed
                {
                    goal.difference = Difference::between_judged(live, &desired, &goal.ruleset.judgement)?;
                }
            }
            goal.text = firewall::render(&goal.ruleset)?;
            goal.listing = Some(desired);
        }
    }
    if current.unheld && !matches!(goal.difference, Difference::Replace { .. }) {
        goal.difference = Difference::unheld();
    }
    if matches!(goal.difference, Difference::Replace { .. }) && goal.text.is_empty() {
        goal.text = firewall::render(&goal.ruleset)?;
        nft::probe(&goal.text)?;
    }
    Ok(goal)
}

impl Goal<'_> {
    pub(super) fn follow(&mut self, Succession { judgement, before, after }: Succession) {
        self.ruleset.judgement = judgement;
        self.forget = [before, after];
    }
}
