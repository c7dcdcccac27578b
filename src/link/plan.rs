//! What the kernel has, what it should have → the steps between.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::IpNet;

use super::desired::{Bridge, Desired, INSIDE, Namespace, Port, PortKind, Sysctl};
use super::observed::{Inside, Link, Observed};
use super::step::{Setting, Step};
use super::{apart, neighbours};
use crate::guard::{Attached, Tag};
use crate::ownership::namespace_mark;
use crate::topology::Offload;

/// The steps between two states of the links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What goes, before the firewall is changed.
    pub remove: Vec<Step>,
    /// The guards of ports that are there: before the firewall asks for their mark.
    pub guard: Vec<Step>,
    /// What comes, after the firewall is changed.
    pub build: Vec<Step>,
    /// What keeps networks apart where the firewall is gone.
    pub apart: Option<apart::ApartChange>,
}

/// Something on the host that hostctl didn't make and won't touch is in the
/// way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A link's name.
    #[error(
        "there is already a link {name} ({kind}) that hostctl didn't make: rename it, or the network or VM"
    )]
    Link {
        /// Its name.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// A network's prefix.
    #[error("network {prefix} overlaps {address} of {name}: the host could no longer reach one of the two")]
    Address {
        /// The network's prefix.
        prefix: IpNet,
        /// The address that overlaps.
        address: IpNet,
        /// The link that holds it.
        name: String,
    },
    /// A namespace's name.
    #[error("there is already a network namespace {0} that hostctl didn't make: rename it, or the subnet")]
    Namespace(String),
    /// An interface that the spec names isn't there.
    #[error("there is no interface {0}, which the spec names")]
    Missing(String),
}

/// The settings whose values a plan depends on.
pub fn sysctl_keys(desired: &Desired, observed_links: &BTreeMap<String, Link>) -> Vec<String> {
    let bridges = desired.bridges.iter().map(|bridge| (&bridge.name, bridge.sysctls()));
    let ports = desired.ports.iter().map(|port| (&port.name, port.sysctls()));
    let owned = bridges.chain(ports).filter(|(name, _)| observed_links.contains_key(name.as_str()));
    let owned = owned.flat_map(|(_, sysctls)| sysctls);
    let keys: Vec<String> = owned
        .chain(desired.forwarding.iter().chain(&desired.flow_room).cloned())
        .map(|sysctl| sysctl.key)
        .collect();
    // What a link begins with.
    let bridge = desired.bridges.first().map(Bridge::sysctls).into_iter().flatten();
    let port = desired.ports.first().map(Port::sysctls).into_iter().flatten();
    keys.into_iter().chain(bridge.chain(port).map(|sysctl| default_key(&sysctl.key))).collect()
}

/// The setting that a new link takes over: `net/ipv4/conf/br-x/forwarding` is
/// at first what `net/ipv4/conf/default/forwarding` is.
fn default_key(key: &str) -> String {
    let parts: Vec<&str> = key.split('/').collect();
    match parts.as_slice() {
        [net, family, conf, _, setting] => [net, family, conf, "default", setting].join("/"),
        _ => key.into(),
    }
}

/// Everything of the host's that is in the way.
pub fn conflicts(desired: &Desired, observed: &Observed) -> Vec<Conflict> {
    let names = desired.bridges.iter().map(|bridge| (bridge.name.as_str(), &bridge.altname, "bridge"));
    let names = names.chain(desired.ports.iter().map(|port| (port.name.as_str(), &port.altname, "port")));
    let foreign: BTreeMap<&str, &Link> = observed
        .links
        .iter()
        .filter(|(_, link)| !link.is_ours())
        .flat_map(|(name, link)| link.altnames.iter().chain([name]).map(move |each| (each.as_str(), link)))
        .collect();
    let mut conflicts = Vec::new();
    for (name, altname, _) in names {
        for name in [name].into_iter().chain(altname.as_deref()) {
            if let Some(link) = foreign.get(name) {
                let kind = if link.kind.is_empty() { "hardware" } else { link.kind.as_str() };
                conflicts.push(Conflict::Link { name: name.into(), kind: kind.into() });
            }
        }
    }
    for namespace in &desired.namespaces {
        if observed.namespaces.get(&namespace.name).is_some_and(|found| !found.ours) {
            conflicts.push(Conflict::Namespace(namespace.name.clone()));
        }
    }
    for (name, link) in observed.links.iter().filter(|(_, link)| !link.is_ours()) {
        for address in &link.addresses {
            let overlapping = desired.prefixes.iter().find(|prefix| overlap(prefix, address));
            conflicts.extend(overlapping.map(|prefix| Conflict::Address {
                prefix: *prefix,
                address: *address,
                name: name.clone(),
            }));
        }
    }
    conflicts
}

