//! The way of a packet through a host: which hooks it passes, with which
//! interfaces (netfilter's packet flow; routing by the longest prefix).

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use hostctl::reach::{Entry, Flow, Vicinity};
use hostctl::topology::{IfName, MacAddr, Topology};
use ipnet::IpNet;

use super::evaluate::{Hook, Trace};
use super::listing::Tables;
use super::packet::Packet;
use super::{Unknown, name};

/// A host as its kernel sees it: links, addresses, routes. No rules.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// A guest's port: its bridge, its guest's MAC and the bridge's.
    ports: HashMap<u128, (u128, u128, u128)>,
    addresses: HashSet<IpAddr>,
    bridges: HashSet<u128>,
    /// Who sends from a bridge: a guest's MAC and the bridge's.
    senders: HashMap<(u128, IpAddr), (u128, u128)>,
    /// A bridge's guests.
    neighbours: HashSet<(u128, IpAddr)>,
    routes: Vec<(IpNet, u128)>,
}

/// What became of a packet.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub passes: bool,
    pub masqueraded: bool,
    /// The hooks that it passed, the last of which dropped it where it
    /// doesn't pass.
    pub hooks: Vec<String>,
    pub trace: Trace,
}

fn id(interface: &IfName) -> u128 {
    name(interface.as_str()).unwrap()
}

fn mac(mac: MacAddr) -> u128 {
    mac.octets().into_iter().fold(0, |sum, octet| sum << 8 | u128::from(octet))
}

impl Host {
    pub fn new(topology: &Topology, vicinity: &Vicinity) -> Self {
        let mut host = Self::default();
        for network in &topology.networks {
            let bridge = id(&network.bridge);
            host.bridges.insert(bridge);
            host.addresses.insert(network.gateway.into());
            host.addresses.extend(network.gateway6.map(IpAddr::from));
            host.routes.push((network.cidr.into(), bridge));
            host.routes.extend(network.cidr6.map(|net| (net.into(), bridge)));
        }
        for port in topology.ports() {
            let bridge = topology.network(&port.network).unwrap();
            let macs = (id(&port.bridge), mac(port.mac), mac(bridge.mac));
            host.ports.insert(id(&port.interface), macs);
            let v6 = port.v6.as_ref().map(|v6| IpAddr::from(v6.address));
            let own = port.v6.iter().flat_map(|v6| [v6.address, v6.link_local]).map(IpAddr::from);
            let own = own.chain([port.address.into()]);
            host.senders.extend(own.map(|address| ((macs.0, address), (macs.1, macs.2))));
            let addresses = v6.into_iter().chain([port.address.into()]);
            host.neighbours.extend(addresses.map(|address| (id(&port.bridge), address)));
        }
        host.addresses.extend(vicinity.addresses.iter().map(|(_, address)| *address));
        host.routes.extend(vicinity.routes.iter().map(|(net, interface)| (*net, id(interface))));
        host.routes.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        host
    }

    fn route(&self, to: IpAddr) -> Option<u128> {
        self.routes.iter().find(|(net, _)| net.contains(&to)).map(|(_, interface)| *interface)
    }

    /// Lets a flow's first packet pass `tables`.
    ///
    /// # Errors
    /// Where the tables ask what the interpreter doesn't know.
    pub fn pass(&self, tables: &Tables, flow: &Flow) -> Result<Seen, Unknown> {
        let mut way = Way { tables, seen: Seen::default(), packet: first_packet(flow) };
        way.seen.passes = match &flow.entry {
            Entry::Guest(port) => self.port_sends(&mut way, id(port))?,
            Entry::Host => self.host_sends(&mut way)?,
            Entry::Interface(interface) => {
                // What comes from a bridge has its guest's MAC still.
                way.packet.ether = self.senders.get(&(id(interface), flow.source)).copied();
                self.routed(&mut way, id(interface))?
            }
        };
        way.seen.masqueraded &= way.seen.passes;
        Ok(way.seen)
    }

    /// A frame to the bridge's own MAC: it is taken off the bridge, where its
    /// frame's hooks judge it, and then routed.
    fn port_sends(&self, way: &mut Way<'_>, port: u128) -> Result<bool, Unknown> {
        let unknown = || Unknown("a flow from a port that isn't there".into());
        let (bridge, guest, gateway) = *self.ports.get(&port).ok_or_else(unknown)?;
        way.packet.ether = Some((guest, gateway));
        way.packet.iif = Some(port);
        if !(way.hook("bridge", "prerouting")? && way.hook("bridge", "input")?) {
            return Ok(false);
        }
        self.routed(way, bridge)
    }

    fn routed(&self, way: &mut Way<'_>, iif: u128) -> Result<bool, Unknown> {
        way.packet.iif = Some(iif);
        if !way.hook("inet", "prerouting")? {
            return Ok(false);
        }
        if self.addresses.contains(&way.packet.destination) {
            return way.hook("inet", "input");
        }
        let Some(oif) = self.route(way.packet.destination) else { return way.stop("no route") };
        // ip6_forward() in net/ipv6/ip6_output.c.
        let local = matches!(way.packet.source, IpAddr::V6(source) if source.is_unicast_link_local());
        if local && oif != iif {
            return way.stop("the kernel forwards nothing from a link-local address");
        }
        way.packet.oif = Some(oif);
        Ok(way.hook("inet", "forward")? && way.hook("inet", "postrouting")?)
    }

    fn host_sends(&self, way: &mut Way<'_>) -> Result<bool, Unknown> {
        let local = self.addresses.contains(&way.packet.destination);
        let oif = if local { name("lo") } else { self.route(way.packet.destination) };
        let Some(oif) = oif else { return way.stop("no route") };
        way.packet.oif = Some(oif);
        if !(way.hook("inet", "output")? && way.hook("inet", "postrouting")?) {
            return Ok(false);
        }
        if !local {
            // The rules let the host look for whom it likes.
            return Ok(
                !self.bridges.contains(&oif) || self.neighbours.contains(&(oif, way.packet.destination))
            );
        }
        way.packet = Packet { iif: Some(oif), oif: None, ..way.packet };
        Ok(way.hook("inet", "prerouting")? && way.hook("inet", "input")?)
    }
}

struct Way<'t> {
    tables: &'t Tables,
    seen: Seen,
    packet: Packet,
}

impl Way<'_> {
    fn hook(&mut self, family: &'static str, hook: &'static str) -> Result<bool, Unknown> {
        self.seen.hooks.push(format!("{family} {hook}"));
        let (passes, masqueraded) =
            self.tables.pass(Hook { family, hook }, &self.packet, &mut self.seen.trace)?;
        self.seen.masqueraded |= masqueraded;
        Ok(passes)
    }

    fn stop(&mut self, why: &str) -> Result<bool, Unknown> {
        self.seen.hooks.push(why.into());
        Ok(false)
    }
}

fn first_packet(flow: &Flow) -> Packet {
    Packet {
        iif: None,
        oif: None,
        ether: None,
        source: flow.source,
        destination: flow.destination,
        protocol: flow.protocol,
        source_port: 40_000,
        port: flow.port,
        tracked: false,
    }
}
