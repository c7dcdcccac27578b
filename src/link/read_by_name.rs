//! Reads single links and what hangs on them: by name, by index and by key. What
//! it costs is what is asked for, however much there is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;
use nix::libc;

use super::desired::{Desired, INSIDE};
use super::netlink::{LinkError, Netlink, listed_settings, read_link};
use super::observed::{Inside, Link, Observed};
use super::plan::overlap;
use super::route_socket::{RouteSocket, attribute, attributes, u16_at, u32_at};
use super::{namespace, offload};
use crate::ownership::{namespace_alias, namespace_mark};
use crate::supervise::birthplace;
use crate::topology::IfName;

/// `RTEXT_FILTER_SKIP_STATS` (`linux/rtnetlink.h`): counters aren't asked for.
const SKIP_STATISTICS: u32 = 8;
/// `RTM_F_FIB_MATCH`: the route that decides, not what it makes of a packet.
const WHICH_ROUTE: u32 = 0x2000;
/// `NTF_PROXY`, `NUD_NOARP` and `NUD_PERMANENT` (`linux/neighbour.h`).
const PROXY: u8 = 0x08;
const STATIC: u16 = 0x40;
const PERMANENT: u16 = 0x80;
/// Addresses that nothing but a default route leads to, as a rule. Nothing is sent.
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(1, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1001)),
];

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Links, by any of their names.
    links: BTreeSet<String>,
    /// Whether a bridge answers for an address.
    proxies: BTreeSet<(String, Ipv6Addr)>,
    /// Whether a bridge's neighbour has a MAC that is set down by hand.
    neighbours: BTreeSet<(String, IpAddr)>,
    /// Named network namespaces.
    namespaces: BTreeSet<String>,
    /// Prefixes whose addresses are nobody else's.
    prefixes: BTreeSet<IpNet>,
}

/// What there is of what was asked for.
#[derive(Debug, Default)]
pub struct Found {
    /// It.
    pub observed: Observed,
    /// Every address of the host's, where they had to be listed.
    pub addresses: Option<BTreeSet<IpAddr>>,
    /// The links that a packet to anywhere would leave by; none where that is
    /// decided by something other than a default route.
    pub anywhere: Option<BTreeSet<u32>>,
    /// How many messages the kernel answered with, and how many bytes.
    pub read: (usize, usize),
}

impl Asked {
    /// Whether an address of somebody else's could be in the way.
    pub fn has_prefixes(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// What separates two states of the links, with these other links.
    pub fn between<'a>(old: &Desired, new: &Desired, others: impl IntoIterator<Item = &'a IfName>) -> Self {
        let mut asked = Self::default();
        asked.links.extend(others.into_iter().map(ToString::to_string));
        for desired in [old, new] {
            for bridge in &desired.bridges {
                asked.links.insert(bridge.name.to_string());
                asked.links.extend(bridge.altname.clone());
            }
            for port in &desired.ports {
                asked.links.insert(port.name.to_string());
                asked.links.extend(port.altname.clone());
                asked.proxies.extend(port.guest6.map(|address| (port.bridge.to_string(), address)));
                let addresses = port.addresses.iter();
                asked.neighbours.extend(addresses.map(|address| (port.bridge.to_string(), *address)));
            }
            asked.namespaces.extend(desired.namespaces.iter().map(|one| one.name.clone()));
        }
        asked.prefixes.extend(new.prefixes.iter().filter(|prefix| !old.prefixes.contains(prefix)));
        asked
    }
}

impl Netlink {
    /// Reads what is asked for, and where `addresses` are wanted every address of
    /// the host's, with the links of others that have one in a prefix asked for.
    ///
    /// # Errors
    /// Where the kernel doesn't answer, or can't be asked so.
    pub async fn find(&self, asked: &Asked, addresses: bool) -> Result<Found, LinkError> {
        let mut found = find(asked, addresses).map_err(LinkError::Socket)?;
        found.observed.look_at_guards()?;
        let failed = |source| LinkError::Namespace { name: "/proc/thread-self/ns/net".into(), source };
        let network = birthplace::network().map_err(failed)?;
        found.observed.network = network;
        for name in &asked.namespaces {
            if let Some(inside) = self.namespace(name, network, &found.observed.links).await? {
                found.observed.namespaces.insert(name.clone(), inside);
            }
        }
        Ok(found)
    }

    /// A named namespace; none where there is none of that name.
    pub(super) async fn namespace(
        &self,
        name: &str,
        network: u64,
        links: &BTreeMap<String, Link>,
    ) -> Result<Option<Inside>, LinkError> {
        // What isn't a namespace, or is gone meanwhile, isn't one of ours.
        let Ok(netlink) = self.inside(name) else { return Ok(None) };
        // An earlier version's mark doesn't say whose it is; a port does.
        let alias = namespace_alias(name);
        let port = links.values().any(|link| link.is_ours() && link.alias.as_ref() == Some(&alias));
        let marks = [Some(namespace_mark(&alias, network)), port.then_some(alias)];
        let mut inside = netlink.observe_inside(&marks).await?;
        if inside.link.is_some() {
            let late = namespace::within(name, || offload::is_late(INSIDE));
            // One that is going isn't looked at closely.
            inside.late_checksums = late.and_then(|late| late).unwrap_or(true);
        }
        Ok(Some(inside))
    }
}