pub(super) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    match (a, b) {
        (IpNet::V4(a), IpNet::V4(b)) => a.contains(b) || b.contains(a) || a.contains(&b.addr()),
        (IpNet::V6(a), IpNet::V6(b)) => a.contains(b) || b.contains(a) || a.contains(&b.addr()),
        _ => false,
    }
}

/// The steps from `observed` to `desired`. Call [`conflicts`] first: a link
/// that isn't hostctl's is never part of a step.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let apart = observed.apart.as_ref().and_then(|found| apart::change(&desired.apart, found));
    let mut plan = Plan { apart, ..Plan::default() };
    let wanted: BTreeMap<&str, &str> = (desired.ports.iter())
        .map(|port| (port.name.as_str(), port.kind.link_kind()))
        .chain(desired.bridges.iter().map(|bridge| (bridge.name.as_str(), "bridge")))
        .collect();
    // Ports go before their bridges.
    let mut gone: Vec<(&String, &Link)> = observed
        .links
        .iter()
        .filter(|(name, link)| link.is_ours() && wanted.get(name.as_str()) != Some(&link.kind.as_str()))
        .collect();
    gone.sort_by_key(|(name, link)| (link.kind == "bridge", *name));
    let gone_names: BTreeSet<&str> = gone.iter().map(|(name, _)| name.as_str()).collect();
    plan.remove.extend(gone.iter().map(|(name, _)| Step::Delete { name: (*name).clone() }));
    let kept =
        |name: &str, kind: &str| observed.links.get(name).filter(|link| link.is_ours() && link.kind == kind);
    let mut proxies = Vec::new();
    let guests = neighbours::wanted(desired);
    let none = BTreeMap::new();
    let mut missing_neighbours = Vec::new();
    let (mut settings, mut up, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for bridge in &desired.bridges {
        // Before the settings: turning IPv6 off takes them away.
        let [stale, missing] = plan_proxies(bridge, desired, observed);
        plan.build.extend(stale);
        proxies.extend(missing);
        let wanted = guests.get(bridge.name.as_str()).unwrap_or(&none);
        let neighbours = neighbours::plan(bridge, wanted, observed);
        plan.remove.extend(neighbours.stale);
        missing_neighbours.extend(neighbours.missing);
        let found = kept(bridge.name.as_str(), "bridge");
        plan_bridge(bridge, found, [&mut plan.build, &mut settings]);
        set_sysctls(bridge.sysctls(), found.is_some(), observed, &mut settings);
        plan_addresses(bridge, found, [&mut settings, &mut up, &mut last]);
    }
    plan.build.extend(settings);
    for port in &desired.ports {
        let inside = match &port.kind {
            PortKind::Tap => None,
            PortKind::Veth { namespace } => observed.namespaces.get(namespace),
        };
        // A veth whose other end is in no namespace of ours, or has another
        // MAC, is made anew.
        let kept = kept(port.name.as_str(), port.kind.link_kind()).filter(|_| match (&port.kind, inside) {
            (PortKind::Tap, _) => true,
            (PortKind::Veth { .. }, Some(inside)) => {
                inside.link.as_ref().is_some_and(|link| link.mac == Some(port.guest.octets()))
            }
            (PortKind::Veth { .. }, None) => false,
        });
        let there = observed.links.get(port.name.as_str()).is_some_and(Link::is_ours);
        if kept.is_none() && there && !gone_names.contains(port.name.as_str()) {
            plan.remove.push(Step::Delete { name: port.name.to_string() });
        }
        if let PortKind::Veth { namespace } = &port.kind {
            let wanted = desired.namespaces.iter().find(|wanted| &wanted.name == namespace);
            if let (Some(wanted), None) = (wanted, inside) {
                let alias = namespace_mark(&wanted.alias, observed.network);
                plan.build.push(Step::CreateNamespace { name: namespace.clone(), alias });
            }
        }
        let header = port.offload.is_on(desired.guard.is_some());
        plan_port(port, kept, observed, header, &mut plan);
        plan_guard(port, kept, desired.guard, &mut plan);
        if let PortKind::Veth { namespace } = &port.kind
            && let Some(wanted) = desired.namespaces.iter().find(|wanted| &wanted.name == namespace)
        {
            if inside.is_some_and(|inside| inside.ours && !inside.signed) {
                let setting = Setting::Alias(namespace_mark(&wanted.alias, observed.network));
                let step = Box::new(Step::Set { name: "lo".into(), setting });
                plan.build.push(Step::Inside { namespace: namespace.clone(), step });
            }
            plan_inside(wanted, inside, kept.is_some(), &mut plan.build);
        }
    }
    for (name, inside) in &observed.namespaces {
        if inside.ours && !desired.namespaces.iter().any(|wanted| &wanted.name == name) {
            plan.remove.push(Step::DeleteNamespace { name: name.clone() });
        }
    }
    plan.build.extend(up);
    plan.build.extend(last);
    plan.build.extend(proxies);
    plan.build.extend(missing_neighbours);
    let host = desired.flow_room.iter().chain(&desired.forwarding);
    set_sysctls(host.cloned(), true, observed, &mut plan.build);
    plan
}

