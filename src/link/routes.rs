//! What the kernel's routes say (rtnetlink(7)).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use super::observed::Link;

/// The numbers of the links that a route leads out by.
fn outputs(route: &RouteMessage) -> impl Iterator<Item = u32> {
    route.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    })
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    let unspecified = match route.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    IpNet::new(address.unwrap_or(unspecified), route.header.destination_prefix_length).ok()
}

/// Writes down with each link what is routed by it.
pub(super) fn read(
    routes: &[RouteMessage],
    names: &BTreeMap<u32, String>,
    links: &mut BTreeMap<String, Link>,
) {
    for route in routes {
        for index in outputs(route) {
            if let Some(link) = names.get(&index).and_then(|name| links.get_mut(name)) {
                link.routes.extend(destination(route));
            }
        }
    }
}

/// The links that hold a default route.
pub(super) fn default(routes: &[RouteMessage], names: &BTreeMap<u32, String>) -> BTreeSet<String> {
    let default = routes.iter().filter(|route| route.header.destination_prefix_length == 0);
    default.flat_map(outputs).filter_map(|index| names.get(&index).cloned()).collect()
}
