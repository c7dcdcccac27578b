//! The part of the host that a change touches: named by the difference of what was
//! applied last and what is wanted, read by name, index and key. So what a change
//! costs doesn't grow with the host.
//!
//! That the rest is as it was left is known from what the last apply wrote down
//! ([`settled`]) and from the stamp of the tables. Where that doesn't hold, and
//! where something about the part itself isn't as it was left, there is no part:
//! the whole host is looked at.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;

use crate::app;
use crate::firewall::{
    Difference, Live, LoadedMarks, Ruleset, Stamp, Statics, Surroundings, conntrack, is_as_loaded, narrows,
};
use crate::guard::{self, Tag};
use crate::link::{self, Asked, Desired, Found, Netlink};
use crate::packet::prefix;
use crate::topology::{IfName, Imds, Offload, Scope, Topology, Uplink, Vm};
use crate::vm;

use super::current::{Current, Guest, SeenApp};
use super::goal::{Goal, Restart};
use super::succession::Succession;
use crate::host::kept::generation;
use crate::host::kept::settled::{self, Settled};
use crate::host::look::reliance::FORWARDING4_KEY;
use crate::host::{Host, HostError, hold};

/// What a change touches, before and after it.
#[derive(Debug)]
pub(in crate::host) struct Part {
    /// Before.
    old: Topology,
    /// After.
    pub new: Topology,
    /// The firewall of it, after.
    ruleset: Ruleset,
    /// What it is read by.
    asked: Asked,
    /// The host as the last apply left it.
    pub settled: Settled,
    /// Where guests may be led to by networks that aren't in it.
    elsewhere: Vec<IpNet>,
    /// As it is.
    pub current: Current,
}

/// Why the whole host has to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::host) enum Whole {
    /// Nothing differs from what was applied last: what there is to do is to find
    /// out what others changed.
    Nothing,
    /// Something differs that is every network's.
    OfAll,
    /// The last apply didn't come to its end here, or another hostctl did it.
    Unsettled,
    /// Somebody changed hostctl's tables, and not only elements.
    Tables,
    /// What leads to the internet, or who relies on forwarding, may be otherwise.
    Surroundings,
    /// Somebody changed a link that is to be changed.
    Drift,
    /// It can't be read by itself.
    Unread,
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing differs from what was applied last",
            Self::OfAll => "what differs is every network's",
            Self::Unsettled => "the last apply isn't known to have come to its end",
            Self::Tables => "somebody changed hostctl's tables",
            Self::Surroundings => "what leads to the internet may be otherwise",
            Self::Drift => "somebody changed what is to be changed",
            Self::Unread => "the kernel can't be asked for single objects",
        })
    }
}

impl Part {
    /// What the part should be.
    ///
    /// # Errors
    /// Only where the template is broken.
    pub fn goal<'t>(&'t self, whole: &'t Topology) -> Result<Goal<'t>, HostError> {
        let mut goal = Goal {
            topology: &self.new,
            whole,
            listed: self.ruleset.judgement,
            ruleset: self.ruleset.clone(),
            listing: None,
            difference: Difference::None,
            text: String::new(),
            forget: [None, None],
            restart: Restart::No,
        };
        if let Live::Known(loaded) = &self.current.firewall {
            let narrows = narrows(loaded, &goal.ruleset, &self.elsewhere);
            goal.follow(Succession::new(LoadedMarks::Of(loaded.judgement), whole.mark_mask, narrows)?);
            goal.difference = Difference::between_rulesets(loaded, &goal.ruleset)?;
        }
        Ok(goal)
    }
}

impl Host {
    /// As [`Host::part`]; where there is none, the log says why.
    pub(in crate::host) async fn part_or_why(&self, topology: &Topology) -> Option<Part> {
        let part = self.part(topology).await;
        part.map_err(|why| tracing::info!("looking at the whole host: {why}")).ok()
    }

