//! Two hosts → the objects in which they differ, and the part of each that is
//! about these.
//!
//! What both parts have in common cancels out wherever they are compared, so a
//! part may have more than what differs, as what that refers to; it never has
//! less.

use std::collections::{BTreeMap, BTreeSet};

use super::{Direction, IfName, Name, NamespaceName, Network, Port, Topology};

/// The objects in which two hosts differ, with those that they refer to, by
/// their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    networks: BTreeSet<Name>,
    /// Guests, by the interface of their port.
    ports: BTreeSet<IfName>,
    /// By namespace and name.
    apps: BTreeSet<(NamespaceName, Name)>,
    policies: BTreeSet<String>,
    /// Guests that stay as they are, of networks about which something is said
    /// once for all of their guests.
    witnesses: BTreeSet<IfName>,
}

impl Scope {
    /// In what `old` and `new` differ; none where that is something that is every
    /// object's, as the uplinks, or whether there is IPv6.
    pub fn between(old: &Topology, new: &Topology) -> Option<Self> {
        if !same_for_all(old, new) {
            return None;
        }
        let mut scope = Self::default();
        scope.networks.extend(differing(&old.networks, &new.networks, |one| &one.name).into_iter().cloned());
        let old_pairs: BTreeSet<_> = old.peerings.iter().collect();
        let new_pairs: BTreeSet<_> = new.peerings.iter().collect();
        for (a, b) in old_pairs.symmetric_difference(&new_pairs) {
            scope.networks.extend([a.clone(), b.clone()]);
        }
        scope.networks.extend(peers_of_moved(old, new, &scope.networks));
        let vms = differing(&old.vms, &new.vms, |vm| &vm.port.interface);
        let namespaces = differing(&old.namespaces, &new.namespaces, |one| &one.port.interface);
        scope.ports.extend(vms.into_iter().chain(namespaces).cloned());
        scope.ports.extend(differing_keys(&old.own_limits, &new.own_limits).cloned());
        scope.ports.extend(differing_keys(&old.policed, &new.policed).cloned());
        scope.ports.extend(differing_keys(&old.retained6, &new.retained6).cloned());
        for id in differing(&old.policies, &new.policies, |policy| &policy.id) {
            scope.policies.insert(id.clone());
            if directions(old, id) != directions(new, id) {
                // Its guests are led to other chains.
                let guests = |topology: &'_ Topology| -> Vec<IfName> {
                    let own = topology.policed.iter().filter(|(_, other)| *other == id);
                    own.map(|(interface, _)| interface.clone()).collect()
                };
                scope.ports.extend(guests(old).into_iter().chain(guests(new)));
            }
        }
        let apps = differing(&old.apps, &new.apps, |app| (&app.namespace, &app.name));
        scope.apps.extend(apps.into_iter().map(|(namespace, name)| (namespace.clone(), name.clone())));
        scope.refer(old);
        scope.refer(new);
        scope.witness(new);
        Some(scope)
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As [`Scope::part`], with guests that stay as they are where something is
    /// said once for all guests of a network.
    #[must_use]
    pub fn part_with_witnesses(&self, topology: &Topology) -> Topology {
        let ports = self.ports.union(&self.witnesses).cloned().collect();
        Self { ports, ..self.clone() }.part(topology)
    }

    /// What of `topology` is within it.
    #[must_use]
    pub fn part(&self, topology: &Topology) -> Topology {
        let within = |port: &Port| self.ports.contains(&port.interface);
        let networks: Vec<Network> =
            topology.networks.iter().filter(|one| self.networks.contains(&one.name)).cloned().collect();
        let pair = |(a, b): &&(Name, Name)| self.networks.contains(a) && self.networks.contains(b);
        Topology {
            uplink: topology.uplink.clone(),
            firewall: topology.firewall,
            allow_input: topology.allow_input.clone(),
            limits: topology.limits,
            mark_mask: topology.mark_mask,
            own_limits: of_keys(&topology.own_limits, &self.ports),
            conntrack_max: topology.conntrack_max,
            deny: topology.deny.clone(),
            tailscale: topology.tailscale.clone(),
            dns: topology.dns.clone(),
            networks,
            peerings: topology.peerings.iter().filter(pair).cloned().collect(),
            vms: topology.vms.iter().filter(|vm| within(&vm.port)).cloned().collect(),
            namespaces: topology.namespaces.iter().filter(|one| within(&one.port)).cloned().collect(),
            apps: topology
                .apps
                .iter()
                .filter(|app| self.apps.contains(&(app.namespace.clone(), app.name.clone())))
                .cloned()
                .collect(),
            policies: topology
                .policies
                .iter()
                .filter(|policy| self.policies.contains(&policy.id))
                .cloned()
                .collect(),
            policed: of_keys(&topology.policed, &self.ports),
            retained6: of_keys(&topology.retained6, &self.ports),
        }
    }