/// The settings among `sysctls` that have another value; `exists` says whether
/// their link is there to be asked.
pub fn set_sysctls(
    sysctls: impl IntoIterator<Item = Sysctl>,
    exists: bool,
    observed: &Observed,
    steps: &mut Vec<Step>,
) {
    for sysctl in sysctls {
        // What a link of that name had that goes first doesn't count.
        let needed = match observed.sysctls.get(&sysctl.key).filter(|_| exists) {
            Some(value) => {
                let number = |text: &str| text.parse::<u64>().ok();
                let enough = sysctl.at_least && number(value) >= number(&sysctl.value);
                value != &sysctl.value && !enough && sysctl.replaces.as_ref().is_none_or(|from| from == value)
            }
            // A kernel without IPv6 has no such setting.
            None => !exists && observed.sysctls.get(&default_key(&sysctl.key)) != Some(&sysctl.value),
        };
        if needed {
            steps.push(Step::Sysctl(sysctl));
        }
    }
}

fn plan_bridge(bridge: &Bridge, link: Option<&Link>, [links, steps]: [&mut Vec<Step>; 2]) {
    let name = || bridge.name.to_string();
    let fresh = Link { mac: Some(bridge.mac.octets()), ..Link::default() };
    let found = link.unwrap_or(&fresh);
    if link.is_none() {
        links.push(Step::CreateBridge { name: name(), mac: bridge.mac });
    }
    let mut set = |needed: bool, setting: Setting| {
        if needed {
            steps.push(Step::Set { name: name(), setting });
        }
    };
    set(found.mac != Some(bridge.mac.octets()), Setting::Mac(bridge.mac));
    set(found.stp, Setting::NoStp);
    set(found.mcast_snooping, Setting::NoMulticastSnooping);
    set(found.lldp_unfiltered, Setting::FilterLldp);
    set(found.alias.as_deref() != Some(bridge.alias.as_str()), Setting::Alias(bridge.alias.clone()));
    for altname in bridge.altname.iter().filter(|altname| !found.altnames.contains(*altname)) {
        set(true, Setting::Altname(altname.clone()));
    }
    // Before the settings: turning IPv6 off takes its addresses away.
    for address in found.addresses.iter().filter(|address| !bridge.addresses.contains(*address)) {
        steps.push(Step::RemoveAddress { name: name(), address: *address });
    }
}