    /// The part that a change to `topology` touches.
    ///
    /// # Errors
    /// Where there is none.
    async fn part(&self, topology: &Topology) -> Result<Part, Whole> {
        let settled = settled::read(&self.root).ok_or(Whole::Unsettled)?;
        let last = generation::last_once(&self.root).ok().flatten().ok_or(Whole::Unsettled)?;
        if last.generation.number != settled.generation {
            return Err(Whole::Unsettled);
        }
        let old = last.compile().map_err(|_| Whole::Unsettled)?;
        let scope = Scope::between(&old, topology).ok_or(Whole::OfAll)?;
        if scope.is_empty() {
            return Err(Whole::Nothing);
        }
        let stamp = Stamp::read().map_err(|_| Whole::Tables)?;
        let untouched = stamp == settled.stamp;
        if !(untouched || has_rules_of(&settled, &stamp)) || hold::is_missed(&self.root) {
            return Err(Whole::Tables);
        }
        let settled = Settled { untouched: untouched && settled.untouched, ..settled };
        let surroundings = settled.surroundings.clone();
        let exits = topology.exits(&surroundings.uplinks);
        let known = exits.iter().all(|exit| surroundings.indices.contains_key(exit));
        if !known || exits != old.exits(&surroundings.uplinks) {
            return Err(Whole::OfAll);
        }
        let guard = self.guard(&old, topology, &scope, &surroundings)?;
        let rules = |topology: &Topology| {
            let part = scope.part_with_witnesses(topology);
            let guarded = guarded(&part, guard);
            let surroundings = Surroundings { guarded, ..surroundings.clone() };
            let mut rules = Ruleset::new(&part, &surroundings).map_err(|_| Whole::OfAll)?;
            rules.judgement = settled.judgement;
            Ok(rules)
        };
        let (loaded, ruleset) = (rules(&old)?, rules(topology)?);
        // Only elements and chains of policies: the part is no firewall by itself.
        if matches!(Difference::between_rulesets(&loaded, &ruleset), Ok(Difference::Replace { .. }) | Err(_))
        {
            return Err(Whole::OfAll);
        }
        // Of what others may have touched, as much is read as is changed.
        if !settled.untouched && !is_as_loaded(&loaded).is_ok_and(|as_loaded| as_loaded) {
            return Err(Whole::Drift);
        }
        let elsewhere = elsewhere(&old);
        let (old, new) = (scope.part(&old), scope.part(topology));
        let others = exits.iter().chain(&topology.tailscale);
        let asked = Asked::between(&Desired::of_part(&old), &Desired::of_part(&new), others);
        let mut part = Part { old, new, ruleset, asked, settled, elsewhere, current: Current::default() };
        // What is written down is of the whole host, once this is done.
        let gone = guarded(&part.old, guard);
        let mut guarded: BTreeSet<IfName> = guarded(&part.new, guard).into_iter().collect();
        guarded.extend(surroundings.guarded.iter().filter(|name| !gone.contains(name)).cloned());
        let guarded = guarded.into_iter().collect();
        let before = Current {
            guard,
            firewall: Live::Known(Box::new(loaded)),
            stamp: Some(stamp),
            surroundings: Surroundings { guarded, ..surroundings },
            ..Current::default()
        };
        let found = self.find(&part, true).await.map_err(|_| Whole::Unread)?;
        let read = found.read;
        check_surroundings(topology, &exits, &before.surroundings, &found)?;
        part.current = self.current_of(&part, found, before, &part.old).map_err(|_| Whole::Unread)?;
        let left = Desired { guard, ..Desired::of_part(&part.old) };
        let left = link::plan(&left, &part.current.links);
        if left != link::Plan::default() {
            return Err(Whole::Drift);
        }
        tell(read);
        Ok(part)
    }

    /// The part as it is now that it is as wanted, or isn't: for a look after the
    /// change.
    pub(super) async fn part_again(&self, part: &Part) -> Result<Current, HostError> {
        let found = self.find(part, false).await?;
        tell(found.read);
        let before = Current {
            guard: part.current.guard,
            firewall: Live::Known(Box::new(part.ruleset.clone())),
            stamp: part.current.stamp.clone(),
            surroundings: part.current.surroundings.clone(),
            ..Current::default()
        };
        self.current_of(part, found, before, &part.new)
    }

    /// What this kernel knows the guard of the part's VMs by, where they need one.
    /// What is on its way from one `offload` to another is the whole look's.
    fn guard(
        &self,
        old: &Topology,
        new: &Topology,
        scope: &Scope,
        surroundings: &Surroundings,
    ) -> Result<Option<Tag>, Whole> {
        let (old, new) = (scope.part(old), scope.part(new));
        let offload = |topology: &Topology, name: &str| topology.vm(name).map(|vm| vm.offload);
        let same = |vm: &Vm| offload(&old, vm.name.as_str()).is_none_or(|offload| offload == vm.offload);
        if !new.vms.iter().all(same) {
            return Err(Whole::OfAll);
        }
        let needed = old.vms.iter().chain(&new.vms).any(|vm| vm.offload != Offload::Off);
        let guard = needed.then(|| guard::known(&self.root, []).ok()).flatten();
        let expected = guarded(&old, guard);
        let is_known = |vm: &Vm| {
            let interface = &vm.port.interface;
            surroundings.guarded.contains(interface) == expected.contains(interface)
        };
        if old.vms.iter().all(is_known) { Ok(guard) } else { Err(Whole::Surroundings) }
    }

    async fn find(&self, part: &Part, before: bool) -> Result<Found, HostError> {
        // An address may be in the way; and where flows are ended, it is asked which
        // is the host's.
        let addresses = before && (part.asked.has_prefixes() || conntrack::count() != Some(0));
        Ok(Netlink::open()?.find(&part.asked, addresses).await?)
    }

