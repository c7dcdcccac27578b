//! Each subnet with `namespace = true` → its network namespace.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::spec::SpecPath;

use super::compile::Compiler;
use super::guest::Taken;
use super::identity::{derive_mac, hash, link_local};
use super::{IfName, Namespace, NamespaceRoute, Network, Port, PortV6, Subnet};

impl Compiler<'_> {
    pub(super) fn namespaces(&mut self, networks: &[Network], taken: &mut Taken) -> Vec<Namespace> {
        let mut namespaces: Vec<Namespace> = Vec::new();
        for network in networks {
            let Some(written) = self.spec.networks.get(network.name.as_str()) else { continue };
            for subnet in &network.subnets {
                if !written.subnets.get(subnet.name.as_str()).is_some_and(|subnet| subnet.namespace) {
                    continue;
                }
                let path =
                    SpecPath::keys(["networks", network.name.as_str(), "subnets", subnet.name.as_str()]);
                let name = format!("{}-{}", network.name, subnet.name);
                if namespaces.iter().any(|other| other.name == name) {
                    let message = format!("another subnet's namespace is called {name} already");
                    self.issue(path.clone(), message, "rename one of the two subnets");
                }
                let Some(port) = self.namespace_port(&path, &name, network, subnet, taken) else { continue };
                let routes = self.peer_routes(network, networks);
                namespaces.push(Namespace { name, port, routes });
            }
        }
        namespaces.sort_by(|a, b| a.name.cmp(&b.name));
        namespaces
    }

    fn namespace_port(
        &mut self,
        path: &SpecPath,
        name: &str,
        network: &Network,
        subnet: &Subnet,
        taken: &mut Taken,
    ) -> Option<Port> {
        // The subnet's second host address, whatever the first one is.
        let address = Ipv4Addr::from(u32::from(subnet.cidr.network()).saturating_add(2));
        if !taken.claim4(address) {
            let message = format!("{address}, the namespace's address, is a VM's already");
            self.issue(path.clone(), message, "give the VM another address");
            return None;
        }
        let mac = derive_mac("namespace", name);
        if !taken.claim_mac(mac) {
            self.issue(
                path.clone(),
                format!("its derived MAC {mac} is another's already"),
                "rename the subnet",
            );
        }
        let mut v6 = None;
        if let (Some(gateway), Some(cidr6)) = (network.gateway6, subnet.cidr6) {
            let address = Ipv6Addr::from(u128::from(cidr6.network()).saturating_add(2));
            if !taken.claim6(address) {
                let message = format!("{address}, the namespace's address, is a VM's already");
                self.issue(path.clone(), message, "give the VM another address");
            }
            v6 = Some(PortV6 { address, prefix: cidr6.prefix_len(), gateway, link_local: link_local(mac) });
        }
        let (interface, altname) = IfName::derive("ns-", name, hash(name));
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