/// IPv4's addresses come with the settings. Bridges carry packets when everything
/// else stands, and IPv6's addresses come then: each change of a link walks through
/// all IPv6 routes that there are by then (rt6_sync_up and rt6_sync_down_dev in
/// `net/ipv6/route.c`).
fn plan_addresses(bridge: &Bridge, link: Option<&Link>, [early, up, last]: [&mut Vec<Step>; 3]) {
    let name = || bridge.name.to_string();
    let found = |address: &IpNet| link.is_some_and(|link| link.addresses.contains(address));
    for address in bridge.addresses.iter().filter(|address| !found(address)) {
        let steps = if matches!(address, IpNet::V4(_)) { &mut *early } else { &mut *last };
        steps.push(Step::AddAddress { name: name(), address: *address });
    }
    if !link.is_some_and(|link| link.up) {
        up.push(Step::Set { name: name(), setting: Setting::Up });
    }
}

/// `header`: its frames may carry one.
fn plan_port(port: &Port, link: Option<&Link>, observed: &Observed, header: bool, plan: &mut Plan) {
    let name = || port.name.to_string();
    let fresh = Link { learning: true, flood: true, ..Link::default() };
    let found = link.unwrap_or(&fresh);
    if link.is_none() {
        plan.build.push(match &port.kind {
            PortKind::Tap => Step::CreateTap { name: name(), mac: port.mac },
            PortKind::Veth { namespace } => Step::CreateVeth {
                name: name(),
                own: port.mac,
                namespace: namespace.clone(),
                mac: port.guest,
            },
        });
    }
    let bridge = observed.links.get(port.bridge.as_str()).map(|bridge| bridge.index);
    let attached = found.master.is_some() && found.master == bridge;
    let moved = found.master.is_some() && !attached;
    if moved {
        // Before the firewall knows it as another network's port.
        plan.remove.push(Step::Set { name: name(), setting: Setting::NoBridge });
    }
    let mut set = |needed: bool, setting: Setting| {
        if needed {
            plan.build.push(Step::Set { name: name(), setting });
        }
    };
    if let Some(mac) = port.mac.filter(|mac| link.is_some() && found.mac != Some(mac.octets())) {
        set(true, Setting::Mac(mac));
    }
    // Of one that is in use the audit tells: it is held by who changed it.
    set(found.tap.as_ref().is_some_and(|tap| !tap.attached && !tap.is_as_made(header)), Setting::Reclaim);
    set(found.alias.as_deref() != Some(port.alias.as_str()), Setting::Alias(port.alias.clone()));
    for altname in port.altname.iter().filter(|altname| !found.altnames.contains(*altname)) {
        set(true, Setting::Altname(altname.clone()));
    }
    set_sysctls(port.sysctls(), link.is_some(), observed, &mut plan.build);
    let mut set = |needed: bool, setting: Setting| {
        if needed {
            plan.build.push(Step::Set { name: name(), setting });
        }
    };
    set(!attached, Setting::Bridge(port.bridge.to_string()));
    // Leaving a bridge takes the port's settings with it. One that is up has them
    // at once; one that is set up, with that.
    let loud = !attached || found.learning || found.flood || !found.isolated;
    set(loud && found.up, Setting::QuietPort);
    let stale = found.fdb.iter().filter(|mac| attached && **mac != port.guest.octets());
    plan.build.extend(stale.map(|mac| Step::RemoveFdb { name: name(), mac: *mac }));
    if !attached || !found.fdb.contains(&port.guest.octets()) {
        plan.build.push(Step::AddFdb { name: name(), mac: port.guest });
    }
    let mut set = |needed: bool, setting: Setting| {
        if needed {
            plan.build.push(Step::Set { name: name(), setting });
        }
    };
    set(loud && !found.up, Setting::QuietPort);
    set(!found.up, Setting::Up);
}

