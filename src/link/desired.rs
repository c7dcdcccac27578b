//! Topology → the links, addresses and kernel settings that it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::apart::{self, Part};
use crate::guard::Tag;
use crate::ownership::{namespace_alias, network_alias, vm_alias};
use crate::topology::{self, IfName, MacAddr, NamespaceRoute, Network, Offload, Topology};

/// A bridge's `group_fwd_mask` that has it treat LLDP's group,
/// 01:80:c2:00:00:0e, as any other.
pub(super) const LLDP_MASK: u16 = 1 << 0x0e;

/// What the kernel should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// One a network.
    pub bridges: Vec<Bridge>,
    /// One a guest.
    pub ports: Vec<Port>,
    /// The subnets' network namespaces.
    pub namespaces: Vec<Namespace>,
    /// Settings of the host's own: what has to be on for packets to be routed.
    pub forwarding: Vec<Sysctl>,
    /// Room for tracked flows, where the spec asks for it.
    pub flow_room: Option<Sysctl>,
    /// The prefixes that must not be another interface's.
    pub prefixes: Vec<IpNet>,
    /// What keeps networks apart where the firewall is gone.
    pub apart: BTreeSet<Part>,
    /// What this kernel knows the guard by, where it takes it.
    pub guard: Option<Tag>,
}

/// A network's bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: IfName,
    /// Its full name, where `name` is shortened.
    pub altname: Option<String>,
    /// What it is for, as `ip link` shows it.
    pub alias: String,
    /// Its MAC.
    pub mac: MacAddr,
    /// The gateway's addresses, with the network's prefix length.
    pub addresses: Vec<IpNet>,
}

/// A guest's port of its network's bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// What kind of link it is.
    pub kind: PortKind,
    /// Its name.
    pub name: IfName,
    /// Its full name, where `name` is shortened.
    pub altname: Option<String>,
    /// What it is for, as `ip link` shows it.
    pub alias: String,
    /// The bridge that it is a port of.
    pub bridge: IfName,
    /// Its own MAC, the bridge's: the host takes no frame for a port that it
    /// wouldn't take for the bridge. None where there is no such bridge.
    pub mac: Option<MacAddr>,
    /// The guest's MAC, the only one that frames are sent to.
    pub guest: MacAddr,
    /// Every address of the guest's, its link-local one included.
    pub addresses: Vec<IpAddr>,
    /// The guest's IPv6 address, which the bridge answers for to other guests.
    pub guest6: Option<Ipv6Addr>,
    /// Whether its frames may carry a virtio header.
    pub offload: Offload,
}

/// The kind of a [`Port`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortKind {
    /// A VM's TAP.
    Tap,
    /// The host's end of a veth pair into a namespace.
    Veth {
        /// The namespace.
        namespace: String,
    },
}

impl PortKind {
    /// What the kernel calls such a link.
    pub const fn link_kind(&self) -> &'static str {
        match self {
            Self::Tap => "tun",
            Self::Veth { .. } => "veth",
        }
    }
}

/// A subnet's network namespace, from inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name, as `ip netns` knows it.
    pub name: String,
    /// What marks it as hostctl's: the alias of its loopback.
    pub alias: String,
    /// The addresses of its `eth0`.
    pub addresses: Vec<IpNet>,
    /// Its routes.
    pub routes: Vec<NamespaceRoute>,
}

/// The interface of a namespace.
pub const INSIDE: &str = "eth0";

fn inside(namespace: &topology::Namespace) -> Namespace {
    let port = &namespace.port;
    let v4 = IpNet::new(IpAddr::V4(port.address), port.prefix).ok();
    let v6 = port.v6.as_ref().and_then(|v6| IpNet::new(IpAddr::V6(v6.address), v6.prefix).ok());
    let default4 = NamespaceRoute::new(Ipv4Net::default(), port.gateway);
    let default6 = port.v6.as_ref().map(|v6| NamespaceRoute::new(Ipv6Net::default(), v6.gateway));
    Namespace {
        alias: namespace_alias(namespace.name.as_str()),
        name: namespace.name.to_string(),
        addresses: v4.into_iter().chain(v6).collect(),
        routes: [default4].into_iter().chain(default6).chain(namespace.routes.iter().copied()).collect(),
    }
}

/// A kernel setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// Its path under `/proc/sys`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The only value that it replaces; any, where there is none.
    pub replaces: Option<String>,
    /// Whether a number that is larger is as good.
    pub at_least: bool,
}