fn find(asked: &Asked, addresses: bool) -> io::Result<Found> {
    let mut socket = RouteSocket::open()?;
    let mut found = Found::default();
    for name in &asked.links {
        read_one(&mut socket, &by_name(name), &mut found.observed)?;
    }
    let links: Vec<(String, u32)> =
        found.observed.links.iter().map(|(name, link)| (name.clone(), link.index)).collect();
    for (name, index) in links {
        let Some(link) = found.observed.links.get_mut(&name) else { continue };
        read_addresses(&mut socket, Some(index), |_, net| {
            link.addresses.insert(net);
        })?;
        if link.master.is_some() {
            read_forwarding(&mut socket, index, link)?;
        }
    }
    for (bridge, address) in &asked.proxies {
        if let Some(link) = found.observed.links.get_mut(bridge)
            && answers_for(&mut socket, link.index, *address)?
        {
            link.proxies.insert(*address);
        }
    }
    for (bridge, address) in &asked.neighbours {
        if let Some(link) = found.observed.links.get_mut(bridge)
            && let Some(mac) = mac_of(&mut socket, link.index, *address)?
        {
            link.neighbours.insert(*address, mac);
        }
    }
    if addresses {
        found.addresses = Some(strangers(&mut socket, asked, &mut found.observed)?);
    }
    found.anywhere = anywhere(&mut socket)?;
    found.read = socket.read;
    Ok(found)
}

/// `struct ifinfomsg`, without or with an index.
fn link_header(index: u32) -> Vec<u8> {
    [
        &[0; 4][..],
        &index.to_ne_bytes(),
        &[0; 8],
        &attribute(libc::IFLA_EXT_MASK, &SKIP_STATISTICS.to_ne_bytes()),
    ]
    .concat()
}

fn by_name(name: &str) -> Vec<u8> {
    // A longer name is never a link's own.
    let kind = if name.len() < libc::IFNAMSIZ { libc::IFLA_IFNAME } else { libc::IFLA_ALT_IFNAME };
    [link_header(0), attribute(kind, format!("{name}\0").as_bytes())].concat()
}

/// One link, where there is one.
fn read_one(socket: &mut RouteSocket, body: &[u8], observed: &mut Observed) -> io::Result<()> {
    let answer = socket.ask(libc::RTM_GETLINK, false, body, |kind, bytes| {
        let mut header = NetlinkHeader::default();
        header.message_type = kind;
        let message = RouteNetlinkMessage::deserialize(&header, bytes);
        let message = message.map_err(|error| io::Error::other(error.to_string()))?;
        if let RouteNetlinkMessage::NewLink(message) = message
            && let Some((name, link)) = read_link(&message)
        {
            if link.is_ours() {
                observed.sysctls.extend(listed_settings(&name, &message));
            }
            observed.links.insert(name, link);
        }
        Ok(())
    });
    match answer {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        answer => answer,
    }
}

