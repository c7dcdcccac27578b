//! What the host should be; of its firewall also what this kernel makes of it,
//! which is asked of nft and the kernel.

use std::collections::BTreeSet;

use crate::firewall::{self, Difference, Listing, Live, Ruleset, Surroundings, nft};
use crate::topology::{Name, Topology};

use super::current::Current;
use crate::host::HostError;

/// What the host should be.
#[derive(Debug, Clone)]
pub struct Goal<'a> {
    /// Every name and address.
    pub topology: &'a Topology,
    /// The firewall.
    pub ruleset: Ruleset,
    /// What the kernel lists once it has loaded it, where that had to be known.
    pub listing: Option<Listing>,
    /// What separates the loaded firewall from it.
    pub difference: Difference,
    /// The firewall's text, where it has to be loaded whole.
    pub text: String,
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
    let mut goal = Goal {
        topology,
        ruleset,
        listing: None,
        difference: Difference::None,
        text: String::new(),
        restart: Restart::No,
    };
    match &current.firewall {
        Live::Known(loaded) => goal.difference = Difference::between_rulesets(loaded, &goal.ruleset)?,
        Live::Listed(listing) if listing.is_empty() => goal.difference = Difference::absent(),
        Live::Listed(live) => {
            goal.text = firewall::render(&goal.ruleset)?;
            let known = known.filter(|known| known.ruleset == goal.ruleset);
            let desired = match known.and_then(|known| known.listing.clone()) {
                Some(listing) => listing,
                None => nft::rehearse(&goal.text)?,
            };
            goal.difference = Difference::between(live, &desired);
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