impl Sysctl {
    /// A setting that replaces any other value.
    pub fn new(key: impl Into<String>, value: &str) -> Self {
        Self { key: key.into(), value: value.into(), replaces: None, at_least: false }
    }

    /// A number that replaces smaller ones.
    pub fn at_least(key: impl Into<String>, value: u32) -> Self {
        Self { at_least: true, ..Self::new(key, &value.to_string()) }
    }

    /// A setting that replaces one value and leaves others alone.
    pub fn replacing(key: impl Into<String>, from: &str, value: &str) -> Self {
        Self { replaces: Some(from.into()), ..Self::new(key, value) }
    }
}

impl Desired {
    /// What `topology` asks for on a host with these uplinks.
    pub fn new(topology: &Topology, uplinks: &[IfName]) -> Self {
        let macs: BTreeMap<&str, MacAddr> =
            topology.networks.iter().map(|network| (network.bridge.as_str(), network.mac)).collect();
        let port = |alias, kind, found: &topology::Port| {
            port(alias, kind, found, macs.get(found.bridge.as_str()).copied())
        };
        Self {
            bridges: topology.networks.iter().map(bridge).collect(),
            ports: topology
                .vms
                .iter()
                .map(|vm| {
                    let port = port(vm_alias(vm.name.as_str()), PortKind::Tap, &vm.port);
                    Port { offload: vm.offload, ..port }
                })
                .chain(topology.namespaces.iter().map(|namespace| {
                    let kind = PortKind::Veth { namespace: namespace.name.to_string() };
                    port(namespace_alias(namespace.name.as_str()), kind, &namespace.port)
                }))
                .collect(),
            namespaces: topology.namespaces.iter().map(inside).collect(),
            forwarding: forwarding(topology, uplinks),
            flow_room: topology.conntrack_max.map(|room| Sysctl::at_least(CONNTRACK_MAX_KEY, room)),
            prefixes: topology
                .networks
                .iter()
                .flat_map(|network| [Some(IpNet::V4(network.cidr)), network.cidr6.map(IpNet::V6)])
                .flatten()
                .collect(),
            apart: apart::wanted(topology, uplinks),
            guard: None,
        }
    }
}

impl Desired {
    /// What a part of a host asks for, without what is nobody's alone.
    pub fn of_part(part: &Topology) -> Self {
        Self {
            forwarding: Vec::new(),
            flow_room: None,
            apart: apart::of_networks(part),
            ..Self::new(part, &[])
        }
    }

    /// Leaves the uplinks' `accept_ra` alone: on a host that forwarded IPv6
    /// before, 1 means that its operator wants no router advertisements.
    pub fn keep_accept_ra(&mut self) {
        self.forwarding.retain(|sysctl| !sysctl.key.ends_with("/accept_ra"));
    }
}

fn bridge(network: &Network) -> Bridge {
    let v4 = IpNet::new(IpAddr::V4(network.gateway), network.cidr.prefix_len()).ok();
    let v6 = network.gateway6.zip(network.cidr6);
    let v6 = v6.and_then(|(gateway, net)| IpNet::new(IpAddr::V6(gateway), net.prefix_len()).ok());
    Bridge {
        name: network.bridge.clone(),
        altname: network.altname.clone(),
        alias: network_alias(network.name.as_str()),
        mac: network.mac,
        addresses: v4.into_iter().chain(v6).collect(),
    }
}

fn port(alias: String, kind: PortKind, port: &topology::Port, mac: Option<MacAddr>) -> Port {
    Port {
        kind,
        name: port.interface.clone(),
        altname: port.altname.clone(),
        alias,
        bridge: port.bridge.clone(),
        mac,
        guest: port.mac,
        addresses: [IpAddr::V4(port.address)]
            .into_iter()
            .chain(port.v6.iter().flat_map(|v6| [v6.address, v6.link_local]).map(IpAddr::V6))
            .collect(),
        guest6: port.v6.as_ref().map(|v6| v6.address),
        offload: Offload::Off,
    }
}

