//! Packets between guests, the world and the host: those that the model lets
//! pass.

use ipnet::{IpNet, Ipv6Net};

use crate::packet::protocol::ICMPV6;
use crate::packet::{Family, Range, number, prefix, range};
use crate::reach::sets::NetworkSets;
use crate::reach::subject::{Delivery, Field, Kind, state};

use super::super::diagram::Diagram;
use super::traffic::{Collect, Flows, NOWHERE, Traffic, Way};

/// Packets by their ways.
#[derive(Default)]
pub struct Packets {
    /// Through the host, in the sender's own name: first packets, and answers.
    pub plain: (Flows, Flows),
    /// Out, in the host's name.
    pub out: Flows,
    /// Answers to these.
    pub back: Flows,
    /// To the host.
    pub inward: Flows,
    /// From it.
    pub outward: Flows,
}

/// Traffic of a network's guests.
fn of(network: &NetworkSets<'_>, before: String, behind: &str) -> Traffic {
    Traffic {
        who: format!("{before} {}{behind}", network.network.name),
        ours: network.network.bridge.as_str().into(),
        outbound: true,
        reply: false,
        keeps_source: true,
    }
}

/// The addresses by 6to4 of those who have these (RFC 3056): as public as they
/// are.
fn from_6to4(net: &IpNet) -> Option<IpNet> {
    let IpNet::V4(net) = net else { return None };
    let address = (0x2002 << 112) | (u128::from(u32::from(net.addr())) << 80);
    Ipv6Net::new(address.into(), 16 + net.prefix_len()).ok().map(IpNet::V6)
}

