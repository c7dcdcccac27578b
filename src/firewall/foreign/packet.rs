//! The kinds of packets that guests live on, and the hooks that they pass.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::packet::prefix::{TAILNET4, TAILNET6};
use crate::topology::{IfName, Network, SubnetKind, Topology};

/// An address that is known only so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// Some address of this prefix.
    Within(IpNet),
    /// Some public address.
    Internet,
    /// Any.
    Any,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    /// A segment to or from any port.
    Tcp,
    /// An echo request.
    Ping,
    /// Anything, as a frame does.
    Any,
}

/// A packet, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    /// Whether it is IPv6's.
    pub v6: bool,
    /// The interface that it came in by.
    pub iif: Option<&'a str>,
    /// The interface that it goes out by, once that is known.
    pub oif: Option<&'a str>,
    /// Whether the host itself is its destination.
    pub local: bool,
    /// Its sender.
    pub from: Span,
    /// Its receiver.
    pub to: Span,
    /// Its receiver before an answer's address is translated back.
    pub arrives_for: Span,
    /// What it carries.
    pub carries: Carries,
    /// Whether it answers, or begins a flow.
    pub reply: bool,
    /// The mark that other programs gave it, where that is known.
    pub mark: Option<u64>,
}

/// One packet of a flow, and the hooks that it passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Journey<'a> {
    /// Who speaks to whom, for people.
    pub who: String,
    /// Whether this is bridge's or netdev's: a frame, at its port.
    pub frame: bool,
    /// The packet.
    pub packet: Packet<'a>,
    /// The hooks, in order.
    pub hooks: &'static [&'static str],
    /// Whether another source than the sender's own misleads somebody.
    pub keeps_source: bool,
    /// The bridge or port of hostctl's that it comes from or goes to.
    pub ours: &'a str,
    /// Whether it comes from there.
    pub outbound: bool,
}

const THROUGH: &[&str] = &["prerouting", "forward", "postrouting"];
const INWARD: &[&str] = &["prerouting", "input"];
const OUTWARD: &[&str] = &["output", "postrouting"];
/// Ports are isolated: no frame goes from one to another.
const FRAME_IN: &[&str] = &["ingress", "prerouting", "input"];
const FRAME_OUT: &[&str] = &["output", "postrouting", "egress"];

/// Where guests leave the host.
#[derive(Debug, Clone, Copy)]
pub struct Exits<'a> {
    /// The uplinks.
    pub uplinks: &'a [IfName],
    /// The host's own addresses, by interface.
    pub own: &'a BTreeMap<String, BTreeSet<IpNet>>,
}

/// The packets of `topology`, on a host with these exits; `frames` too, where
/// somebody looks at those.
pub(super) fn journeys<'a>(topology: &'a Topology, exits: Exits<'a>, frames: bool) -> Vec<Journey<'a>> {
    let mut found = Vec::new();
    for network in &topology.networks {
        for v6 in [false, true] {
            let Some((net, gateway)) = addressing(network, v6) else { continue };
            of_network(topology, network, exits, v6, (net, gateway), &mut found);
        }
    }
    for (a, b) in &topology.peerings {
        for (a, b) in [(a, b), (b, a)] {
            let (Some(a), Some(b)) = (topology.network(a), topology.network(b)) else { continue };
            for v6 in [false, true] {
                let (Some((from, _)), Some((to, _))) = (addressing(a, v6), addressing(b, v6)) else {
                    continue;
                };
                let there = packet(
                    v6,
                    Some(a.bridge.as_str()),
                    Some(b.bridge.as_str()),
                    Span::Within(from),
                    Span::Within(to),
                );
                found.extend(both(format!("guests of {} to {}", a.name, b.name), there, true));
            }
        }
    }
    if frames {
        for port in topology.ports() {
            let name = port.interface.as_str();
            for v6 in [false, true] {
                let (from, to) = (
                    packet(v6, Some(name), None, Span::Any, Span::Any),
                    packet(v6, None, Some(name), Span::Any, Span::Any),
                );
                let journey = |who: String, packet: Packet<'a>, hooks, outbound| Journey {
                    who,
                    frame: true,
                    packet: Packet { carries: Carries::Any, ..packet },
                    hooks,
                    keeps_source: true,
                    ours: name,
                    outbound,
                };
                found.push(journey(format!("frames from {name}"), from, FRAME_IN, true));
                found.push(journey(format!("frames to {name}"), to, FRAME_OUT, false));
            }
        }
    }
    found
}

