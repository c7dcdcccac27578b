//! What the model knows of a host, as sets that a packet's fields are held
//! against: one account for a single flow and for a space of packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::IpNet;

use crate::packet::{Family, Range, number, prefix, range};
use crate::topology::{Direction, IfName, Name, Network, Policy, Port, SubnetKind, Topology};

use super::Vicinity;
use super::policy::Indexed;

/// Tells sets apart, also from those that are gone: what was computed of one
/// may be kept by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SetId(u32);

impl SetId {
    fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Addresses of both families.
#[derive(Debug)]
pub struct Addresses {
    /// Whose ranges these are.
    pub id: SetId,
    /// In order, and apart from each other; both ends included.
    ranges: [Vec<Range>; 2],
}

impl Addresses {
    pub(super) fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let mut ranges = [Vec::new(), Vec::new()];
        for net in nets {
            let [v4, v6] = &mut ranges;
            if net.addr().is_ipv4() { v4.push(range(&net)) } else { v6.push(range(&net)) }
        }
        Self { id: SetId::next(), ranges: ranges.map(joined) }
    }

    pub(super) fn hosts(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::new(addresses.into_iter().map(IpNet::from))
    }

    /// Those of a family, in order and apart.
    pub fn ranges(&self, family: Family) -> &[Range] {
        let [v4, v6] = &self.ranges;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// Whether an address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        find(self.ranges(Family::of(address)), number(address))
    }
}

/// Whether a number is in one of the ranges, which are in order.
pub(super) fn find(ranges: &[Range], number: u128) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= number);
    behind.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|(_, last)| *last >= number)
}

/// In order, and apart.
fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let joins = next.0 <= before.1.saturating_add(1);
        if joins {
            before.1 = before.1.max(next.1);
        }
        joins
    });
    ranges
}

/// Links, by their names.
#[derive(Debug)]
pub struct Links {
    /// Whose names these are.
    pub id: SetId,
    /// The names.
    pub names: BTreeSet<IfName>,
    /// Whether a link that took another's name is meant as well: rules that ask
    /// for the kernel's number of a link don't mean it.
    pub by_name: bool,
}

impl Links {
    fn named<'n>(names: impl IntoIterator<Item = &'n IfName>) -> Self {
        Self { id: SetId::next(), names: names.into_iter().cloned().collect(), by_name: true }
    }

    fn exact<'n>(names: impl IntoIterator<Item = &'n IfName>) -> Self {
        Self { by_name: false, ..Self::named(names) }
    }
}

/// Addresses behind links.
#[derive(Debug)]
pub struct Attached {
    /// Whose addresses these are.
    pub id: SetId,
    /// Those behind each link.
    pub by_link: BTreeMap<IfName, Addresses>,
}

/// What the policies of guests behind a link say of one direction.
#[derive(Debug)]
pub struct Policed<'t> {
    /// Which policies, each with its guests' addresses.
    pub lists: Vec<(&'t str, Addresses)>,
}

/// Of one network.
#[derive(Debug)]
pub struct NetworkSets<'t> {
    /// The network.
    pub network: &'t Network,
    /// Its guests' ports.
    pub ports: Vec<&'t Port>,
    /// Its guests' addresses, link-local ones among them.
    pub sources: Addresses,
    /// The gateway's addresses.
    pub gateway: Addresses,
    /// The prefixes of its public subnets.
    pub public: Addresses,
    /// What it reaches of what isn't the internet.
    pub lan: Addresses,
    /// The bridges of networks that its guests may talk to.
    pub connected: Links,
    /// Where its public subnets go out.
    pub exits: Links,
    /// What its guests' policies say of what they open, and of what is opened
    /// to them.
    pub policed: [Policed<'t>; 2],
}

/// Of a host.
#[derive(Debug)]
pub struct Sets<'t> {
    /// fe80::/10.
    pub link_local: Addresses,
    /// `host.deny`.
    pub denied: Addresses,
    /// `host.dns`.
    pub resolvers: Addresses,
    /// Where clouds serve their metadata, and what goes with it.
    pub metadata: Addresses,
    /// The metadata services themselves.
    pub services: Addresses,
    /// What isn't the public internet.
    pub closed: Addresses,
    /// Every network's prefixes.
    pub prefixes: Addresses,
    /// The networks' bridges.
    pub bridges: Links,
    /// The bridges of networks that the tailnet may reach.
    pub tailscale: Links,
    /// The tailnet's interface.
    pub tailnet: Links,
    /// The links that guests' packets go out by, and such as bear their names.
    pub exit_names: Links,
    /// The links that guests' packets go out by.
    pub exits: Links,
    /// Guests' addresses, by their bridges.
    pub guests: Attached,
    /// The networks, by name.
    pub networks: BTreeMap<&'t Name, NetworkSets<'t>>,
    /// The policies' lists, by id: ingress, and egress.
    pub lists: BTreeMap<&'t str, [Option<Indexed<'t>>; 2]>,
}

