//! Flows of which the addresses are known, and not where they came in or go
//! out: as the kernel tracks them. Each is judged as it was opened.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::packet::prefix::TAILNET;
use crate::packet::{Family, Range, is_link_local6, port};
use crate::topology::{IfName, Port, Topology};

use super::one_flow::OneFlow;
use super::route::Route;
use super::sets::Sets;
use super::subject::{Condition, Delivery, Field, Judges, Subject};
use super::{Entry, Flow, Model, Verdict, Vicinity};

/// A flow by who opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackedFlow {
    /// Who did.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// The protocol's number (IANA).
    pub protocol: u8,
    /// The destination's port; 0 where the protocol has none.
    pub port: u16,
}

/// A model that is asked about many of them.
#[derive(Debug)]
pub struct Reopening<'m, 't> {
    model: &'m Model<'t>,
    /// Guests by their link-local addresses.
    link_local: HashMap<IpAddr, &'t Port>,
    /// Where guests' packets may go out. By addresses alone it isn't known which
    /// way one went: it goes on where one of these allows it.
    exits: Vec<IfName>,
}

impl Vicinity {
    /// What is known without routes of a host with these addresses, whose uplinks
    /// have the prefixes `on_link`.
    pub fn by_addresses(topology: &Topology, host: &BTreeSet<IpAddr>, on_link: &[IpNet]) -> Self {
        let assumed = Self::assumed(topology);
        let gateways: BTreeSet<IpAddr> = topology
            .networks
            .iter()
            .flat_map(|network| [Some(network.gateway.into()), network.gateway6.map(IpAddr::from)])
            .flatten()
            .collect();
        let uplink = topology.exits(&assumed.uplinks).into_iter().next();
        let link = uplink.clone().or_else(|| IfName::new("lo").ok());
        let others = host.difference(&gateways);
        let addresses = others.filter_map(|address| Some((link.clone()?, *address))).collect();
        // An uplink's own prefix may lie in what else is the tailnet's.
        let near = on_link.iter().filter_map(|net| Some((*net, uplink.clone()?)));
        let routes = assumed.routes.iter().cloned().chain(near).collect();
        Self { addresses, routes, on_link: on_link.to_vec(), ..assumed }
    }
}

impl<'m, 't> Reopening<'m, 't> {
    /// Of a model, of which the vicinity is [`Vicinity::by_addresses`].
    pub fn new(model: &'m Model<'t>) -> Self {
        let link_local = model.topology().ports().filter_map(|port| {
            let v6 = port.v6.as_ref()?;
            Some((IpAddr::V6(v6.link_local), port))
        });
        let exits = model.sets.exits.names.iter().cloned().collect();
        Self { model, link_local: link_local.collect(), exits }
    }

    /// Whether a flow's first packet would be dropped.
    pub fn drops(&self, flow: &TrackedFlow) -> bool {
        let model = self.model;
        let TrackedFlow { source, destination, protocol, port } = *flow;
        let flow = |entry, destination| Flow { entry, source, destination, protocol, port };
        if let Some(guest) = model.guest_at(source).or_else(|| self.link_local.get(&source).copied()) {
            return self.guests_drops(&flow(Entry::Guest(guest.interface.clone()), destination), guest);
        }
        let own = model.is_own(source);
        if !own && model.network_of(source).is_some() {
            // Nobody's, of a network.
            return true;
        }
        let (own, destination) = match self.link_local.get(&destination) {
            // Who meets a guest at such an address is the host, on its bridge.
            Some(guest) if own || is_link_local6(source) => {
                (true, guest.v6.as_ref().map_or(destination, |v6| v6.address.into()))
            }
            Some(_) => return true,
            // Nobody routes to another: it is the host's.
            None if !own && is_link_local6(destination) => (false, Ipv6Addr::LOCALHOST.into()),
            None => (own, destination),
        };
        let verdict = if own {
            let flow = flow(Entry::Host, destination);
            model.decide(&mut FirstPacket::new(model, &flow, None), None).verdict
        } else if is_to_many(destination) {
            // Nobody answers it, so each of its packets is judged.
            Verdict::Untouched
        } else if let Some(link) = self.link(source, destination) {
            let flow = flow(Entry::Interface(link.clone()), destination);
            model.decide(&mut FirstPacket::new(model, &flow, None), Some(link.as_str())).verdict
        } else {
            Verdict::Untouched
        };
        verdict == Verdict::Dropped
    }

    fn guests_drops(&self, flow: &Flow, guest: &Port) -> bool {
        let model = self.model;
        let dropped = |exit: Option<&IfName>| {
            let subject = &mut FirstPacket::new(model, flow, exit);
            model.refused_at(subject, guest).is_some()
                || model.decide(subject, Some(guest.bridge.as_str())).verdict == Verdict::Dropped
        };
        match model.route(flow.destination) {
            // Which of them it went by isn't known.
            Route::Link(link) if self.exits.contains(link) => {
                self.exits.iter().all(|exit| dropped(Some(exit)))
            }
            _ => dropped(None),
        }
    }

    /// Where packets from elsewhere come in. To a guest only the tailnet opens
    /// flows, and by a subnet router from any address; the host itself trusts
    /// none but the tailnet's own.
    fn link(&self, source: IpAddr, destination: IpAddr) -> Option<&IfName> {
        let tailnet = TAILNET.iter().any(|net| net.contains(&source));
        let to_guest = self.model.network_of(destination).is_some() && !self.model.is_own(destination);
        let by = self.model.topology().tailscale.as_ref().filter(|_| tailnet || to_guest);
        by.or_else(|| self.exits.first())
    }
}

/// Whether an address is a group's, or everybody's.
fn is_to_many(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// A flow's first packet; one to a DHCP client is a server's.
struct FirstPacket<'m, 't> {
    flow: OneFlow<'m, 't>,
    from: Option<u128>,
}

impl<'m, 't> FirstPacket<'m, 't> {
    fn new(model: &'m Model<'t>, flow: &'m Flow, exit: Option<&'m IfName>) -> Self {
        let from = match flow.port {
            port::DHCP_CLIENT => Some(port::DHCP_SERVER.into()),
            port::DHCPV6_CLIENT => Some(port::DHCPV6_SERVER.into()),
            _ => None,
        };
        Self { flow: OneFlow::new(model, flow, exit), from }
    }
}

impl<'t> Subject<'t> for FirstPacket<'_, 't> {
    fn family(&self) -> Family {
        self.flow.family()
    }

    fn delivery(&self) -> Delivery {
        self.flow.delivery()
    }

    fn has(&mut self, conditions: &[Condition<'_>]) -> bool {
        let among = |values: &[Range], from: u128| {
            values.iter().any(|(first, last)| (*first..=*last).contains(&from))
        };
        conditions.iter().all(|condition| match condition {
            Condition::Is(Field::SourcePort, values) => self.from.is_some_and(|from| among(values, from)),
            other => self.flow.has(&[*other]),
        })
    }

    fn denied(&mut self, sets: &Sets<'t>, judges: Judges<'_, 't>) -> bool {
        self.flow.denied(sets, judges)
    }
}
