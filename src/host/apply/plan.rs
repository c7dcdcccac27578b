//! What the host is, what it should be → the steps between, in the order that
//! leaves it closed wherever they stop.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::app;
use crate::firewall::{self, Difference, FlowPolicy, Listing, Live, Ruleset, Set, Stamp, Surroundings, nft};
use crate::link::{self, Conflict};
use crate::topology::{App, AppRestart, IfName, Name, Nat, Supervisor, Topology, Uplink, Vm};
use crate::vm::Pending;

use super::step::Step;
use crate::host::look::reliance::Reliance;

/// What the host is.
#[derive(Debug, Clone, Default)]
pub struct Current {
    /// Its links and kernel settings.
    pub links: link::Observed,
    /// Its tables, as far as they are hostctl's.
    pub firewall: Live,
    /// The state of the kernel's tables when they were read, where they stood
    /// still.
    pub stamp: Option<Stamp>,
    /// Whether its tables could be held against other programs and aren't.
    pub unheld: bool,
    /// Its guests.
    pub guests: Vec<Guest>,
    /// Its apps.
    pub apps: Vec<SeenApp>,
    /// What hostctl turned on, as it was written down for the case that the
    /// firewall, which records it, is lost.
    pub recorded: Surroundings,
    /// Other programs' bridges that were there when hostctl turned forwarding
    /// on first; none where that isn't known.
    pub former_bridges: Option<Vec<String>>,
    /// QEMUs of hostctl's that no runtime file accounts for: process and name.
    pub strays: Vec<(u32, String)>,
}

/// A VM that the host has, running or not.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its name.
    pub name: Name,
    /// What waits for its next start.
    pub pending: Vec<Pending>,
    /// Whether its QEMU runs.
    pub running: bool,
    /// Whether its supervisor runs.
    pub supervised: bool,
}

/// An app that the host has, running or not.
#[derive(Debug, Clone)]
pub struct SeenApp {
    /// What there is of it.
    pub seen: app::Observed,
    /// What ran last and ended as it should.
    pub ended: Option<app::AppRecord>,
}

impl SeenApp {
    /// Whether it ran as `wanted` asks for, ended as it should, and is done.
    fn ended_as(&self, wanted: &App) -> bool {
        let ended = self.ended.as_ref().is_some_and(|record| record.is_of(wanted));
        ended && wanted.restart != AppRestart::Always && self.seen.failure.is_none()
    }
}

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
    fn includes(&self, name: &Name) -> bool {
        match self {
            Self::No => false,
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }
}

/// The host's interfaces that lead to the internet.
pub fn uplinks(topology: &Topology, links: &link::Observed) -> Vec<IfName> {
    match &topology.uplink {
        Uplink::Named(names) => names.clone(),
        Uplink::Auto => links
            .default_route
            .iter()
            .filter_map(|name| IfName::new(name.as_str()).ok())
            .filter(|name| Some(name) != topology.tailscale.as_ref())
            .collect(),
    }
}

/// What the firewall has to know of the host. What hostctl turned on before
/// is read from the firewall that it loaded then.
pub fn surroundings(topology: &Topology, current: &Current) -> Surroundings {
    let uplinks = uplinks(topology, &current.links);
    let exits = topology.exits(&uplinks);
    let links = || exits.iter().filter_map(|exit| Some((exit, current.links.links.get(exit.as_str())?)));
    let indices = links().map(|(name, link)| (name.clone(), link.index)).collect();
    // A link whose prefix is everything has no neighbours of its own.
    let on_link = links().flat_map(|(_, link)| &link.addresses).map(IpNet::trunc);
    let on_link = IpNet::aggregate(&on_link.filter(|net| net.prefix_len() > 0).collect());
    if topology.networks.is_empty() {
        return Surroundings { uplinks, ..Surroundings::default() };
    }
    let recorded = recorded(current);
    let off = |key: &str| current.links.sysctls.get(key).is_some_and(|value| value == "0");
    let opened = exits
        .iter()
        .chain(&topology.tailscale)
        .filter(|name| recorded.opened.contains(name) || off(&link::forwarding4_key(name)))
        .cloned()
        .collect();
    let closed6 = topology.has_ipv6() && (recorded.closed6 || off(link::FORWARDING6_KEY));
    Surroundings { uplinks, opened, closed6, indices, on_link }
}

