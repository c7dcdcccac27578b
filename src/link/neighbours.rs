//! Who of a network's guests is behind which MAC: permanent neighbour entries of
//! its bridge (ip-neighbour(8)). The host asks nobody for a guest's MAC then, so
//! a guest's first packet doesn't wait for an answer that comes up to a second
//! late, and no answer changes where the host sends what is a guest's.
//!
//! The kernel's limits of neighbours (`gc_thresh1` to 3) don't count permanent
//! ones (`neigh_alloc` in `net/core/neighbour.c`, since Linux 5.0).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::desired::{Bridge, Desired};
use super::observed::Observed;
use super::step::Step;
use crate::topology::MacAddr;

/// The steps to the neighbours that a bridge should have.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Entries that lead astray. They go before the firewall changes: an address
    /// that is another guest's now is asked for until it has an entry again.
    pub stale: Vec<Step>,
    /// Entries that aren't there, after everything else of the link: a link that
    /// goes down, or gets another MAC, loses its neighbours.
    pub missing: Vec<Step>,
}

/// What is to be done for `bridge`, of which `wanted` says who is there.
pub(super) fn plan(bridge: &Bridge, wanted: &BTreeMap<IpAddr, MacAddr>, observed: &Observed) -> Change {
    let name = || bridge.name.to_string();
    let none = BTreeMap::new();
    let link = observed.links.get(bridge.name.as_str()).filter(|link| link.is_ours());
    let found = link.map_or(&none, |link| &link.neighbours);
    let stale =
        found.iter().filter(|(address, mac)| wanted.get(*address).map(|mac| mac.octets()) != Some(**mac));
    let stale =
        stale.map(|(address, mac)| Step::RemoveNeighbour { name: name(), address: *address, mac: *mac });
    let emptied = link.is_none_or(|link| !link.up || link.mac != Some(bridge.mac.octets()));
    let missing =
        wanted.iter().filter(|(address, mac)| emptied || found.get(*address) != Some(&mac.octets()));
    let missing =
        missing.map(|(address, mac)| Step::AddNeighbour { name: name(), address: *address, mac: *mac });
    Change { stale: stale.collect(), missing: missing.collect() }
}

/// Each bridge's guests: every address of theirs, with the MAC behind it.
pub(super) fn wanted(desired: &Desired) -> BTreeMap<&str, BTreeMap<IpAddr, MacAddr>> {
    let mut found: BTreeMap<&str, BTreeMap<IpAddr, MacAddr>> = BTreeMap::new();
    for port in &desired.ports {
        let addresses = port.addresses.iter().map(|address| (*address, port.guest));
        found.entry(port.bridge.as_str()).or_default().extend(addresses);
    }
    found
}
