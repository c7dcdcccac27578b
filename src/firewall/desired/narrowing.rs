//! Whether rules that follow others refuse a flow that those have let pass and
//! marked: one between guests, or one of a guest's that leads out. Where it isn't
//! cheap to say, they do. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use strum::IntoEnumIterator;

use super::policy_area::is_within;
use super::policy_chain::PolicyChain;
use super::ruleset::Ruleset;
use super::set::Set;
use crate::packet::prefix;

/// Whether a flow that `loaded` has let pass, and knows by its mark, isn't to pass
/// `desired`, or has to go another way there. `elsewhere` are prefixes that guests
/// may be led to by rules that aren't in `loaded`, where that is a part.
pub fn narrows(loaded: &Ruleset, desired: &Ruleset, elsewhere: &[IpNet]) -> bool {
    // In which order the rules ask depends on the mode.
    loaded.full != desired.full
        || Set::iter().any(|set| Change { loaded, desired, elsewhere, set }.narrows())
        || desired.policies.iter().any(|policy| {
            let old = loaded.policies.iter().find(|old| old.chain == policy.chain);
            // A new one judges only those who are led to it.
            old.is_some_and(|old| policy_narrows(old, policy))
        })
}

/// The change of one set.
struct Change<'a> {
    loaded: &'a Ruleset,
    desired: &'a Ruleset,
    elsewhere: &'a [IpNet],
    set: Set,
}

impl Change<'_> {
    fn narrows(&self) -> bool {
        match self.set {
            // Asked of every packet, or of the first of a flow, whatever its mark is.
            Set::PortTarget
            | Set::GroupRate
            | Set::NeighbourRate
            | Set::FragmentRate4
            | Set::FragmentRate6
            | Set::Ports
            | Set::Guarded
            | Set::NewFlows
            | Set::Flows
            | Set::PortShare
            | Set::PortShare6 => false,
            // About what is no guest's, or is to the host: it bears no mark.
            Set::Opened | Set::Closed | Set::OpenPorts | Set::OpenPorts4 | Set::OpenPorts6 => false,
            // Packets to whom no guest is; a flow with an answer isn't to one.
            Set::Receivers => false,
            // The same on every host, or nobody's wish.
            Set::Metadata4 | Set::Metadata6 | Set::Imds4 | Set::Imds6 | Set::LogRate => false,
            // One less is somebody, or a way, that is gone.
            Set::PortMac
            | Set::PortMacIp4
            | Set::PortMacIp6
            | Set::Bridges
            | Set::Guest4
            | Set::Guest6
            | Set::Own4
            | Set::Own6
            | Set::Gateway4
            | Set::Gateway6
            | Set::Pairs
            | Set::Tailnet
            | Set::Tailscale
            | Set::ImdsHost
            | Set::Public4
            | Set::Public6
            | Set::Lan4
            | Set::Lan6
            | Set::Resolvers4
            | Set::Resolvers6 => self.loses(),
            // One more may be the way that packets take from now on.
            Set::Uplinks | Set::Exits => self.loses() || self.gains().next().is_some(),
            Set::Closed4 | Set::Closed6 | Set::Denied4 | Set::Denied6 => self.covers_more(),
            // A new network's addresses are no longer elsewhere.
            Set::Net4 | Set::Net6 => {
                self.loses() || self.gains().any(|element| net(element).is_none_or(|net| self.leads_to(net)))
            }
            // A guest that was there is judged by a policy, or by another.
            Set::Ingress4 | Set::Egress4 => self.judges_more(Set::Guest4),
            Set::Ingress6 | Set::Egress6 => self.judges_more(Set::Guest6),
        }
    }

    /// Whether something isn't found in the set any more, or is found there as
    /// something else.
    fn loses(&self) -> bool {
        let desired: BTreeSet<&str> = self.desired.elements(self.set).iter().map(|e| e.as_str()).collect();
        self.loaded.elements(self.set).iter().any(|element| !desired.contains(element.as_str()))
    }

    fn gains(&self) -> impl Iterator<Item = &str> {
        let loaded: BTreeSet<&String> = self.loaded.elements(self.set).iter().collect();
        let desired = self.desired.elements(self.set).iter();
        desired.filter(move |element| !loaded.contains(element)).map(String::as_str)
    }

    /// Whether it covers an address that it didn't.
    fn covers_more(&self) -> bool {
        let covered = aggregated(self.loaded, self.set);
        self.gains()
            .any(|element| net(element).is_none_or(|net| !covered.iter().any(|one| one.contains(&net))))
    }

    /// Whether a flow could lead out to an address of a prefix.
    fn leads_to(&self, other: IpNet) -> bool {
        let closed = [Set::Closed4, Set::Closed6].map(|set| aggregated(self.loaded, set)).concat();
        let overlaps = |one: &IpNet| one.contains(&other) || other.contains(one);
        let exceptions = [Set::Lan4, Set::Lan6, Set::Resolvers4, Set::Resolvers6];
        let mut exceptions = exceptions.iter().flat_map(|set| self.loaded.elements(*set));
        let is_imds =
            !self.loaded.elements(Set::ImdsHost).is_empty() && prefix::metadata().iter().any(overlaps);
        !closed.iter().any(|one| one.contains(&other))
            || exceptions.any(|element| net(element).is_none_or(|one| overlaps(&one)))
            || self.elsewhere.iter().any(overlaps)
            || is_imds
    }

    /// Whether a guest of `guests` is led to a chain that it wasn't led to.
    fn judges_more(&self, guests: Set) -> bool {
        let guests: BTreeSet<&str> = self.loaded.elements(guests).iter().map(String::as_str).collect();
        self.gains().any(|element| element.split_once(" : ").is_none_or(|(guest, _)| guests.contains(guest)))
    }
}

/// The prefix at the end of an element, or the address.
fn net(element: &str) -> Option<IpNet> {
    let last = element.rsplit(" . ").next()?;
    last.parse().ok().or_else(|| last.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A set's prefixes, joined where they are side by side.
fn aggregated(ruleset: &Ruleset, set: Set) -> Vec<IpNet> {
    IpNet::aggregate(&ruleset.elements(set).iter().filter_map(|element| net(element)).collect())
}

/// Whether a policy refuses something that it has allowed.
fn policy_narrows(old: &PolicyChain, new: &PolicyChain) -> bool {
    match (old.open, new.open) {
        // What the sets hold is denied.
        (true, true) => !is_within(new, old),
        (false, false) => !is_within(old, new),
        _ => true,
    }
}
