//! What is assumed of a host where only its spec is known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::packet::prefix::{TAILNET, TAILNET4, metadata};
use crate::topology::{IfName, Topology, Uplink};

use super::Vicinity;

/// Stands for the host's addresses outside of its networks: the dummy address
/// of RFC 7600, and one of the discard prefix (RFC 6666).
pub const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// As [`HOST4`].
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 8);

impl Vicinity {
    /// A host as it most often is: the first uplink holds the default routes,
    /// and the tailnet is behind its interface. An uplink that only the
    /// machine knows is called `uplink`.
    pub fn assumed(topology: &Topology) -> Self {
        let uplinks = match &topology.uplink {
            Uplink::Named(names) => names.clone(),
            Uplink::Auto => IfName::new("uplink").into_iter().collect(),
        };
        let (any4, any6) = (IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default()));
        let mut routes = Vec::new();
        let mut addresses = Vec::new();
        if let Some(uplink) = uplinks.first() {
            routes.extend([any4, any6].map(|net| (net, uplink.clone())));
            addresses.extend([IpAddr::V4(HOST4), IpAddr::V6(HOST6)].map(|address| (uplink.clone(), address)));
            // Alibaba's metadata service lies among the tailnet's addresses.
            let services = metadata().iter().filter(|net| IpNet::V4(TAILNET4).contains(*net));
            routes.extend(services.map(|net| (*net, uplink.clone())));
        }
        if let Some(tailnet) = &topology.tailscale {
            routes.extend(TAILNET.map(|net| (net, tailnet.clone())));
        }
        Self { uplinks, addresses, routes, opened: Vec::new(), closed6: false, on_link: Vec::new() }
    }
}