    /// Adds what its guests refer to: their network and their policy.
    fn refer(&mut self, topology: &Topology) {
        for port in topology.ports().filter(|port| self.ports.contains(&port.interface)) {
            self.networks.insert(port.network.clone());
            self.policies.extend(topology.policed.get(&port.interface).cloned());
        }
    }

    /// That a network has guests with rules for what comes to them is said once for
    /// all of these: so one that stays is added where there is one.
    fn witness(&mut self, topology: &Topology) {
        let receives = |port: &Port| {
            topology.policy(port).is_some_and(|policy| policy.rules(Direction::Ingress).is_some())
        };
        let mut witnesses = BTreeMap::new();
        for port in topology.ports().filter(|port| self.networks.contains(&port.network)) {
            if !witnesses.contains_key(&port.network)
                && !self.ports.contains(&port.interface)
                && receives(port)
            {
                witnesses.insert(port.network.clone(), port.interface.clone());
            }
        }
        self.policies.extend(witnesses.values().filter_map(|port| topology.policed.get(port).cloned()));
        self.witnesses.extend(witnesses.into_values());
    }
}

/// The networks that are peered with one of `changed` whose prefixes are others now:
/// what each may reach is said with it.
fn peers_of_moved(old: &Topology, new: &Topology, changed: &BTreeSet<Name>) -> Vec<Name> {
    let prefixes = |topology: &Topology, name: &Name| {
        topology.network(name).map(|network| (network.cidr, network.cidr6))
    };
    let moved: BTreeSet<&Name> =
        changed.iter().filter(|name| prefixes(old, name) != prefixes(new, name)).collect();
    let pairs = old.peerings.iter().chain(&new.peerings);
    let pairs = pairs.filter(|(a, b)| moved.contains(a) || moved.contains(b));
    pairs.flat_map(|(a, b)| [a.clone(), b.clone()]).collect()
}

/// For which directions a policy has rules.
fn directions(topology: &Topology, id: &str) -> Option<[bool; 2]> {
    let index = topology.policies.binary_search_by(|policy| policy.id.as_str().cmp(id)).ok()?;
    let policy = topology.policies.get(index)?;
    Some(Direction::ALL.map(|direction| policy.rules(direction).is_some()))
}

/// Whether two hosts have the same where it isn't of one object.
fn same_for_all(old: &Topology, new: &Topology) -> bool {
    // A field that is added has to be thought of.
    let Topology {
        uplink,
        firewall,
        allow_input,
        limits,
        own_limits: _,
        conntrack_max,
        mark_mask,
        deny,
        tailscale,
        dns,
        networks,
        peerings: _,
        vms: _,
        namespaces: _,
        apps: _,
        policies: _,
        policed: _,
        retained6: _,
    } = old;
    *uplink == new.uplink
        && *firewall == new.firewall
        && *allow_input == new.allow_input
        && *limits == new.limits
        && *conntrack_max == new.conntrack_max
        && *mark_mask == new.mark_mask
        && *deny == new.deny
        && *tailscale == new.tailscale
        && *dns == new.dns
        && networks.is_empty() == new.networks.is_empty()
        && old.has_ipv6() == new.has_ipv6()
}

/// The keys of what is in one list and not, or otherwise, in the other.
fn differing<'a, T: PartialEq, K: Ord + Copy + 'a>(
    old: &'a [T],
    new: &'a [T],
    key: impl Fn(&'a T) -> K,
) -> Vec<K> {
    let before: BTreeMap<K, &T> = old.iter().map(|one| (key(one), one)).collect();
    let after: BTreeMap<K, &T> = new.iter().map(|one| (key(one), one)).collect();
    differing_keys(&before, &after).copied().collect()
}

fn differing_keys<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let other = new.iter().filter(|(key, value)| old.get(*key) != Some(*value)).map(|(key, _)| key);
    other.chain(gone)
}

fn of_keys<K: Ord + Clone, V: Clone>(all: &BTreeMap<K, V>, keys: &BTreeSet<K>) -> BTreeMap<K, V> {
    keys.iter().filter_map(|key| Some((key.clone(), all.get(key)?.clone()))).collect()
}
