//! Links, addresses and forwarding entries over rtnetlink (rtnetlink(7)).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoPortData, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, Prop,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAttribute, RouteHeader};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use super::desired::{GROUP, LLDP_MASK};
use super::observed::{Link, Observed};
use super::plan::UNMARKED_TAP;
use super::step::{Setting, Step};
use super::sysctl;
use crate::tap::{self, TapError};
use crate::topology::{IfName, NameError};

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
    /// A kernel setting.
    #[error("can't set {key}: {source}")]
    Sysctl {
        /// Its path under `/proc/sys`.
        key: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A netlink socket of the calling thread's network namespace.
pub struct Netlink {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
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
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// Reads the links; kernel settings are read by [`sysctl::read`] once it is
    /// known which ones matter.
    ///
    /// # Errors
    /// Where the kernel doesn't answer.
    pub async fn observe(&self) -> Result<Observed, LinkError> {
        let mut names = BTreeMap::new();
        let mut links = BTreeMap::new();
        let mut dump = self.handle.link().get().execute();
        while let Some(message) = dump.try_next().await.map_err(asked("listing links"))? {
            if let Some((name, link)) = read_link(&message) {
                names.insert(link.index, name.clone());
                links.insert(name, link);
            }
        }
        self.read_addresses(&names, &mut links).await?;
        self.read_fdb(&names, &mut links).await?;
        let mut default_route = self.default_routes(&names).await?;
        default_route.retain(|name| links.get(name).is_some_and(|link| !link.is_ours()));
        Ok(Observed { links, default_route, sysctls: BTreeMap::new() })
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

    async fn default_routes(&self, names: &BTreeMap<u32, String>) -> Result<BTreeSet<String>, LinkError> {
        let mut found = BTreeSet::new();
        for message in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let mut dump = self.handle.route().get(message).execute();
            while let Some(route) = dump.try_next().await.map_err(asked("listing routes"))? {
                let main = route.header.table == RouteHeader::RT_TABLE_MAIN;
                if !main || route.header.destination_prefix_length != 0 {
                    continue;
                }
                for attribute in &route.attributes {
                    match attribute {
                        RouteAttribute::Oif(index) => found.extend(names.get(index).cloned()),
                        RouteAttribute::MultiPath(hops) => {
                            found.extend(
                                hops.iter().filter_map(|hop| names.get(&hop.interface_index).cloned()),
                            );
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(found)
    }

    async fn index(&self, name: &str) -> Result<u32, LinkError> {
        let mut found = self.handle.link().get().match_name(name.to_string()).execute();
        match found.try_next().await {
            Ok(Some(message)) => Ok(message.header.index),
            _ => Err(LinkError::Gone(name.into())),
        }
    }

    /// Does one step.
    ///
    /// # Errors
    /// Where the kernel refuses; then the step did nothing.
    pub async fn execute(&self, step: &Step) -> Result<(), LinkError> {
        match step {
            Step::CreateBridge { name, mac } => {
                let message = LinkBridge::new(name)
                    .address(mac.octets().to_vec())
                    .link_group(GROUP)
                    .stp_state(BridgeStpState::Disabled)
                    .mcast_snooping(false)
                    .group_fwd_mask(LLDP_MASK)
                    .build();
                self.handle.link().add(message).execute().await.map_err(asked(step))
            }
            Step::CreateTap { name } => self.create_tap(name).await,
            Step::Set { name, setting } => self.set(step, name, setting).await,
            Step::AddAddress { name, address } => {
                let index = self.index(name).await?;
                let mut request = self.handle.address().add(index, address.addr(), address.prefix_len());
                if matches!(address, IpNet::V6(_)) {
                    // Nobody else can have the gateway's address: its ports see to that.
                    request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
                    request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
                }
                request.execute().await.map_err(asked(step))
            }
            Step::RemoveAddress { name, address } => {
                let index = self.index(name).await?;
                let message = self
                    .handle
                    .address()
                    .add(index, address.addr(), address.prefix_len())
                    .message_mut()
                    .clone();
                self.handle.address().del(message).execute().await.map_err(asked(step))
            }
            Step::AddFdb { name, mac } => {
                let index = self.index(name).await?;
                let request = self.handle.neighbours().add_bridge(index, &mac.octets());
                let request =
                    request.state(NeighbourState::Noarp).flags(NeighbourFlags::Controller).replace();
                request.execute().await.map_err(asked(step))
            }
            Step::RemoveFdb { name, mac } => {
                let mut message = NeighbourMessage::default();
                message.header.family = AddressFamily::Bridge;
                message.header.ifindex = self.index(name).await?;
                message.header.flags = NeighbourFlags::Controller;
                message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
                self.handle.neighbours().del(message).execute().await.map_err(asked(step))
            }
            Step::Delete { name } => {
                let index = self.index(name).await?;
                self.handle.link().del(index).execute().await.map_err(asked(step))
            }
            Step::Sysctl(setting) => sysctl::write(&setting.key, &setting.value)
                .map_err(|source| LinkError::Sysctl { key: setting.key.clone(), source }),
        }
    }

    /// The TAP has another name until it bears hostctl's mark, so a crash
    /// leaves none that looks like somebody else's.
    async fn create_tap(&self, name: &str) -> Result<(), LinkError> {
        tap::create(&IfName::new(UNMARKED_TAP)?)?;
        let index = self.index(UNMARKED_TAP).await?;
        let message = LinkUnspec::new_with_index(index).link_group(GROUP).name(name).build();
        self.handle.link().set(message).execute().await.map_err(asked(&format!("creating {name}")))
    }

    async fn set(&self, step: &Step, name: &str, setting: &Setting) -> Result<(), LinkError> {
        let index = self.index(name).await?;
        let link = || LinkUnspec::new_with_index(index);
        let message = match setting {
            Setting::Mac(mac) => link().address(mac.octets().to_vec()).build(),
            Setting::Group => link().link_group(GROUP).build(),
            Setting::Alias(alias) => link().alias(alias).build(),
            Setting::Altname(altname) => {
                let request = self.handle.link().property_add(index).alt_ifname(&[altname]);
                return request.execute().await.map_err(asked(step));
            }
            Setting::NoStp => {
                return self.set_bridge(step, index, InfoBridge::StpState(BridgeStpState::Disabled)).await;
            }
            Setting::NoMulticastSnooping => {
                return self.set_bridge(step, index, InfoBridge::MulticastSnooping(false)).await;
            }
            Setting::FilterLldp => {
                return self.set_bridge(step, index, InfoBridge::GroupFwdMask(LLDP_MASK)).await;
            }
            Setting::Bridge(bridge) => link().controller(self.index(bridge).await?).build(),
            Setting::NoBridge => link().nocontroller().build(),
            Setting::QuietPort => {
                let message = LinkBridgePort::new(index).learning(false).flood(false).build();
                return self.handle.link().set_port(message).execute().await.map_err(asked(step));
            }
            Setting::Up => link().up().build(),
        };
        self.handle.link().set(message).execute().await.map_err(asked(step))
    }

    async fn set_bridge(&self, step: &Step, index: u32, info: InfoBridge) -> Result<(), LinkError> {
        let message = LinkMessageBuilder::<LinkBridge>::default().index(index).append_info_data(info).build();
        self.handle.link().change(message).execute().await.map_err(asked(step))
    }
}

/// Says what was asked for, where the kernel says no.
fn asked(action: &(impl ToString + ?Sized)) -> impl Fn(rtnetlink::Error) -> LinkError {
    let action = action.to_string();
    move |source| LinkError::Request { action: action.clone(), source }
}

fn read_link(message: &LinkMessage) -> Option<(String, Link)> {
    let mut name = None;
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
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| read_info(info, &mut link)),
            _ => {}
        }
    }
    Some((name?, link))
}

fn read_info(info: &LinkInfo, link: &mut Link) {
    match info {
        LinkInfo::Kind(kind) => link.kind = kind.to_string(),
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
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
