//! Whose an address is, and where a packet to it goes.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::topology::{IfName, Network, Port};

use super::Model;

/// Where a packet is routed to.
pub(super) enum Route<'m> {
    /// The host itself.
    Host,
    /// Nobody in particular, the host among them: multicast and broadcast.
    Group,
    /// A network's bridge.
    Bridge(&'m Network),
    /// Another link.
    Link(&'m IfName),
    /// There is no way.
    Nowhere,
}

impl<'t> Model<'t> {
    /// The network that an address is in.
    pub(super) fn network_of(&self, address: IpAddr) -> Option<(IpNet, &'t Network)> {
        let (_, found) = self.prefixes.range(..=address).next_back()?;
        Some(*found).filter(|(net, _)| net.contains(&address))
    }

    /// The guest that has an address.
    pub(crate) fn guest_at(&self, address: IpAddr) -> Option<&'t Port> {
        self.guests.get(&address).copied()
    }

    /// Where a packet goes.
    pub(super) fn route(&self, to: IpAddr) -> Route<'_> {
        if self.is_own(to) {
            return Route::Host;
        }
        if self.is_group(to) {
            return Route::Group;
        }
        let network = self.network_of(to);
        let routes = self.vicinity.routes.iter().filter(|(net, _)| net.contains(&to));
        match (network, routes.max_by_key(|(net, _)| net.prefix_len())) {
            (Some((own, network)), other)
                if other.is_none_or(|(net, _)| net.prefix_len() <= own.prefix_len()) =>
            {
                Route::Bridge(network)
            }
            (_, Some((_, link))) => Route::Link(link),
            (_, None) => Route::Nowhere,
        }
    }

    /// Whether an address is nobody's own: multicast, broadcast, unspecified.
    fn is_group(&self, address: IpAddr) -> bool {
        let broadcast = |net: IpNet| match net {
            IpNet::V4(net) => net.prefix_len() < 31 && IpAddr::V4(net.broadcast()) == address,
            IpNet::V6(_) => false,
        };
        let link_has_address = |(net, link): &&(IpNet, IfName)| {
            self.vicinity.addresses.iter().any(|(other, own)| other == link && net.contains(own))
        };
        address.is_multicast()
            || address.is_unspecified()
            || address == IpAddr::V4(Ipv4Addr::BROADCAST)
            || self.network_of(address).is_some_and(|(net, _)| broadcast(net))
            || self
                .vicinity
                .routes
                .iter()
                .filter(|route| broadcast(route.0))
                .any(|route| link_has_address(&route))
    }

    /// Whether an address is the host's.
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        let own = |(_, own): &(IfName, IpAddr)| *own == address;
        let gateway = self.network_of(address).is_some_and(|(_, network)| {
            IpAddr::V4(network.gateway) == address
                || network.gateway6.is_some_and(|gateway| IpAddr::V6(gateway) == address)
        });
        gateway || address.is_loopback() || self.vicinity.addresses.iter().any(own)
    }
}