/// The guard of a VM's port: before it becomes a port, or before the firewall
/// asks for it. Whoever has a header keeps it until the guest ends.
fn plan_guard(port: &Port, link: Option<&Link>, guard: Option<Tag>, plan: &mut Plan) {
    if port.kind != PortKind::Tap {
        return;
    }
    let step = |setting| Step::Set { name: port.name.to_string(), setting };
    let header = link.and_then(|link| link.tap.as_ref()).is_some_and(|tap| tap.vnet_header && tap.attached);
    let found = link.and_then(|link| link.guard);
    match guard.filter(|_| port.offload != Offload::Off || header) {
        Some(tag) if found != Some(Attached::Program(tag)) => {
            // A port that is made comes after the firewall that knows it.
            let made = plan.build.iter().position(|step| step.is_creation_of(port.name.as_str()));
            match made {
                Some(made) => plan.build.insert(made + 1, step(Setting::Guard)),
                None => plan.guard.push(step(Setting::Guard)),
            }
        }
        None if port.offload == Offload::Off && !header && matches!(found, Some(Attached::Program(_))) => {
            plan.build.push(step(Setting::NoGuard));
        }
        _ => {}
    }
}

/// A namespace's loopback, interface and routes.
fn plan_inside(wanted: &Namespace, found: Option<&Inside>, linked: bool, steps: &mut Vec<Step>) {
    let mut inside = |step: Step| {
        steps.push(Step::Inside { namespace: wanted.name.clone(), step: Box::new(step) });
    };
    let up = |name: &str| Step::Set { name: name.into(), setting: Setting::Up };
    if !found.is_some_and(|found| found.loopback) {
        inside(up("lo"));
    }
    let link = found.and_then(|found| found.link.as_ref()).filter(|_| linked);
    for address in &wanted.addresses {
        if !link.is_some_and(|link| link.addresses.contains(address)) {
            inside(Step::AddAddress { name: INSIDE.into(), address: *address });
        }
    }
    if link.is_none() || found.is_some_and(|found| found.late_checksums) {
        inside(Step::Set { name: INSIDE.into(), setting: Setting::WholeChecksums });
    }
    if !link.is_some_and(|link| link.up) {
        inside(up(INSIDE));
    }
    let routes = found.filter(|_| linked).map(|found| found.routes.clone()).unwrap_or_default();
    // The kernel drops the routes of a link that goes down.
    let routes = if link.is_some_and(|link| link.up) { routes } else { BTreeSet::new() };
    for (to, via) in &routes {
        if !wanted.routes.iter().any(|route| (route.to, route.via) == (*to, *via)) {
            inside(Step::RemoveRoute { name: INSIDE.into(), to: *to, via: *via });
        }
    }
    for route in &wanted.routes {
        if !routes.contains(&(route.to, route.via)) {
            inside(Step::AddRoute { name: INSIDE.into(), to: route.to, via: route.via });
        }
    }
}

/// Which bridge answers for which guest: those that it no longer does, and
/// those that it doesn't yet.
fn plan_proxies(bridge: &Bridge, desired: &Desired, observed: &Observed) -> [Vec<Step>; 2] {
    let name = || bridge.name.to_string();
    let ports = desired.ports.iter().filter(|port| port.bridge == bridge.name);
    let wanted: BTreeSet<Ipv6Addr> = ports.filter_map(|port| port.guest6).collect();
    let found = observed.links.get(bridge.name.as_str()).filter(|link| link.is_ours());
    let found = found.map(|link| link.proxies.clone()).unwrap_or_default();
    let stale =
        found.difference(&wanted).map(|address| Step::RemoveProxy { name: name(), address: *address });
    let missing = wanted.difference(&found).map(|address| Step::AddProxy { name: name(), address: *address });
    [stale.collect(), missing.collect()]
}
