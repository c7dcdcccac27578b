//! The firewall that the kernel has.

use std::collections::BTreeSet;

use crate::firewall::{Gone, Listing, Ruleset, Set};
use crate::ownership::INET;

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

    /// Whether the table that judges packets is there, with its sets.
    pub fn judges(&self) -> bool {
        match self {
            Self::Listed(listing) => listing.has(INET),
            Self::Known(_) => true,
        }
    }

    /// The elements of a set of plain texts, such as
    /// interfaces' names.
    pub fn texts(&self, set: Set) -> Vec<String> {
        match self {
            Self::Listed(listing) => listing.texts(set),
            Self::Known(ruleset) => {
                ruleset.elements(set).iter().map(|element| element.trim_matches('"').into()).collect()
            }
        }
    }

    /// What goes with the change to the desired firewall; its listing is
    /// needed only where this is one.
    pub fn gone(&self, desired: &Ruleset, listing: Option<&Listing>) -> Gone {
        let parts = |set: Set| -> Vec<Vec<String>> {
            match self {
                Self::Listed(live) => listing.map(|listing| live.gone(set, listing)).unwrap_or_default(),
                Self::Known(ruleset) => {
                    let kept: BTreeSet<&String> = desired.elements(set).iter().collect();
                    let gone = ruleset.elements(set).iter().filter(|element| !kept.contains(element));
                    gone.map(|element| element.split(" . ").map(Into::into).collect()).collect()
                }
            }
        };
        let last = |sets: [Set; 2]| sets.map(parts).concat().into_iter().filter_map(|mut parts| parts.pop());
        let guests = last([Set::PortMacIp4, Set::PortMacIp6]);
        let networks = last([Set::Net4, Set::Net6]);
        Gone {
            guests: guests.filter_map(|address| address.parse().ok()).collect(),
            networks: networks.filter_map(|prefix| prefix.parse().ok()).collect(),
        }
    }
}
