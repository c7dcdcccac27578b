//! Each subnet with `namespace = true` → its network namespace.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use crate::ownership::VETH_PREFIX;
use crate::spec::{self, SpecPath, label};

use super::address::{unusable4, unusable6};
use super::compile::Compiler;
use super::guest::interface;
use super::identity::{derive_mac, link_local};
use super::taken::Taken;
use super::{Allocation, Namespace, NamespaceName, NamespaceRoute, Network, Port, PortV6, Subnet};

impl Compiler<'_> {
    pub(super) fn namespaces(&mut self, networks: &[Network], taken: &mut Taken) -> Vec<Namespace> {
        let mut namespaces: Vec<Namespace> = Vec::new();
        let mut labels: BTreeMap<String, NamespaceName> = BTreeMap::new();
        for network in networks {
            let Some(written) = self.spec.networks.get(network.name.as_str()) else { continue };
            for subnet in &network.subnets {
                let Some(own) = written.subnets.get(subnet.name.as_str()) else { continue };
                let path =
                    SpecPath::keys(["networks", network.name.as_str(), "subnets", subnet.name.as_str()]);
                if !own.namespace {
                    self.homeless(&path, own);
                    continue;
                }
                let name = NamespaceName::of(&network.name, &subnet.name);
                if let Some(other) = labels.insert(label(name.as_str()), name.clone()) {
                    let message = format!("another subnet's namespace is called {other} already");
                    self.issue(path.clone(), message, "rename one of the two subnets");
                }
                let asked = (own.address, own.address6);
                let Some(port) = self.namespace_port(&path, name.as_str(), (network, subnet), asked, taken)
                else {
                    continue;
                };
                let routes = self.peer_routes(network, networks);
                namespaces.push(Namespace { name, port, routes });
            }
        }
        namespaces.sort_by(|a, b| a.name.cmp(&b.name));
        namespaces
    }

    /// An address is a namespace's: a subnet's guests have their own.
    fn homeless(&mut self, path: &SpecPath, subnet: &spec::Subnet) {
        let keys = [("address", subnet.address.is_some()), ("address6", subnet.address6.is_some())];
        for (key, _) in keys.into_iter().filter(|(_, written)| *written) {
            self.consequence(
                path.clone().key(key),
                "the address of a namespace, and the subnet has none",
                "set namespace = true, or remove it",
            );
        }
    }

    /// Whether the spec gives the subnet one.
    pub(super) fn has_namespace(&self, network: &Network, subnet: &Subnet) -> bool {
        self.written(network, subnet).is_some_and(|subnet| subnet.namespace)
    }

    /// What the spec gives the subnet's namespace by name.
    pub(super) fn namespace_named(&self, network: &Network, subnet: &Subnet) -> Allocation {
        let written = self.written(network, subnet);
        let (address, address6) = written.map_or((None, None), |subnet| (subnet.address, subnet.address6));
        Allocation { address, address6, ..Allocation::default() }
    }

    fn written(&self, network: &Network, subnet: &Subnet) -> Option<&spec::Subnet> {
        self.spec.networks.get(network.name.as_str())?.subnets.get(subnet.name.as_str())
    }

    fn namespace_port(
        &mut self,
        path: &SpecPath,
        name: &str,
        (network, subnet): (&Network, &Subnet),
        (asked, asked6): (Option<Ipv4Addr>, Option<Ipv6Addr>),
        taken: &mut Taken,
    ) -> Option<Port> {
        let kept = taken.namespaces.get(name).cloned().unwrap_or_default();
        let address = match asked {
            Some(address) => {
                let unusable = |net| unusable4(address, net, network.gateway);
                let reason = unusable(network.cidr).or_else(|| unusable(subnet.cidr));
                if let Some(reason) = reason {
                    let hint = format!("take a host address of {}", subnet.cidr);
                    self.issue(path.clone().key("address"), reason, hint);
                    return None;
                }
                address
            }
            None => kept.address.or_else(|| self.own4(path, name, (network, subnet), taken))?,
        };
        let mac = kept.mac.unwrap_or_else(|| derive_mac("namespace", name));
        if kept.mac.is_none() && !taken.claim_mac(mac) {
            self.issue(
                path.clone(),
                format!("its derived MAC {mac} is another's already"),
                "rename the subnet",
            );
        }
        let (interface, altname) = interface(VETH_PREFIX, name, &kept);
        let mut v6 = None;
        if let (Some(gateway), Some(cidr6)) = (network.gateway6, subnet.cidr6) {
            let given = asked6.or(kept.address6);
            let address = given.or_else(|| self.own6(path, name, (cidr6, gateway), taken))?;
            if let Some(reason) = asked6.and_then(|address| unusable6(address, cidr6, gateway)) {
                self.issue(path.clone().key("address6"), reason, format!("take a host address of {cidr6}"));
            }
            v6 = Some(PortV6 { address, prefix: cidr6.prefix_len(), gateway, link_local: link_local(mac) });
        } else if asked6.is_some() {
            let hint = "give the network and the subnet a cidr6";
            self.consequence(path.clone().key("address6"), "its subnet has no IPv6", hint);
        } else if let Some(address) = kept.address6 {
            taken.retained6.insert(interface.clone(), address);
        }
        Some(Port {
            interface,
            altname,
            network: network.name.clone(),
            subnet: subnet.name.clone(),
            bridge: network.bridge.clone(),
            mac,
            address,
            prefix: subnet.cidr.prefix_len(),
            gateway: network.gateway,
            v6,
        })
    }

    /// The subnet's second host address, whatever the first one is; where a
    /// guest that was there before has it, the first free one.
    fn own4(
        &mut self,
        path: &SpecPath,
        name: &str,
        (network, subnet): (&Network, &Subnet),
        taken: &mut Taken,
    ) -> Option<Ipv4Addr> {
        let second = Ipv4Addr::from(u32::from(subnet.cidr.network()).saturating_add(2));
        if taken.claim4(second) {
            return Some(second);
        }
        let free = match taken.given(&second.to_string()) {
            Some(_) => None,
            None => taken.free4(subnet.cidr, network.gateway),
        };
        if free.is_none() {
            self.is_taken(path, name, second.into(), taken);
        }
        free
    }

    /// As [`Self::own4`].
    fn own6(
        &mut self,
        path: &SpecPath,
        name: &str,
        (cidr6, gateway): (Ipv6Net, Ipv6Addr),
        taken: &mut Taken,
    ) -> Option<Ipv6Addr> {
        let second = Ipv6Addr::from(u128::from(cidr6.network()).saturating_add(2));
        if taken.claim6(second) {
            return Some(second);
        }
        let free = match taken.given(&second.to_string()) {
            Some(_) => None,
            None => taken.free6(cidr6, gateway),
        };
        if free.is_none() {
            self.is_taken(path, name, second.into(), taken);
        }
        free
    }

    /// The address that a namespace has by itself is somebody's: said where it
    /// is given away.
    fn is_taken(&mut self, path: &SpecPath, name: &str, address: IpAddr, taken: &Taken) {
        let message = format!("{address} is the address of the namespace {name}");
        let hint = "take another one here, or name one for the namespace: address = \"…\" in its subnet";
        match taken.given(&address.to_string()) {
            Some(key) => self.issue(key.clone(), message, hint),
            None => self.issue(path.clone(), format!("{message}, and taken already"), hint),
        }
    }

    /// Routes to the networks that `network` is peered with. The default
    /// route leads there too; these say so to whoever looks.
    fn peer_routes(&self, network: &Network, networks: &[Network]) -> Vec<NamespaceRoute> {
        let peer_of = |between: &[super::Name; 2]| match between {
            [a, b] if a == &network.name => Some(b.clone()),
            [a, b] if b == &network.name => Some(a.clone()),
            _ => None,
        };
        let mut peers: Vec<_> =
            self.spec.peerings.iter().filter_map(|peering| peer_of(&peering.between)).collect();
        peers.sort();
        peers.dedup();
        let peers = peers.iter().filter_map(|name| networks.iter().find(|other| &other.name == name));
        peers
            .flat_map(|peer| {
                let v6 = network.gateway6.zip(peer.cidr6).map(|(via, to)| NamespaceRoute::new(to, via));
                [Some(NamespaceRoute::new(peer.cidr, network.gateway)), v6].into_iter().flatten()
            })
            .collect()
    }
}
