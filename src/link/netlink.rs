//! Links, addresses and forwarding entries over rtnetlink (rtnetlink(7)).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla};
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoPortData, InfoTun, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, Prop,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use netlink_packet_route::neighbour_table::NeighbourTableMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::desired::{INSIDE, LLDP_MASK};
use super::namespace;
use super::observed::{Inside, Link, Observed, Tap};
use super::requests::Line;
use super::{apart_netlink, routes, settings};
use crate::guard::{GuardError, Program};
use crate::supervise::birthplace;
use crate::tap::TapError;
use crate::topology::NameError;

/// Why the kernel's links can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket.
    #[error("can't talk to the kernel over netlink: {0}")]
    Socket(#[source] io::Error),
    /// The kernel refused a request.
    #[error("{action}: {source}")]
    Request {
        /// What was asked for.
        action: String,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// A link that the step is about is gone.
    #[error("there is no link {0}; was it removed meanwhile?")]
    Gone(String),
    /// No TAP.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A name that can't be an interface's.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A named network namespace.
    #[error("network namespace {name}: {source}")]
    Namespace {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Who writes a link's checksums.
    #[error(
        "can't have the checksums of {name} written before the firewall (ethtool -K {name} tx off): {source}"
    )]
    Checksums {
        /// The link.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The guard of a VM's port.
    #[error("{name}: {source}")]
    Guard {
        /// The port.
        name: String,
        /// What is wrong with it.
        source: GuardError,
    },
    /// A route that can't be.
    #[error("no route: {0}")]
    Route(String),
    /// A kernel setting.
    #[error("can't set {key}: {source}")]
    Sysctl {
        /// Its path under `/proc/sys`.
        key: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What a listing of the links says.
#[derive(Default)]
struct Read {
    names: BTreeMap<u32, String>,
    links: BTreeMap<String, Link>,
    sysctls: BTreeMap<String, String>,
}

/// A netlink socket of the calling thread's network namespace.
pub struct Netlink {
    pub(super) handle: Handle,
    task: tokio::task::JoinHandle<()>,
    /// For steps; many of them at a time.
    pub(super) line: Line,
    /// Sockets of other namespaces, opened when they are first needed.
    inside: RefCell<BTreeMap<String, Rc<Netlink>>>,
    /// The guard of VMs' ports, loaded when it is first needed.
    pub(super) program: RefCell<Option<Program>>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Netlink {
    /// Opens the socket; needs a Tokio runtime.
    ///
    /// # Errors
    /// Where there is no netlink.
    pub fn open() -> Result<Self, LinkError> {
        let line = Line::open().map_err(LinkError::Socket)?;
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
        let (inside, program) = Default::default();
        Ok(Self { handle, task: tokio::spawn(connection), line, inside, program })
    }

    /// The socket of a named namespace.
    ///
    /// # Errors
    /// Where there is no such namespace.
    pub(super) fn inside(&self, name: &str) -> Result<Rc<Self>, LinkError> {
        if let Some(netlink) = self.inside.borrow().get(name) {
            return Ok(netlink.clone());
        }
        let runtime = tokio::runtime::Handle::current();
        let opened = namespace::within(name, || {
            let _guard = runtime.enter();
            Ok((rtnetlink::new_connection()?, Line::open()?))
        });
        let failed = |source| LinkError::Namespace { name: name.into(), source };
        let ((connection, handle, _), line) = opened.flatten().map_err(failed)?;
        let task = tokio::spawn(connection);
        let (inside, program) = Default::default();
        let netlink = Rc::new(Self { handle, task, line, inside, program });
        self.inside.borrow_mut().insert(name.into(), netlink.clone());
        Ok(netlink)
    }

    /// The socket of a namespace that is gone.
    pub(super) fn forget(&self, name: &str) {
        self.inside.borrow_mut().remove(name);
    }

    /// Reads the links, and the kernel settings that come with them; others
    /// are read by [`sysctl::read`] once it is known which ones matter.
    ///
    /// # Errors
    /// Where the kernel doesn't answer.
    pub async fn observe(&self) -> Result<Observed, LinkError> {
        let Read { names, mut links, mut sysctls } = self.read_links().await?;
        sysctls.extend(self.read_proxy_delays(&names, &links).await?);
        self.read_addresses(&names, &mut links).await?;
        self.read_fdb(&names, &mut links).await?;
        self.read_neighbours(&names, &mut links).await?;
        self.read_proxies(&names, &mut links).await?;
        let (apart, routes): (Vec<_>, Vec<_>) =
            self.routes().await?.into_iter().partition(apart_netlink::is_apart);
        let apart = self.read_apart(&apart).await;
        routes::read(&routes, &names, &mut links);
        let mut default_route = routes::default(&routes, &names);
        default_route.retain(|name| links.get(name).is_some_and(|link| !link.is_ours()));
        let failed = |source| LinkError::Namespace { name: "/proc/thread-self/ns/net".into(), source };
        let network = birthplace::network().map_err(failed)?;
        let mut namespaces = BTreeMap::new();
        let failed = |source| LinkError::Namespace { name: "/run/netns".into(), source };
        for name in namespace::names().map_err(failed)? {
            if let Some(inside) = self.namespace(&name, network, &links).await? {
                namespaces.insert(name, inside);
            }
        }
        Ok(Observed { network, links, default_route, namespaces, sysctls, apart })
    }

    /// A namespace that has one of these marks; nothing is known of others.
    pub(super) async fn observe_inside(
        &self,
        [signed, former]: &[Option<String>; 2],
    ) -> Result<Inside, LinkError> {
        let Read { names, mut links, .. } = self.read_links().await?;
        let loopback = links.get("lo");
        let mark = loopback.and_then(|lo| lo.alias.as_ref());
        let signed = mark == signed.as_ref();
        if mark.is_none() || !(signed || mark == former.as_ref()) {
            return Ok(Inside::default());
        }
        let loopback = loopback.is_some_and(|lo| lo.up);
        self.read_addresses(&names, &mut links).await?;
        let link = links.remove(INSIDE);
        let index = link.as_ref().map(|link| link.index);
        let mut routes = BTreeSet::new();
        for route in self.routes().await? {
            let mut via = None;
            let mut to = None;
            let mut out = None;
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Gateway(RouteAddress::Inet(address)) => via = Some(IpAddr::V4(*address)),
                    RouteAttribute::Gateway(RouteAddress::Inet6(address)) => via = Some(IpAddr::V6(*address)),
                    RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                        to = Some(IpAddr::V4(*address))
                    }
                    RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                        to = Some(IpAddr::V6(*address))
                    }
                    RouteAttribute::Oif(index) => out = Some(*index),
                    _ => {}
                }
            }
            let unspecified = match route.header.address_family {
                AddressFamily::Inet => IpAddr::from([0; 4]),
                _ => IpAddr::from([0; 16]),
            };
            let to = IpNet::new(to.unwrap_or(unspecified), route.header.destination_prefix_length).ok();
            if let (Some(to), Some(via), true) = (to, via, out == index) {
                routes.insert((to, via));
            }
        }
        Ok(Inside { ours: true, signed, loopback, link, late_checksums: false, routes })
    }

    async fn read_links(&self) -> Result<Read, LinkError> {
        let mut read = Read::default();
        // Nobody asks how much went by each.
        let skip = vec![LinkExtentMask::SkipStats];
        let mut dump = self.handle.link().get().set_filter_mask(AddressFamily::Unspec, skip).execute();
        while let Some(message) = dump.try_next().await.map_err(asked("listing links"))? {
            if let Some((name, link)) = read_link(&message) {
                if link.is_ours() {
                    read.sysctls.extend(listed_settings(&name, &message));
                }
                read.names.insert(link.index, name.clone());
                read.links.insert(name, link);
            }
        }
        Ok(read)
    }

    /// Those of hostctl's links, and of links that are to come, by the settings'
    /// names: one answer instead of two files for each link.
    async fn read_proxy_delays(
        &self,
        names: &BTreeMap<u32, String>,
        links: &BTreeMap<String, Link>,
    ) -> Result<BTreeMap<String, String>, LinkError> {
        let ours = |name: &String| links.get(name).is_some_and(Link::is_ours);
        let names: BTreeMap<u32, &str> = names
            .iter()
            .filter(|(_, name)| ours(name))
            .map(|(index, name)| (*index, name.as_str()))
            .collect();
        let message = RouteNetlinkMessage::GetNeighbourTable(NeighbourTableMessage::default());
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let failed = asked("listing the neighbour tables");
        let mut dump = self.handle.clone().request(message).map_err(&failed)?;
        let mut found = BTreeMap::new();
        while let Some(message) = dump.next().await {
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbourTable(table)) => {
                    found.extend(settings::read_proxy_delay(&table, &names));
                }
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(failed(rtnetlink::Error::NetlinkError(error)));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    async fn read_proxies(
        &self,
        names: &BTreeMap<u32, String>,
        links: &mut BTreeMap<String, Link>,
    ) -> Result<(), LinkError> {
        let neighbours = self.handle.neighbours().get().set_address_family(AddressFamily::Inet6).proxies();
        let mut dump = neighbours.execute();
        while let Some(message) = dump.try_next().await.map_err(asked("listing proxy entries"))? {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(*address),
                _ => None,
            });
            let link = names.get(&message.header.ifindex).and_then(|name| links.get_mut(name));
            if let (Some(address), Some(link)) = (address, link) {
                link.proxies.insert(address);
            }
        }
        Ok(())
    }

    async fn read_addresses(
        &self,
        names: &BTreeMap<u32, String>,
        links: &mut BTreeMap<String, Link>,
    ) -> Result<(), LinkError> {
        let mut dump = self.handle.address().get().execute();
        while let Some(message) = dump.try_next().await.map_err(asked("listing addresses"))? {
            let Some(link) = names.get(&message.header.index).and_then(|name| links.get_mut(name)) else {
                continue;
            };
            let (mut local, mut address) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    AddressAttribute::Local(found) => local = Some(*found),
                    AddressAttribute::Address(found) => address = Some(*found),
                    _ => {}
                }
            }
            let Some(address) = local.or(address) else { continue };
            if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
                continue;
            }
            link.addresses.extend(IpNet::new(address, message.header.prefix_len).ok());
        }
        Ok(())
    }

    async fn read_fdb(
        &self,
        names: &BTreeMap<u32, String>,
        links: &mut BTreeMap<String, Link>,
    ) -> Result<(), LinkError> {
        let neighbours = self.handle.neighbours().get().set_address_family(AddressFamily::Bridge);
        let mut dump = neighbours.execute();
        while let Some(message) = dump.try_next().await.map_err(asked("listing forwarding entries"))? {
            // The kernel's own entries are permanent, learnt ones age.
            if message.header.state != NeighbourState::Noarp {
                continue;
            }
            let mac = message.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) => <[u8; 6]>::try_from(mac.as_slice()).ok(),
                _ => None,
            });
            if let (Some(mac), Some(link)) =
                (mac, names.get(&message.header.ifindex).and_then(|name| links.get_mut(name)))
            {
                link.fdb.insert(mac);
            }
        }
        Ok(())
    }

    async fn routes(&self) -> Result<Vec<RouteMessage>, LinkError> {
        let mut found = Vec::new();
        for message in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let mut dump = self.handle.route().get(message).execute();
            while let Some(route) = dump.try_next().await.map_err(asked("listing routes"))? {
                // What the kernel learned from redirects and path MTUs is listed
                // too, and nobody's to remove.
                let learned = route.header.flags.contains(RouteFlags::Cloned);
                let main = route.header.table == RouteHeader::RT_TABLE_MAIN && !learned;
                if main || apart_netlink::is_apart(&route) {
                    found.push(route);
                }
            }
        }
        Ok(found)
    }
}

