//! What the host is → what a firewall has to know of it: which links lead to the
//! internet, and which forwarding is hostctl's to close. Pure.

use ipnet::IpNet;

use crate::firewall::{Set, Surroundings};
use crate::guard::Attached;
use crate::link;
use crate::topology::{IfName, Topology, Uplink, Vm};

use super::current::Current;
use crate::host::look::reliance::Reliance;

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
/// is read from the firewall that it loaded then. `guard`: this kernel takes the
/// guard of VMs' ports.
pub(super) fn surroundings(
    topology: &Topology,
    uplinks: Vec<IfName>,
    current: &Current,
    guard: bool,
) -> Surroundings {
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
    let guarded = guarded(topology, current, guard);
    Surroundings { uplinks, opened, closed6, indices, on_link, guarded }
}

/// The ports that only judged frames pass: those that have a guard, and those
/// that have a header without anybody's having asked for one that nobody judges.
fn guarded(topology: &Topology, current: &Current, guard: bool) -> Vec<IfName> {
    let needs_mark = |vm: &&Vm| match vm.offload.is_on(guard) {
        true => guard,
        false => tap(current, vm).is_some_and(|tap| tap.vnet_header && tap.attached),
    };
    topology.vms.iter().filter(needs_mark).map(|vm| vm.port.interface.clone()).collect()
}

fn tap<'c>(current: &'c Current, vm: &Vm) -> Option<&'c link::Tap> {
    current.links.links.get(vm.port.interface.as_str()).filter(|link| link.is_ours())?.tap.as_ref()
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
pub(super) fn recorded_forwarding(current: &Current) -> Vec<link::Sysctl> {
    let Surroundings { uplinks, opened, closed6, .. } = recorded(current);
    link::unforwarding(&opened, closed6, &uplinks)
}

/// What a firewall has to know that is loaded by itself: nothing is turned on
/// with it, so nothing new is noted as turned on. What somebody else turns on
/// later is then never turned off by hostctl. Ports that have no guard yet, and
/// need none, go on without.
pub(super) fn surroundings_as_they_are(current: &Current) -> Surroundings {
    let wanted = current.surroundings.clone();
    let before = recorded(current);
    Surroundings {
        opened: wanted.opened.into_iter().filter(|name| before.opened.contains(name)).collect(),
        closed6: wanted.closed6 && before.closed6,
        guarded: wanted.guarded.into_iter().filter(|name| !is_plain(current, name)).collect(),
        ..wanted
    }
}

/// Whether a port is there, has no header, and no guard that marks its frames.
fn is_plain(current: &Current, port: &IfName) -> bool {
    current.links.links.get(port.as_str()).is_some_and(|link| {
        let guarded = current.guard.is_some_and(|tag| link.guard == Some(Attached::Program(tag)));
        !guarded && link.tap.as_ref().is_some_and(|tap| !tap.vnet_header)
    })
}