/// What hostctl turned on before, and nobody else has come to rely on.
fn recorded(current: &Current) -> Surroundings {
    let mut recorded = turned_on(current);
    let reliance = reliance(current);
    if reliance.v4.is_some() {
        recorded.opened.clear();
    }
    recorded.closed6 &= reliance.v6.is_none();
    recorded
}

/// Who relies on forwarding by now.
pub(in crate::host) fn reliance(current: &Current) -> Reliance {
    Reliance::of(&current.links, current.former_bridges.as_deref())
}

/// What hostctl turned on before: the loaded firewall says so; where somebody
/// flushed it, the file.
pub(in crate::host) fn turned_on(current: &Current) -> Surroundings {
    if !current.firewall.judges() {
        return current.recorded.clone();
    }
    let names = |set: Set| -> Vec<IfName> {
        current.firewall.texts(set).into_iter().filter_map(|name| IfName::new(name).ok()).collect()
    };
    let closed6 = current.firewall.texts(Set::Closed).iter().any(|family| family == "ipv6");
    Surroundings {
        uplinks: names(Set::Uplinks),
        opened: names(Set::Opened),
        closed6,
        ..Surroundings::default()
    }
}

/// The settings that take back what hostctl turned on.
pub fn recorded_forwarding(current: &Current) -> Vec<link::Sysctl> {
    let Surroundings { uplinks, opened, closed6, .. } = recorded(current);
    link::unforwarding(&opened, closed6, &uplinks)
}

/// What on the host is in the way of `topology`.
pub fn conflicts(topology: &Topology, current: &Current) -> Vec<Conflict> {
    let uplinks = uplinks(topology, &current.links);
    let desired = link::Desired::new(topology, &uplinks);
    let mut conflicts = link::conflicts(&desired, &current.links);
    // Tailscale's interface comes and goes with its daemon; one that is named
    // for the internet is there or misspelt.
    let nat = topology.networks.iter().flat_map(|network| match &network.nat {
        Nat::Named(names) => names.as_slice(),
        Nat::Uplinks | Nat::Off => &[],
    });
    let named = match &topology.uplink {
        Uplink::Named(names) => names.as_slice(),
        Uplink::Auto => &[],
    };
    let names: BTreeSet<&IfName> = named.iter().chain(nat).collect();
    let missing = names.into_iter().filter(|name| !current.links.links.contains_key(name.as_str()));
    conflicts.extend(missing.map(|name| Conflict::Missing(name.to_string())));
    conflicts
}

/// The steps from `current` to `goal`: guests that go, links that go, the
/// firewall, links that come, guests that come. Until the firewall is loaded
/// nothing new exists; what is removed from it has no port any more.
pub fn plan(goal: &Goal<'_>, current: &Current) -> Vec<Step> {
    let topology = goal.topology;
    let desired = desired(topology, current);
    let links = link::plan(&desired, &current.links);
    let mut steps = Vec::new();
    for guest in current.guests.iter().filter(|guest| guest.running || guest.supervised) {
        if let Some(reason) = stop_reason(guest, topology.vm(guest.name.as_str()), &goal.restart) {
            steps.push(Step::StopVm { name: guest.name.clone(), reason });
        }
    }
    steps.extend(end_strays(current));
    steps.extend(leaving_apps(current, &topology.apps));
    steps.extend(links.remove.into_iter().flat_map(leave));
    steps.extend(firewall_steps(goal, &desired, current));
    steps.extend(links.build.into_iter().map(Step::Link));
    steps.extend(links.apart.map(Step::KeepApart));
    for vm in &topology.vms {
        let guest = current.guests.iter().find(|guest| guest.name == vm.name);
        if let Some(reason) = start_reason(guest, vm, &goal.restart) {
            steps.push(Step::StartVm { vm: Box::new(vm.clone()), reason });
        }
    }
    steps.extend(coming_apps(current, &topology.apps));
    steps
}

/// What the links and settings should be.
fn desired(topology: &Topology, current: &Current) -> link::Desired {
    let mut desired = link::Desired::new(topology, &uplinks(topology, &current.links));
    if !surroundings(topology, current).closed6 {
        desired.keep_accept_ra();
    }
    desired
}