/// Says what was asked for, where the kernel says no.
pub(super) fn asked(action: &(impl ToString + ?Sized)) -> impl Fn(rtnetlink::Error) -> LinkError {
    let action = action.to_string();
    move |source| LinkError::Request { action: action.clone(), source }
}

pub(super) fn listed_settings(name: &str, message: &LinkMessage) -> Vec<(String, String)> {
    let families = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(families) => Some(families),
        _ => None,
    });
    families.map(|families| settings::read(name, families)).unwrap_or_default()
}

pub(super) fn read_link(message: &LinkMessage) -> Option<(String, Link)> {
    let mut name = None;
    // A TAP has a carrier while somebody holds it.
    let attached = message.header.flags.contains(LinkFlags::LowerUp);
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::Address(mac) => link.mac = <[u8; 6]>::try_from(mac.as_slice()).ok(),
            LinkAttribute::Controller(index) => link.master = Some(*index).filter(|index| *index != 0),
            LinkAttribute::PropList(properties) => {
                link.altnames.extend(properties.iter().filter_map(|property| match property {
                    Prop::AltIfName(name) => Some(name.clone()),
                    _ => None,
                }));
            }
            LinkAttribute::LinkInfo(infos) => {
                infos.iter().for_each(|info| read_info(info, &mut link, attached))
            }
            _ => {}
        }
    }
    Some((name?, link))
}

