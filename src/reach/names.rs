//! Many guests in few words.

use std::collections::{BTreeMap, BTreeSet};

use crate::packet::{Family, Range};
use crate::topology::{Name, Topology};

use super::class::{Guest, guests};

/// Which guests a topology's networks and subnets have.
pub(super) struct Names<'t> {
    networks: BTreeMap<&'t Name, BTreeMap<&'t Name, BTreeSet<Guest<'t>>>>,
}

impl<'t> Names<'t> {
    pub fn new(topology: &'t Topology) -> Self {
        let mut networks: BTreeMap<_, BTreeMap<_, BTreeSet<_>>> = BTreeMap::new();
        for (guest, port) in guests(topology) {
            let subnets = networks.entry(&port.network).or_default();
            subnets.entry(&port.subnet).or_default().insert(guest);
        }
        Self { networks }
    }

    /// Whole networks and whole subnets by their names, the rest one by one.
    pub fn brief(&self, guests: &BTreeSet<Guest<'t>>) -> Vec<String> {
        let mut rest = guests.clone();
        let mut names = Vec::new();
        for (network, subnets) in &self.networks {
            let whole = |members: &BTreeSet<Guest<'t>>| members.is_subset(guests);
            let several = |members: &BTreeSet<Guest<'t>>| members.len() > 1;
            if subnets.values().all(whole) && (subnets.len() > 1 || subnets.values().any(several)) {
                names.push(format!("network {network}"));
                subnets.values().flatten().for_each(|guest| {
                    rest.remove(guest);
                });
                continue;
            }
            for (subnet, members) in subnets.iter().filter(|(_, members)| whole(members) && several(members))
            {
                names.push(format!("subnet {network}/{subnet}"));
                members.iter().for_each(|guest| {
                    rest.remove(guest);
                });
            }
        }
        names.extend(rest.iter().map(|guest| guest.name().to_string()));
        names
    }
}

/// Ranges of addresses: prefixes, or first and last.
pub(super) fn ranges(family: Family, ranges: &[Range]) -> String {
    /// More aren't written out.
    const MOST: usize = 4;
    let texts: Vec<_> = ranges.iter().take(MOST).map(|range| family.text(*range)).collect();
    match ranges.len().saturating_sub(MOST) {
        0 => texts.join(", "),
        more => format!("{} and {more} more ranges", texts.join(", ")),
    }
}