    /// `apart` is of which topology the routes are that keep networks apart: what
    /// the kernel has taken, or said to have, isn't asked again.
    fn current_of(
        &self,
        part: &Part,
        found: Found,
        before: Current,
        apart: &Topology,
    ) -> Result<Current, HostError> {
        let Found { observed: mut links, addresses, .. } = found;
        let mut keys = Vec::new();
        for topology in [&part.old, &part.new] {
            keys.extend(link::sysctl_keys(&Desired::of_part(topology), &links.links));
        }
        keys.retain(|key| !links.sysctls.contains_key(key));
        let sysctls = link::sysctl::read(keys)
            .map_err(|source| link::LinkError::Sysctl { key: "/proc/sys".into(), source })?;
        links.sysctls.extend(sysctls);
        links.apart = Some(Desired::of_part(apart).apart);
        let mut current = Current { links, addresses, is_part: true, ..before };
        for vm in [&part.old, &part.new].into_iter().flat_map(|topology| &topology.vms) {
            if current.guests.iter().any(|guest| guest.name == vm.name) {
                continue;
            }
            if let Some(seen) = vm::observe_one(&self.root, &vm.name) {
                current.guests.push(Guest::of(&self.root, &part.new, seen));
            }
        }
        if part.is_haunted(&current) {
            current.strays = vm::find_strays(&self.root)?;
        }
        for one in [&part.old, &part.new].into_iter().flat_map(|topology| &topology.apps) {
            let same = |other: &SeenApp| other.seen.namespace == one.namespace && other.seen.name == one.name;
            if current.apps.iter().any(same) {
                continue;
            }
            if let Some(seen) = app::observe_one(&self.root, &one.namespace, &one.name) {
                current.apps.push(SeenApp::of(&self.root, seen));
            }
        }
        Ok(current)
    }
}

/// The ports of which the firewall asks for a guard's mark.
fn guarded(topology: &Topology, guard: Option<Tag>) -> Vec<IfName> {
    let vms = topology.vms.iter().filter(|vm| guard.is_some() && vm.offload.is_on(true));
    vms.map(|vm| vm.port.interface.clone()).collect()
}

impl Part {
    /// Whether somebody holds the TAP of a guest that isn't known to run.
    fn is_haunted(&self, current: &Current) -> bool {
        [&self.old, &self.new].into_iter().flat_map(|topology| &topology.vms).any(|vm| {
            let link = current.links.links.get(vm.port.interface.as_str());
            let attached = link.and_then(|link| link.tap.as_ref()).is_some_and(|tap| tap.attached);
            attached && !current.guests.iter().any(|guest| guest.name == vm.name && guest.running)
        })
    }
}

/// Where a host's networks let guests go that isn't the public internet.
fn elsewhere(topology: &Topology) -> Vec<IpNet> {
    let lans: BTreeSet<IpNet> = topology.networks.iter().flat_map(|network| &network.lan).copied().collect();
    let imds = topology.networks.iter().any(|network| network.imds == Imds::Host);
    lans.into_iter().chain(imds.then(prefix::metadata).into_iter().flatten().copied()).collect()
}

/// Whether what others did left hostctl's rules as they were.
fn has_rules_of(settled: &Settled, now: &Stamp) -> bool {
    let statics = settled.statics.as_ref().filter(|_| now.has_tables_of(&settled.stamp));
    statics.is_some_and(|known| Statics::read().is_ok_and(|found| found == *known))
}

fn tell((messages, bytes): (usize, usize)) {
    tracing::info!(messages, bytes, "looked at what changes, and not at the whole host");
}

/// That what leads to the internet is what it was.
fn check_surroundings(
    topology: &Topology,
    exits: &[IfName],
    known: &Surroundings,
    found: &Found,
) -> Result<(), Whole> {
    let links = &found.observed.links;
    let index = |name: &IfName| links.get(name.as_str()).map(|link| link.index);
    if exits.iter().any(|exit| index(exit) != known.indices.get(exit).copied()) {
        return Err(Whole::Surroundings);
    }
    let addresses = exits.iter().filter_map(|exit| links.get(exit.as_str())).flat_map(|link| &link.addresses);
    let nets = addresses.map(IpNet::trunc).filter(|net| net.prefix_len() > 0).collect();
    if IpNet::aggregate(&nets) != known.on_link {
        return Err(Whole::Surroundings);
    }
    if topology.uplink == Uplink::Auto {
        let anywhere = found.anywhere.as_ref().ok_or(Whole::Surroundings)?;
        let leads = |number: &u32| {
            known.uplinks.iter().chain(&topology.tailscale).any(|name| index(name) == Some(*number))
        };
        if !anywhere.iter().all(leads) || anywhere.is_empty() != known.uplinks.is_empty() {
            return Err(Whole::Surroundings);
        }
    }
    // Whoever turned this on wants more forwarded than hostctl opened.
    let on = link::sysctl::read([FORWARDING4_KEY.to_string()])
        .is_ok_and(|values| values.get(FORWARDING4_KEY).is_some_and(|value| value == "1"));
    if on && !known.opened.is_empty() { Err(Whole::Surroundings) } else { Ok(()) }
}