/// `IFLA_TUN_*` of `linux/if_link.h`.
fn read_tap(infos: &[InfoTun], attached: bool) -> Tap {
    const OWNER: u16 = 1;
    const GROUP: u16 = 2;
    const VNET_HEADER: u16 = 5;
    const PERSIST: u16 = 6;
    const MULTI_QUEUE: u16 = 7;
    let find = |kind: u16| {
        infos.iter().find(|info| info.kind() == kind).map(|info| {
            let mut value = vec![0; info.value_len()];
            info.emit_value(&mut value);
            value
        })
    };
    let number = |kind| find(kind).and_then(|value| value.try_into().ok()).map(u32::from_ne_bytes);
    let flag = |kind| find(kind).is_some_and(|value| value.first().is_some_and(|byte| *byte != 0));
    Tap {
        owner: number(OWNER),
        group: number(GROUP),
        persistent: flag(PERSIST),
        vnet_header: flag(VNET_HEADER),
        several_queues: flag(MULTI_QUEUE),
        attached,
    }
}

fn read_info(info: &LinkInfo, link: &mut Link, attached: bool) {
    match info {
        LinkInfo::Kind(kind) => link.kind = kind.to_string(),
        LinkInfo::Data(InfoData::Tun(infos)) => link.tap = Some(read_tap(infos, attached)),
        LinkInfo::Data(InfoData::Bridge(infos)) => {
            for info in infos {
                match info {
                    InfoBridge::StpState(state) => link.stp = *state != BridgeStpState::Disabled,
                    InfoBridge::MulticastSnooping(on) => link.mcast_snooping = *on,
                    InfoBridge::GroupFwdMask(mask) => link.lldp_unfiltered = mask & LLDP_MASK == 0,
                    _ => {}
                }
            }
        }
        LinkInfo::PortData(InfoPortData::BridgePort(infos)) => {
            for info in infos {
                match info {
                    InfoBridgePort::Learning(on) => link.learning = *on,
                    InfoBridgePort::UnicastFlood(on) => link.flood = *on,
                    InfoBridgePort::Isolated(on) => link.isolated = *on,
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
