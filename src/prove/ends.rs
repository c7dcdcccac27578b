//! Who sends and who receives, as the reachability model calls them.

use std::net::IpAddr;

use crate::packet::prefix::{IMDS4, IMDS6};
use crate::reach::{Model, Side};
use crate::topology::IfName;

use super::target::Target;
use super::why::From;

/// Where what a sender sends comes in.
pub fn senders<'a>(model: &'a Model<'a>, side: Side<'a>) -> Vec<From<'a>> {
    let exits = || model.sets().exits.names.iter();
    let links = |address: Option<IpAddr>| exits().map(move |link| From::Link(link, address)).collect();
    match side {
        Side::Guest(port) => vec![From::Guest(port)],
        Side::Host => vec![From::Host],
        Side::Internet(Some(link)) => vec![From::Link(link, None)],
        Side::Internet(None) => links(None),
        Side::Tailnet => model.topology().tailscale.iter().map(|link| From::Link(link, None)).collect(),
        // It answers and asks nothing.
        Side::Imds => Vec::new(),
        Side::Address(address) if model.is_own(address) => vec![From::Host],
        Side::Address(address) => match way_to(model, address) {
            Some(link) => vec![From::Link(link, Some(address))],
            None => links(Some(address)),
        },
    }
}

/// Whom a receiver's packets are for; none where it isn't there.
pub fn target(model: &Model<'_>, side: Side<'_>) -> Option<Target> {
    Some(match side {
        Side::Guest(port) => {
            let v6 = port.v6.as_ref().map(|v6| IpAddr::V6(v6.address));
            Target::Addresses([Some(IpAddr::V4(port.address)), v6].into_iter().flatten().collect())
        }
        Side::Host => Target::Host,
        Side::Internet(by) => Target::Internet(by.cloned()),
        Side::Tailnet => Target::Link(model.topology().tailscale.clone()?),
        Side::Imds => Target::Addresses(vec![IpAddr::V4(IMDS4), IpAddr::V6(IMDS6)]),
        Side::Address(address) if model.is_own(address) => Target::Host,
        Side::Address(address) => Target::Addresses(vec![address]),
    })
}

/// The link that leads to an address, where the host's routes are known.
pub(super) fn way_to<'m>(model: &'m Model<'_>, address: IpAddr) -> Option<&'m IfName> {
    let routes = model.vicinity().routes.iter().filter(|(net, _)| net.contains(&address));
    routes.max_by_key(|(net, _)| net.prefix_len()).map(|(_, link)| link)
}