/// The steps that only close: forwarding that isn't needed any more, the
/// firewall, the flows that it doesn't allow.
fn firewall_steps(goal: &Goal<'_>, desired: &link::Desired, current: &Current) -> Vec<Step> {
    let keys: Vec<&str> = desired.forwarding.iter().map(|sysctl| sysctl.key.as_str()).collect();
    let back = recorded_forwarding(current).into_iter().filter(|s| !keys.contains(&s.key.as_str()));
    let mut undone = Vec::new();
    link::set_sysctls(back, true, &current.links, &mut undone);
    let mut steps: Vec<Step> = undone.into_iter().map(Step::Link).collect();
    let change = match goal.difference.clone() {
        Difference::None => None,
        Difference::Elements(delta) => Some(Step::ChangeFirewall(delta)),
        Difference::Replace { reason } => Some(Step::LoadFirewall { text: goal.text.clone(), reason }),
    };
    if let Some(change) = change {
        steps.push(change);
        // Also at the first load: what was tracked before was judged by nobody.
        let host =
            current.links.links.values().flat_map(|link| &link.addresses).map(|net| net.addr()).collect();
        let gone = current.firewall.gone(&goal.ruleset, goal.listing.as_ref());
        let policy =
            FlowPolicy::new(goal.topology, host, &surroundings(goal.topology, current).on_link, gone);
        steps.push(Step::CutFlows(Box::new(policy)));
    }
    steps
}

/// The steps from `current` to the firewall of `goal` alone: what [`plan`]
/// does before it builds anything.
pub fn firewall_plan(goal: &Goal<'_>, current: &Current) -> Vec<Step> {
    firewall_steps(goal, &desired(goal.topology, current), current)
}

/// What a firewall has to know that is loaded by itself: nothing is turned on
/// with it, so nothing new is noted as turned on. What somebody else turns on
/// later is then never turned off by hostctl.
pub fn surroundings_as_they_are(topology: &Topology, current: &Current) -> Surroundings {
    let wanted = surroundings(topology, current);
    let before = recorded(current);
    Surroundings {
        opened: wanted.opened.into_iter().filter(|name| before.opened.contains(name)).collect(),
        closed6: wanted.closed6 && before.closed6,
        ..wanted
    }
}

/// The steps that remove everything that is hostctl's, found by its marks.
pub fn removal(current: &Current) -> Vec<Step> {
    let mut steps: Vec<Step> = current
        .guests
        .iter()
        .filter(|guest| guest.running || guest.supervised)
        .map(|guest| Step::StopVm { name: guest.name.clone(), reason: "hostctl down".into() })
        .collect();
    steps.extend(end_strays(current));
    steps.extend(leaving_apps(current, &[]));
    let links = link::plan(&link::Desired::default(), &current.links);
    steps.extend(links.remove.into_iter().flat_map(leave));
    let mut undone = Vec::new();
    link::set_sysctls(recorded_forwarding(current), true, &current.links, &mut undone);
    steps.extend(undone.into_iter().map(Step::Link));
    steps.extend(links.apart.map(Step::KeepApart));
    if !current.firewall.is_empty() {
        steps.push(Step::RemoveFirewall);
    }
    steps
}

fn end_strays(current: &Current) -> impl Iterator<Item = Step> {
    current.strays.iter().map(|(pid, name)| Step::EndStray { pid: *pid, name: name.clone() })
}

/// A namespace lives as long as somebody is in it: they go before its name.
fn leave(step: link::Step) -> Vec<Step> {
    match &step {
        link::Step::DeleteNamespace { name } => {
            vec![Step::Evict { namespace: name.clone() }, Step::Link(step)]
        }
        _ => vec![Step::Link(step)],
    }
}