/// The addresses of a port, link-local last.
fn addresses(port: &Port) -> impl Iterator<Item = IpAddr> {
    let v6 = port.v6.iter().flat_map(|v6| [v6.address.into(), v6.link_local.into()]);
    std::iter::once(port.address.into()).chain(v6)
}

impl<'t> Sets<'t> {
    pub(super) fn new(topology: &'t Topology, vicinity: &'t Vicinity) -> Self {
        let uplinks = &vicinity.uplinks;
        let exits = topology.exits(uplinks);
        let mut ports: BTreeMap<&Name, Vec<&Port>> = BTreeMap::new();
        for port in topology.ports() {
            ports.entry(&port.network).or_default().push(port);
        }
        let mut connected: BTreeMap<&Name, Vec<&IfName>> = BTreeMap::new();
        for (a, b) in &topology.peerings {
            for (here, there) in [(a, b), (b, a)] {
                connected.entry(here).or_default().extend(topology.network(there).map(|there| &there.bridge));
            }
        }
        let mut networks = BTreeMap::new();
        let mut guests = BTreeMap::new();
        for network in &topology.networks {
            let ports = ports.remove(&network.name).unwrap_or_default();
            let peers = connected.remove(&network.name).unwrap_or_default();
            guests.insert(
                network.bridge.clone(),
                Addresses::hosts(ports.iter().flat_map(|port| addresses(port))),
            );
            networks.insert(&network.name, NetworkSets::new(topology, network, uplinks, &ports, peers));
        }
        let prefixes = topology.networks.iter().flat_map(|network| {
            [Some(IpNet::V4(network.cidr)), network.cidr6.map(IpNet::V6)].into_iter().flatten()
        });
        let lists = topology.policies.iter().map(|policy| {
            let lists = Direction::ALL.map(|direction| policy.rules(direction).map(Indexed::new));
            (policy.id.as_str(), lists)
        });
        let own = topology.networks.iter();
        Self {
            link_local: Addresses::new("fe80::/10".parse::<IpNet>().ok()),
            denied: Addresses::new(topology.deny.iter().copied()),
            resolvers: Addresses::hosts(topology.dns.iter().copied()),
            metadata: Addresses::new(prefix::metadata().iter().copied()),
            services: Addresses::new(prefix::metadata_services().iter().copied()),
            closed: Addresses::new(super::closed(topology, &vicinity.on_link)),
            prefixes: Addresses::new(prefixes),
            bridges: Links::named(own.clone().map(|network| &network.bridge)),
            tailscale: Links::named(own.filter(|network| network.tailscale).map(|network| &network.bridge)),
            tailnet: Links::named(&topology.tailscale),
            exit_names: Links::named(&exits),
            exits: Links::exact(&exits),
            guests: Attached { id: SetId::next(), by_link: guests },
            networks,
            lists: lists.collect(),
        }
    }

    /// What a policy says of a direction.
    pub fn list(&self, policy: &str, direction: Direction) -> Option<&Indexed<'t>> {
        let [ingress, egress] = self.lists.get(policy)?;
        match direction {
            Direction::Ingress => ingress.as_ref(),
            Direction::Egress => egress.as_ref(),
        }
    }
}

impl<'t> NetworkSets<'t> {
    fn new(
        topology: &'t Topology,
        network: &'t Network,
        uplinks: &[IfName],
        ports: &[&'t Port],
        peers: Vec<&IfName>,
    ) -> Self {
        let public = network.subnets.iter().filter(|subnet| subnet.kind == SubnetKind::Public);
        let public = public.flat_map(|subnet| {
            [Some(IpNet::V4(subnet.cidr)), subnet.cidr6.map(IpNet::V6)].into_iter().flatten()
        });
        let gateway = [Some(network.gateway.into()), network.gateway6.map(IpAddr::V6)];
        let policed = Direction::ALL.map(|direction| {
            let mut lists: BTreeMap<&'t str, Vec<IpAddr>> = BTreeMap::new();
            for port in ports {
                let policy: Option<&'t Policy> = topology.policy(port);
                if let Some(policy) = policy.filter(|policy| policy.rules(direction).is_some()) {
                    lists.entry(&policy.id).or_default().extend(addresses(port));
                }
            }
            Policed { lists: lists.into_iter().map(|(id, all)| (id, Addresses::hosts(all))).collect() }
        });
        Self {
            network,
            ports: ports.to_vec(),
            sources: Addresses::hosts(ports.iter().flat_map(|port| addresses(port))),
            gateway: Addresses::hosts(gateway.into_iter().flatten()),
            public: Addresses::new(public),
            lan: Addresses::new(network.lan.iter().copied()),
            connected: Links::named(peers.into_iter().chain([&network.bridge])),
            exits: Links::exact(network.exits(uplinks)),
            policed,
        }
    }

    /// What its guests' policies say of a direction.
    pub fn policed(&self, direction: Direction) -> &Policed<'t> {
        let [ingress, egress] = &self.policed;
        match direction {
            Direction::Ingress => ingress,
            Direction::Egress => egress,
        }
    }
}