impl<'t> Collect<'_, 't> {
    /// The ways of packets through the host, to it and from it.
    pub fn packets(&mut self) -> Vec<Way> {
        let mut all = Packets::default();
        let model = self.model;
        let unasked = self.unasked();
        let (exits, tailnet) = (&model.sets().exits.names, &model.sets().tailnet.names);
        let bridges = self.links(model.sets().bridges.names.iter().map(|bridge| bridge.as_str()));
        let to_bridges = self.is(Field::Out, &bridges);
        let to_bridges = self.diagrams.minus(to_bridges, unasked);
        let near = self.is(Field::Destination, model.sets().link_local.ranges(self.family()));
        let to_bridges = self.diagrams.minus(to_bridges, near);
        let from_host = self.passed(None, Delivery::Out, state::NEW, to_bridges);
        let mut from_elsewhere = Vec::new();
        for link in exits.iter().chain(tailnet) {
            let space = if tailnet.contains(link) {
                let theirs = prefix::TAILNET.iter().filter(|net| Family::of(net.addr()) == self.family());
                let theirs: Vec<Range> = theirs.map(range).collect();
                let theirs = self.is(Field::Source, &theirs);
                self.diagrams.and(theirs, to_bridges)
            } else {
                to_bridges
            };
            from_elsewhere.push((link, self.passed(Some(link.as_str()), Delivery::Out, state::NEW, space)));
        }
        let public = self.public();
        for network in model.sets().networks.values() {
            let sends = self.sent(network, unasked);
            self.out_of_the_host(network, sends, public, &mut all);
            self.among_guests(network, sends, &mut all);
            let bridge = self.link(network.network.bridge.as_str()).0;
            for (link, passed) in &from_elsewhere {
                let from = if tailnet.contains(*link) { "the tailnet" } else { link.as_str() };
                let traffic = Traffic {
                    outbound: false,
                    keeps_source: false,
                    ..of(network, format!("{from} to guests of"), "")
                };
                let passed = self.header.given(self.diagrams, *passed, Field::Out, bridge);
                let (there, back) = (&mut all.plain.0, &mut all.plain.1);
                self.both([there, back], traffic, passed, (self.link(link.as_str()).0, bridge));
            }
            self.with_the_host(network, from_host, unasked, &mut all);
        }
        self.ways(all)
    }

    /// What isn't asked as a flow's first packet: neighbour discovery and what
    /// goes with it, which is never tracked.
    fn unasked(&mut self) -> Diagram {
        if self.header.kind != Kind::Ipv6 {
            return Diagram::NEVER;
        }
        let icmp = self.one(Field::Protocol, ICMPV6.into());
        let types = self.is(Field::MessageType, &[(130, 137), (143, 143)]);
        self.diagrams.and(icmp, types)
    }

    /// What guests of a network may send to others, by link.
    fn sent(&mut self, network: &NetworkSets<'t>, unasked: Diagram) -> Diagram {
        let there = self.is(Field::Out, &[(0, self.links.last())]);
        let there = self.diagrams.minus(there, unasked);
        // What is the host's own goes no further.
        let family = self.family();
        let own = self.own.values().flatten().filter(|own| Family::of(**own) == family);
        let own: Vec<Range> = own.map(|own| (number(*own), number(*own))).collect();
        let own = self.is(Field::Destination, &own);
        let there = self.diagrams.minus(there, own);
        let guests = self.routed_guests(network);
        let space = self.diagrams.and(guests, there);
        self.passed(Some(network.network.bridge.as_str()), Delivery::Out, state::NEW, space)
    }

    /// What is from guests' addresses that are routed.
    fn routed_guests(&mut self, network: &NetworkSets<'t>) -> Diagram {
        let guests = self.guests(network);
        let near = self.is(Field::Source, self.model.sets().link_local.ranges(self.family()));
        self.diagrams.minus(guests, near)
    }

    fn out_of_the_host(
        &mut self,
        network: &NetworkSets<'t>,
        sends: Diagram,
        public: Diagram,
        all: &mut Packets,
    ) {
        let bridge = self.link(network.network.bridge.as_str()).0;
        let near = self.near(network);
        let near = self.diagrams.minus(near, public);
        for (to, receivers) in [("the internet", public), ("what isn't the internet", near)] {
            // Metadata leaves by links that a network else doesn't use.
            for exit in &self.model.sets().exits.names {
                let exit = self.link(exit.as_str()).0;
                let leaves = self.header.given(self.diagrams, sends, Field::Out, exit);
                let leaves = self.diagrams.and(leaves, receivers);
                let traffic =
                    Traffic { keeps_source: false, ..of(network, "guests of".into(), &format!(" to {to}")) };
                self.both([&mut all.out, &mut all.back], traffic, leaves, (bridge, exit));
            }
        }
    }

    fn among_guests(&mut self, network: &NetworkSets<'t>, sends: Diagram, all: &mut Packets) {
        let bridge = self.link(network.network.bridge.as_str()).0;
        for to in &network.connected.names {
            let Some(other) = self.model.network_of_bridge(to.as_str()) else { continue };
            let to = self.link(to.as_str()).0;
            let mut there = self.header.given(self.diagrams, sends, Field::Out, to);
            let same = other.network.name == network.network.name;
            if same {
                let itself = self.sent_to_itself(network);
                there = self.diagrams.minus(there, itself);
            }
            let whom = if same { " among themselves".into() } else { format!(" to {}", other.network.name) };
            let traffic = of(network, "guests of".into(), &whom);
            let (first, back) = (&mut all.plain.0, &mut all.plain.1);
            self.both([first, back], traffic, there, (bridge, to));
        }
    }

    /// Pings of the gateway, neighbour discovery, and what the host opens.
    fn with_the_host(
        &mut self,
        network: &NetworkSets<'t>,
        from_host: Diagram,
        unasked: Diagram,
        all: &mut Packets,
    ) {
        let name = network.network.bridge.as_str();
        let bridge = self.link(name).0;
        let guests = self.routed_guests(network);
        let asked = self.diagrams.minus(guests, unasked);
        let asked = self.passed(Some(name), Delivery::Host, state::NEW, asked);
        let traffic = of(network, "guests of".into(), " to their gateway");
        self.both([&mut all.inward, &mut all.outward], traffic, asked, (bridge, NOWHERE));
        let found = self.discovery(network);
        self.add(&mut all.inward, of(network, "neighbour discovery of guests of".into(), ""), found);
        let gateway = self.is(Field::Source, network.gateway.ranges(self.family()));
        let opened = self.header.given(self.diagrams, from_host, Field::Out, bridge);
        let opened = self.diagrams.and(opened, gateway);
        let traffic = Traffic { outbound: false, ..of(network, "the host to guests of".into(), "") };
        self.both([&mut all.outward, &mut all.inward], traffic, opened, (NOWHERE, bridge));
    }

    /// What is on the public internet.
    fn public(&mut self) -> Diagram {
        let family = self.family();
        let special = prefix::private().iter().chain(prefix::metadata());
        let special: Vec<Range> = special
            .flat_map(|net| [Some(*net), from_6to4(net)])
            .flatten()
            .filter(|net| Family::of(net.addr()) == family)
            .map(|net| range(&net))
            .collect();
        let special = self.is(Field::Destination, &special);
        // What IANA gives out (RFC 4291, 2.4).
        let global: Range = family.pick([(0, u128::from(u32::MAX)), (0x2 << 124, (0x4 << 124) - 1)]);
        let global = self.is(Field::Destination, &[global]);
        self.diagrams.minus(global, special)
    }

    /// What a network names of what isn't.
    fn near(&mut self, network: &NetworkSets<'t>) -> Diagram {
        let (family, sets) = (self.family(), self.model.sets());
        let near = [&network.lan, &sets.resolvers, &sets.services];
        let near: Vec<Range> = near.iter().flat_map(|addresses| addresses.ranges(family)).copied().collect();
        self.is(Field::Destination, &near)
    }

    /// Neighbour discovery to the host, which isn't tracked, but that of who has
    /// no address yet.
    fn discovery(&mut self, network: &NetworkSets<'t>) -> Diagram {
        if self.header.kind != Kind::Ipv6 {
            return Diagram::NEVER;
        }
        let bridge = network.network.bridge.as_str();
        let guests = self.guests(network);
        let icmp = self.one(Field::Protocol, ICMPV6.into());
        let types = self.is(Field::MessageType, &[(135, 136)]);
        let hops = self.one(Field::HopLimit, 255);
        let space = self.all(&[guests, icmp, types, hops]);
        let passed = self.passed(Some(bridge), Delivery::Host, state::UNTRACKED, space);
        let (comes, goes) = (self.one(Field::In, self.link(bridge).0), self.one(Field::Out, NOWHERE));
        let untracked = self.tracked(state::UNTRACKED, false);
        self.all(&[passed, comes, goes, untracked])
    }
}