impl Bridge {
    /// How the kernel treats packets that guests send to it
    /// (Documentation/networking/ip-sysctl.rst).
    pub(super) fn sysctls(&self) -> Vec<Sysctl> {
        let ipv6 = self.addresses.iter().any(|address| matches!(address, IpNet::V6(_)));
        let v4 = |key: &str, value| Sysctl::new(ipv4_conf(&self.name, key), value);
        let v6 = |key: &str, value| Sysctl::new(ipv6_conf(&self.name, key), value);
        vec![
            v4("forwarding", "1"),
            // A guest learns of no other bridge's address by ARP.
            v4("arp_ignore", "1"),
            v4("arp_announce", "2"),
            v4("send_redirects", "0"),
            v4("accept_redirects", "0"),
            v4("accept_source_route", "0"),
            v4("route_localnet", "0"),
            // The way back is looked up as what the firewall judged, too.
            v4("src_valid_mark", "1"),
            // Ports are isolated: guests of the network reach each other by
            // the host, which answers for each of them, at once, and sends no
            // one elsewhere. So policies see that traffic too.
            v4("proxy_arp_pvlan", "1"),
            Sysctl::new(format!("net/ipv4/neigh/{}/proxy_delay", self.name), "0"),
            v6("disable_ipv6", if ipv6 { "0" } else { "1" }),
            v6("accept_ra", "0"),
            v6("autoconf", "0"),
            v6("accept_redirects", "0"),
            v6("accept_source_route", "-1"),
            v6("proxy_ndp", "1"),
            Sysctl::new(format!("net/ipv6/neigh/{}/proxy_delay", self.name), "0"),
        ]
    }
}

impl Port {
    /// A port has no addresses; the kernel would give it a link-local one. By
    /// ARP in LLDP's group, which no bridge takes, a guest would ask the port
    /// for the host's addresses.
    pub(super) fn sysctls(&self) -> Vec<Sysctl> {
        vec![
            Sysctl::new(ipv6_conf(&self.name, "disable_ipv6"), "1"),
            Sysctl::new(ipv4_conf(&self.name, "arp_ignore"), "8"),
        ]
    }
}

fn ipv4_conf(interface: &IfName, key: &str) -> String {
    format!("net/ipv4/conf/{interface}/{key}")
}

fn ipv6_conf(interface: &IfName, key: &str) -> String {
    format!("net/ipv6/conf/{interface}/{key}")
}

/// Forwarding is a setting of the interface that a packet comes in by, in
/// IPv4; in IPv6 it is one of the whole host (and turns router
/// advertisements off where `accept_ra` is 1).
fn forwarding(topology: &Topology, uplinks: &[IfName]) -> Vec<Sysctl> {
    if topology.networks.is_empty() {
        return Vec::new();
    }
    let uplinks = &topology.exits(uplinks);
    let routed = uplinks.iter().chain(&topology.tailscale);
    let mut sysctls: Vec<_> = routed.map(|name| Sysctl::new(forwarding4_key(name), "1")).collect();
    if topology.has_ipv6() {
        let accept = uplinks.iter().map(|uplink| Sysctl::replacing(ipv6_conf(uplink, "accept_ra"), "1", "2"));
        sysctls.extend(accept);
        sysctls.push(Sysctl::new(FORWARDING6_KEY, "1"));
    }
    sysctls
}

/// The settings that take [`Desired::forwarding`] back: of the interfaces in
/// `opened` for IPv4, and of the whole host with its `uplinks` for IPv6.
pub fn unforwarding(opened: &[IfName], ipv6: bool, uplinks: &[IfName]) -> Vec<Sysctl> {
    let mut sysctls: Vec<_> =
        opened.iter().map(|name| Sysctl::replacing(forwarding4_key(name), "1", "0")).collect();
    if ipv6 {
        sysctls.push(Sysctl::replacing(FORWARDING6_KEY, "1", "0"));
        let accept = uplinks.iter().map(|uplink| Sysctl::replacing(ipv6_conf(uplink, "accept_ra"), "2", "1"));
        sysctls.extend(accept);
    }
    sysctls
}

/// Whether an interface's IPv4 packets are routed on.
pub fn forwarding4_key(interface: &IfName) -> String {
    ipv4_conf(interface, "forwarding")
}

/// How many flows the kernel tracks, one setting for all network namespaces
/// (nf_conntrack-sysctl.rst in the kernel's documentation).
pub const CONNTRACK_MAX_KEY: &str = "net/netfilter/nf_conntrack_max";

/// Whether IPv6 packets are routed on.
pub const FORWARDING6_KEY: &str = "net/ipv6/conf/all/forwarding";
