//! What the host is, what it should be → the steps between, in the order that
//! leaves it closed wherever they stop. Pure.

use std::collections::BTreeSet;

use crate::firewall::{Difference, FlowPolicy};
use crate::link::{self, Conflict};
use crate::topology::{App, IfName, Name, Nat, Supervisor, Topology, Uplink, Vm};
use crate::vm::Pending;

use super::current::{Current, Guest, SeenApp};
use super::goal::{Goal, Restart};
use super::step::Step;
use super::surroundings::recorded_forwarding;

/// What on the host is in the way of `topology`.
pub fn conflicts(topology: &Topology, current: &Current) -> Vec<Conflict> {
    let mut conflicts = link::conflicts(&desired(topology, current), &current.links);
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
    steps.extend(links.guard.into_iter().map(Step::Link));
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
    if current.is_part {
        return link::Desired { guard: current.guard, ..link::Desired::of_part(topology) };
    }
    let mut desired = link::Desired::new(topology, &current.surroundings.uplinks);
    desired.guard = current.guard;
    if !current.surroundings.closed6 {
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
    // What is turned on for the whole host stays, as no part of it is what needs it.
    let back = back.filter(|_| !current.is_part);
    link::set_sysctls(back, true, &current.links, &mut undone);
    let mut steps: Vec<Step> = undone.into_iter().map(Step::Link).collect();
    let change = match goal.difference.clone() {
        Difference::None => None,
        Difference::Elements(delta) => Some(Step::ChangeFirewall(delta)),
        Difference::Replace { reason } => Some(Step::LoadFirewall { text: goal.text.clone(), reason }),
    };
    if let Some(change) = change {
        let [before, after] = goal.forget.map(|forget| forget.map(Step::ForgetMarks));
        steps.extend(before);
        steps.push(change);
        steps.extend(after);
        // Also at the first load: what was tracked before was judged by nobody.
        let gone = current.firewall.gone(&goal.ruleset, goal.listing.as_ref());
        let on_link = &current.surroundings.on_link;
        let policy = FlowPolicy::new(goal.whole, current.addresses(), on_link, gone);
        steps.push(Step::CutFlows(Box::new(policy)));
    }
    steps
}

/// The steps from `current` to the firewall of `goal` alone: what [`plan`]
/// does before it builds anything.
pub fn firewall_plan(goal: &Goal<'_>, current: &Current) -> Vec<Step> {
    firewall_steps(goal, &desired(goal.topology, current), current)
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