/// Apps that aren't wanted any more, or wanted otherwise.
fn leaving_apps(current: &Current, wanted: &[App]) -> Vec<Step> {
    let step = |one: &SeenApp| {
        let seen = &one.seen;
        let same_name = wanted.iter().find(|app| app.namespace == seen.namespace && app.name == seen.name);
        let reason = match (same_name, &seen.record) {
            (None, _) => "not in the spec".into(),
            (Some(wanted), Some(record)) => match record.differences(wanted).as_slice() {
                [] => return None,
                keys => format!("its spec changed: {}", keys.join(", ")),
            },
            (Some(wanted), None) if seen.supervised && !one.ended_as(wanted) => {
                "what it was started as isn't known".into()
            }
            (Some(_), None) => return None,
        };
        let (namespace, name) = (seen.namespace.clone(), seen.name.clone());
        Some(Step::StopApp { namespace, name, gone: same_name.is_none(), reason })
    };
    current.apps.iter().filter_map(step).collect()
}

/// Apps that don't run yet, or not as they are wanted.
fn coming_apps(current: &Current, wanted: &[App]) -> Vec<Step> {
    let runs = |app: &App| {
        let same = |other: &&SeenApp| other.seen.namespace == app.namespace && other.seen.name == app.name;
        current.apps.iter().find(same).is_some_and(|one| {
            let record = one.seen.record.as_ref();
            let runs = one.seen.supervised && record.is_some_and(|record| record.is_of(app));
            // One that ended as it should isn't run again by every apply. Its
            // supervisor takes the record along before it leaves.
            runs || ((!one.seen.supervised || record.is_none()) && one.ended_as(app))
        })
    };
    let missing = wanted.iter().filter(|app| !runs(app));
    missing.map(|app| Step::StartApp { app: Box::new(app.clone()) }).collect()
}

/// A guest that is wanted is only stopped by consent: what can't be changed
/// while it runs waits for its next start.
fn stop_reason(guest: &Guest, wanted: Option<&Vm>, restart: &Restart) -> Option<String> {
    let Some(wanted) = wanted else { return Some("not in the spec".into()) };
    if guest.pending.is_empty() || !restart.includes(&guest.name) {
        return None;
    }
    let keys: Vec<&str> = guest.pending.iter().map(|pending| pending.key.as_str()).collect();
    let unit = if wanted.supervisor == Supervisor::Unit { "; its unit starts it" } else { "" };
    Some(format!("restart: {}{unit}", keys.join(", ")))
}

/// None for a VM that its own unit starts.
fn start_reason(guest: Option<&Guest>, vm: &Vm, restart: &Restart) -> Option<String> {
    if vm.supervisor == Supervisor::Unit {
        return None;
    }
    match guest {
        Some(guest) if guest.running || guest.supervised => {
            let restarted = stop_reason(guest, Some(vm), restart);
            let orphaned = || "its supervisor is gone; the guest goes on".to_string();
            restarted.or_else(|| (!guest.supervised).then(orphaned))
        }
        _ => vm.autostart.then(|| "autostart".into()),
    }
}

/// What waits for the next start of guests of `topology`, once `steps` are
/// done.
pub fn waiting<'c>(
    topology: &Topology,
    current: &'c Current,
    steps: &[Step],
) -> Vec<(&'c Name, &'c [Pending])> {
    let stops = |name: &Name| {
        steps.iter().any(|step| matches!(step, Step::StopVm { name: other, .. } if other == name))
    };
    let wanted = |guest: &&Guest| topology.vm(guest.name.as_str()).is_some() && !stops(&guest.name);
    let guests = current.guests.iter().filter(|guest| !guest.pending.is_empty()).filter(wanted);
    guests.map(|guest| (&guest.name, guest.pending.as_slice())).collect()
}

/// The VMs with autostart that their units have still to start once `steps`
/// are done: the ones that don't run, and those that are stopped.
pub fn left_to_units<'t>(topology: &'t Topology, current: &Current, steps: &[Step]) -> Vec<&'t Name> {
    let stops =
        |vm: &Vm| steps.iter().any(|step| matches!(step, Step::StopVm { name, .. } if *name == vm.name));
    let runs = |vm: &Vm| current.guests.iter().any(|guest| guest.name == vm.name && guest.supervised);
    let units = topology.vms.iter().filter(|vm| vm.supervisor == Supervisor::Unit && vm.autostart);
    units.filter(|vm| stops(vm) || !runs(vm)).map(|vm| &vm.name).collect()
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
) -> Result<Goal<'a>, crate::host::HostError> {
    goal_in(topology, current, &surroundings(topology, current), known)
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
) -> Result<Goal<'a>, crate::host::HostError> {
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