fn addressing(network: &Network, v6: bool) -> Option<(IpNet, IpAddr)> {
    if v6 {
        Some((network.cidr6?.into(), network.gateway6?.into()))
    } else {
        Some((network.cidr.into(), network.gateway.into()))
    }
}

fn packet<'a>(v6: bool, iif: Option<&'a str>, oif: Option<&'a str>, from: Span, to: Span) -> Packet<'a> {
    Packet {
        v6,
        iif,
        oif,
        local: false,
        from,
        to,
        arrives_for: to,
        carries: Carries::Tcp,
        reply: false,
        mark: Some(0),
    }
}

/// A flow's first packet, and its answer.
fn both<'a>(who: String, there: Packet<'a>, keeps_source: bool) -> [Journey<'a>; 2] {
    let back = Packet {
        iif: there.oif,
        oif: there.iif,
        from: there.to,
        to: there.from,
        arrives_for: there.from,
        reply: true,
        ..there
    };
    let ours = |packet: &Packet<'a>, outbound: bool| {
        if outbound { packet.iif } else { packet.oif }.unwrap_or_default()
    };
    [
        Journey {
            who: who.clone(),
            frame: false,
            packet: there,
            hooks: THROUGH,
            keeps_source,
            ours: ours(&there, true),
            outbound: true,
        },
        Journey {
            who: format!("answers to {who}"),
            frame: false,
            packet: back,
            hooks: THROUGH,
            keeps_source,
            ours: ours(&back, false),
            outbound: false,
        },
    ]
}

fn of_network<'a>(
    topology: &'a Topology,
    network: &'a Network,
    Exits { uplinks, own }: Exits<'a>,
    v6: bool,
    (net, gateway): (IpNet, IpAddr),
    found: &mut Vec<Journey<'a>>,
) {
    let (name, bridge) = (&network.name, network.bridge.as_str());
    let guests = Span::Within(net);
    let public = network
        .subnets
        .iter()
        .filter(|subnet| subnet.kind == SubnetKind::Public)
        .filter_map(|subnet| if v6 { subnet.cidr6.map(IpNet::V6) } else { Some(subnet.cidr.into()) });
    for subnet in public {
        for exit in network.exits(uplinks) {
            let there = packet(v6, Some(bridge), Some(exit.as_str()), Span::Within(subnet), Span::Internet);
            let [there, back] = both(format!("guests of {name} to the internet"), there, false);
            found.push(there);
            // Addressed to the host, which masqueraded the flow.
            let own = own.get(exit.as_str()).into_iter().flatten();
            let mut own: Vec<Span> = own
                .filter(|address| matches!(address, IpNet::V6(_)) == v6)
                .map(|address| Span::Within(address.addr().into()))
                .collect();
            if own.is_empty() {
                own.push(Span::Any);
            }
            found.extend(own.into_iter().map(|arrives_for| Journey {
                packet: Packet { arrives_for, ..back.packet },
                ..back.clone()
            }));
        }
    }
    // Guests of one network meet on the host.
    let same = packet(v6, Some(bridge), Some(bridge), guests, guests);
    found.extend(both(format!("guests of {name} among themselves"), same, true));
    let gateway = Span::Within(IpNet::from(gateway));
    let ping =
        Packet { local: true, carries: Carries::Ping, ..packet(v6, Some(bridge), None, guests, gateway) };
    let journey = |who: String, packet: Packet<'a>, hooks, outbound| Journey {
        who,
        frame: false,
        packet,
        hooks,
        keeps_source: true,
        ours: bridge,
        outbound,
    };
    found.push(journey(format!("guests of {name} to their gateway"), ping, INWARD, true));
    let host = packet(v6, None, Some(bridge), gateway, guests);
    found.push(journey(format!("the host to guests of {name}"), host, OUTWARD, false));
    let answer = Packet { local: true, reply: true, ..packet(v6, Some(bridge), None, guests, gateway) };
    found.push(journey(format!("answers of guests of {name} to the host"), answer, INWARD, true));
    if let (true, Some(tailnet)) = (network.tailscale, &topology.tailscale) {
        let from = Span::Within(if v6 { TAILNET6.into() } else { TAILNET4.into() });
        let there = packet(v6, Some(tailnet.as_str()), Some(bridge), from, guests);
        let [mut there, mut back] = both(format!("the tailnet to guests of {name}"), there, false);
        (there.ours, there.outbound) = (bridge, false);
        (back.ours, back.outbound) = (bridge, true);
        found.extend([there, back]);
    }
}
