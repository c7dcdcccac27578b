//! The firewall that the kernel has.

use std::collections::BTreeSet;

use crate::firewall::{Gone, Listing, Ruleset};

/// What is known of the loaded tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// What nft lists.
    Listed(Listing),
    /// They are those of this ruleset: hostctl loaded it, and nobody changed
    /// them since.
    Known(Box<Ruleset>),
}

impl Default for Live {
    fn default() -> Self {
        Self::Listed(Listing::default())
    }
}

impl Live {
    /// Whether the kernel has none of hostctl's tables.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Listed(listing) if listing.is_empty())
    }

    /// What nft listed, where it was asked.
    pub fn listing(&self) -> Option<&Listing> {
        match self {
            Self::Listed(listing) => Some(listing),
            Self::Known(_) => None,
        }
    }

    /// Whether a family's table is there, with its sets.
    pub fn has(&self, family: &str) -> bool {
        match self {
            Self::Listed(listing) => listing.has(family),
            Self::Known(_) => true,
        }
    }

    /// The elements of one of the inet table's sets of plain texts, such as
    /// interfaces' names.
    pub fn texts(&self, set: &str) -> Vec<String> {
        match self {
            Self::Listed(listing) => listing.texts("inet", set),
            Self::Known(ruleset) => {
                ruleset.set(set).iter().map(|element| element.trim_matches('"').into()).collect()
            }
        }
    }

    /// What goes with the change to the desired firewall; its listing is
    /// needed only where this is one.
    pub fn gone(&self, desired: &Ruleset, listing: Option<&Listing>) -> Gone {
        let parts = |family: &str, set: &str| match self {
            Self::Listed(live) => listing.map(|listing| live.gone(family, set, listing)).unwrap_or_default(),
            Self::Known(ruleset) => {
                let kept: BTreeSet<&String> = desired.set(set).iter().collect();
                let gone = ruleset.set(set).iter().filter(|element| !kept.contains(element));
                gone.map(|element| element.split(" . ").map(Into::into).collect()).collect()
            }
        };
        let last = |family: &str, sets: [&str; 2]| {
            let parts = sets.map(|set| parts(family, set)).concat();
            parts.into_iter().filter_map(|parts: Vec<String>| parts.into_iter().next_back())
        };
        let guests = last("bridge", ["port_mac_ip4", "port_mac_ip6"]);
        let networks = last("inet", ["net4", "net6"]);
        Gone {
            guests: guests.filter_map(|address| address.parse().ok()).collect(),
            networks: networks.filter_map(|prefix| prefix.parse().ok()).collect(),
        }
    }
}