/// The addresses of one link, or of all, but link-local ones.
fn read_addresses(
    socket: &mut RouteSocket,
    index: Option<u32>,
    mut each: impl FnMut(u32, IpNet),
) -> io::Result<()> {
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    let body = [&[0; 4][..], &index.unwrap_or_default().to_ne_bytes()].concat();
    socket.ask(libc::RTM_GETADDR, true, &body, |_, message| {
        let (Some(prefix), Some(index)) = (message.get(1), u32_at(message, 4)) else { return Ok(()) };
        let (mut local, mut address) = (None, None);
        for (kind, value) in attributes(message.get(8..).unwrap_or_default()) {
            match kind {
                libc::IFA_LOCAL => local = ip(value),
                libc::IFA_ADDRESS => address = ip(value),
                _ => {}
            }
        }
        let Some(address) = local.or(address) else { return Ok(()) };
        if !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
            && let Ok(net) = IpNet::new(address, *prefix)
        {
            each(index, net);
        }
        Ok(())
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// `struct ndmsg`: family, index, state, flags, type.
fn neighbour(family: i32, index: u32, flags: u8) -> Vec<u8> {
    let family = u8::try_from(family).unwrap_or_default();
    [&[family, 0, 0, 0][..], &index.to_ne_bytes(), &[0, 0, flags, 0]].concat()
}

/// The addresses that were set down for a port.
fn read_forwarding(socket: &mut RouteSocket, port: u32, link: &mut Link) -> io::Result<()> {
    let body = neighbour(libc::AF_BRIDGE, port, 0);
    socket.ask(libc::RTM_GETNEIGH, true, &body, |_, message| {
        // The kernel's own entries are permanent, learnt ones age.
        if u32_at(message, 4) == Some(port) && u16_at(message, 8) == Some(STATIC) {
            let mac = attributes(message.get(12..).unwrap_or_default())
                .find(|(kind, _)| *kind == libc::NDA_LLADDR)
                .and_then(|(_, value)| <[u8; 6]>::try_from(value).ok());
            link.fdb.extend(mac);
        }
        Ok(())
    })
}

fn answers_for(socket: &mut RouteSocket, bridge: u32, address: Ipv6Addr) -> io::Result<bool> {
    let body =
        [neighbour(libc::AF_INET6, bridge, PROXY), attribute(libc::NDA_DST, &address.octets())].concat();
    match socket.ask(libc::RTM_GETNEIGH, false, &body, |_, _| Ok(())) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The MAC that is set down for a neighbour of a link.
fn mac_of(socket: &mut RouteSocket, link: u32, address: IpAddr) -> io::Result<Option<[u8; 6]>> {
    let (family, bytes) = octets(address);
    let body = [neighbour(family, link, 0), attribute(libc::NDA_DST, &bytes)].concat();
    let mut mac = None;
    let answer = socket.ask(libc::RTM_GETNEIGH, false, &body, |_, message| {
        if u16_at(message, 8) == Some(PERMANENT) {
            mac = attributes(message.get(12..).unwrap_or_default())
                .find(|(kind, _)| *kind == libc::NDA_LLADDR)
                .and_then(|(_, value)| <[u8; 6]>::try_from(value).ok());
        }
        Ok(())
    });
    match answer {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        answer => answer.map(|()| mac),
    }
}

fn octets(address: IpAddr) -> (i32, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    }
}

/// Every address, and in `observed` the other links that have one in a prefix
/// that is asked for.
fn strangers(
    socket: &mut RouteSocket,
    asked: &Asked,
    observed: &mut Observed,
) -> io::Result<BTreeSet<IpAddr>> {
    let mut addresses = BTreeSet::new();
    let mut inside: BTreeMap<u32, BTreeSet<IpNet>> = BTreeMap::new();
    read_addresses(socket, None, |index, net| {
        addresses.insert(net.addr());
        if asked.prefixes.iter().any(|prefix| overlap(prefix, &net)) {
            inside.entry(index).or_default().insert(net);
        }
    })?;
    inside.retain(|index, _| observed.links.values().all(|link| link.index != *index));
    for (index, nets) in inside {
        let mut other = Observed::default();
        read_one(socket, &link_header(index), &mut other)?;
        // One of hostctl's that nobody asked for is beside what changes.
        for (name, link) in other.links.into_iter().filter(|(_, link)| !link.is_ours()) {
            observed.links.insert(name, Link { addresses: nets.clone(), ..link });
        }
    }
    Ok(addresses)
}

/// The links that a packet to anywhere leaves by.
fn anywhere(socket: &mut RouteSocket) -> io::Result<Option<BTreeSet<u32>>> {
    let mut links = BTreeSet::new();
    let mut decided = true;
    for address in ANYWHERE {
        let (family, bytes) = octets(address);
        // struct rtmsg: family, lengths, tos, table, protocol, scope, type, flags.
        let family = u8::try_from(family).unwrap_or_default();
        let length = u8::try_from(bytes.len() * 8).unwrap_or_default();
        let header = [&[family, length, 0, 0, 0, 0, 0, 0][..], &WHICH_ROUTE.to_ne_bytes()].concat();
        let body = [header, attribute(libc::RTA_DST, &bytes)].concat();
        let answer = socket.ask(libc::RTM_GETROUTE, false, &body, |_, message| {
            decided &= message.get(1) == Some(&0);
            for (kind, value) in attributes(message.get(12..).unwrap_or_default()) {
                match kind {
                    libc::RTA_TABLE => decided &= u32_at(value, 0) == Some(u32::from(libc::RT_TABLE_MAIN)),
                    libc::RTA_OIF => links.extend(u32_at(value, 0)),
                    libc::RTA_MULTIPATH => links.extend(hops(value)),
                    _ => {}
                }
            }
            Ok(())
        });
        match answer.map_err(|error| error.raw_os_error()) {
            Ok(()) => {}
            Err(Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {}
            Err(_) => decided = false,
        }
    }
    Ok(decided.then_some(links))
}

/// The links of a route of several: `struct rtnexthop` is length, flags, weight,
/// index.
fn hops(bytes: &[u8]) -> Vec<u32> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while let (Some(length), Some(index)) = (u16_at(rest, 0), u32_at(rest, 4)) {
        found.push(index);
        let next = usize::from(length).next_multiple_of(4).max(8);
        rest = rest.get(next..).unwrap_or_default();
    }
    found
}
