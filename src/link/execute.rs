//! Carries one step out, over rtnetlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{BridgeStpState, InfoBridge, InfoData, InfoVeth, LinkAttribute};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use super::desired::{INSIDE, LLDP_MASK};
use super::guarded;
use super::namespace;
use super::netlink::{LinkError, Netlink, asked};
use super::offload;
use super::step::{Setting, Step};
use super::sysctl;
use crate::ownership::LINK_GROUP;
use crate::tap;
use crate::topology::{IfName, MacAddr};

impl Netlink {
    pub(super) fn index(&self, name: &str) -> Result<u32, LinkError> {
        self.line.index(name).map_err(|_| LinkError::Gone(name.into()))
    }

    /// A link that is gone needs no deletion: the kernel takes a namespace's
    /// away a while after the namespace.
    async fn delete(&self, step: &Step, name: &str) -> Result<(), LinkError> {
        let index = match self.index(name) {
            Err(LinkError::Gone(_)) => return Ok(()),
            found => found?,
        };
        let gone = |error: &rtnetlink::Error| {
            matches!(error, rtnetlink::Error::NetlinkError(message)
                if message.to_io().raw_os_error() == Some(nix::libc::ENODEV))
        };
        match self.handle.link().del(index).execute().await {
            Err(error) if gone(&error) => Ok(()),
            result => result.map_err(asked(step)),
        }
    }

    /// Does one step.
    ///
    /// # Errors
    /// Where the kernel refuses; then the step did nothing.
    pub async fn execute(&self, step: &Step) -> Result<(), LinkError> {
        let mut queue = self.queue();
        let added = Box::pin(queue.add(0, step)).await;
        added.and_then(|()| queue.finish()).map_err(|(_, error)| error)
    }

    /// Does one that no message of a [queue](super::queue) says.
    pub(super) async fn execute_alone(&self, step: &Step) -> Result<(), LinkError> {
        match step {
            Step::Set { name, setting } => self.set(step, name, setting).await,
            Step::RemoveAddress { name, address } => {
                let message = address_message(self.index(name)?, *address);
                self.handle.address().del(message).execute().await.map_err(asked(step))
            }
            Step::RemoveFdb { name, mac } => {
                let mut message = fdb_message(self.index(name)?, *mac);
                message.header.flags = NeighbourFlags::Controller;
                self.handle.neighbours().del(message).execute().await.map_err(asked(step))
            }
            Step::Delete { name } => self.delete(step, name).await,
            Step::CreateNamespace { name, alias } => self.create_namespace(name, alias),
            Step::DeleteNamespace { name } => {
                self.forget(name);
                namespace::delete(name).map_err(|source| LinkError::Namespace { name: name.clone(), source })
            }
            Step::CreateVeth { name, own, namespace, mac } => {
                self.create_veth(step, name, *own, namespace, *mac).await
            }
            Step::Inside { namespace, step } => match step.as_ref() {
                Step::Sysctl(setting) => {
                    namespace::within(namespace, || sysctl::write(&setting.key, &setting.value))
                        .and_then(|result| result)
                        .map_err(|source| LinkError::Sysctl { key: setting.key.clone(), source })
                }
                Step::Set { name, setting: Setting::WholeChecksums } => {
                    namespace::within(namespace, || offload::write_early(name))
                        .and_then(|result| result)
                        .map_err(|source| LinkError::Checksums { name: name.clone(), source })
                }
                step => Box::pin(self.inside(namespace)?.execute(step)).await,
            },
            Step::AddRoute { name, to, via } => {
                let message = self.route(name, *to, *via).await?;
                self.handle.route().add(message).execute().await.map_err(asked(step))
            }
            Step::RemoveRoute { name, to, via } => {
                let mut message = self.route(name, *to, *via).await?;
                // Whoever made it, and however (fib_table_delete matches these).
                message.header.protocol = RouteProtocol::Unspec;
                message.header.scope = RouteScope::NoWhere;
                message.header.flags = RouteFlags::empty();
                self.handle.route().del(message).execute().await.map_err(asked(step))
            }
            Step::RemoveProxy { name, address } => {
                let message = proxy_message(self.index(name)?, *address);
                self.handle.neighbours().del(message).execute().await.map_err(asked(step))
            }
            Step::RemoveNeighbour { name, address, .. } => {
                let message = neighbour_message(self.index(name)?, *address, None);
                self.handle.neighbours().del(message).execute().await.map_err(asked(step))
            }
            Step::CreateBridge { .. }
            | Step::CreateTap { .. }
            | Step::AddAddress { .. }
            | Step::AddFdb { .. }
            | Step::AddProxy { .. }
            | Step::AddNeighbour { .. }
            | Step::Sysctl(_) => Err(LinkError::Route(format!("{step} isn't done alone"))),
        }
    }

    async fn set(&self, step: &Step, name: &str, setting: &Setting) -> Result<(), LinkError> {
        let index = self.index(name)?;
        let message = match setting {
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
            Setting::Reclaim => return Ok(tap::reclaim(&IfName::new(name)?)?),
            Setting::WholeChecksums => {
                let failed = |source| LinkError::Checksums { name: name.into(), source };
                return offload::write_early(name).map_err(failed);
            }
            Setting::Guard => return self.guard(name, index),
            Setting::NoGuard => return guarded::detach(name, index),
            Setting::NoBridge => LinkUnspec::new_with_index(index).nocontroller().build(),
            Setting::Down => LinkUnspec::new_with_index(index).down().build(),
            Setting::Mac(_)
            | Setting::Group
            | Setting::Alias(_)
            | Setting::Bridge(_)
            | Setting::QuietPort
            | Setting::Up => return Err(LinkError::Route(format!("{step} isn't done alone"))),
        };
        self.handle.link().set(message).execute().await.map_err(asked(step))
    }

    async fn set_bridge(&self, step: &Step, index: u32, info: InfoBridge) -> Result<(), LinkError> {
        let message = LinkMessageBuilder::<LinkBridge>::default().index(index).append_info_data(info).build();
        self.handle.link().change(message).execute().await.map_err(asked(step))
    }

    /// The namespace bears hostctl's mark before it has a name.
    fn create_namespace(&self, name: &str, alias: &str) -> Result<(), LinkError> {
        let mark = || -> io::Result<()> {
            // Whoever runs in it may ping without privileges (icmp(7)).
            sysctl::write("net/ipv4/ping_group_range", "0 2147483647")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection()?;
                let task = tokio::spawn(connection);
                let message = LinkUnspec::new_with_name("lo").alias(alias).build();
                let result = handle.link().set(message).execute().await;
                task.abort();
                result.map_err(|error| io::Error::other(error.to_string()))
            })
        };
        self.forget(name);
        namespace::create(name, mark).map_err(|source| LinkError::Namespace { name: name.into(), source })
    }

    async fn create_veth(
        &self,
        step: &Step,
        name: &str,
        own: Option<MacAddr>,
        namespace: &str,
        mac: MacAddr,
    ) -> Result<(), LinkError> {
        let failed = |source| LinkError::Namespace { name: namespace.into(), source };
        let file = namespace::open(namespace).map_err(failed)?;
        let peer = LinkUnspec::new_with_name(INSIDE)
            .address(mac.octets().to_vec())
            .setns_by_fd(std::os::fd::AsRawFd::as_raw_fd(&file))
            .build();
        let mut message = LinkVeth::new(name, INSIDE).link_group(LINK_GROUP);
        if let Some(own) = own {
            message = message.address(own.octets().to_vec());
        }
        let mut message = message.build();
        for attribute in &mut message.attributes {
            if let LinkAttribute::LinkInfo(infos) = attribute {
                for info in infos {
                    if let netlink_packet_route::link::LinkInfo::Data(InfoData::Veth(veth)) = info {
                        *veth = InfoVeth::Peer(peer.clone());
                    }
                }
            }
        }
        self.handle.link().add(message).execute().await.map_err(asked(step))
    }

    async fn route(&self, name: &str, to: IpNet, via: IpAddr) -> Result<RouteMessage, LinkError> {
        let index = self.index(name)?;
        let builder = RouteMessageBuilder::<IpAddr>::new().output_interface(index);
        let prefix = builder.destination_prefix(to.network(), to.prefix_len());
        let message = prefix.and_then(|builder| builder.gateway(via)).map(|builder| builder.build());
        let mut message = message.map_err(|error| LinkError::Route(error.to_string()))?;
        // The gateway needn't lie in a prefix of the link's.
        message.header.flags |= RouteFlags::Onlink;
        message.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::PrefSource(_)));
        Ok(message)
    }
}

pub(super) fn address_message(index: u32, address: IpNet) -> AddressMessage {
    match address {
        IpNet::V4(net) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(net.addr(), net.prefix_len())
            .build(),
        IpNet::V6(net) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(index)
            .address(net.addr(), net.prefix_len())
            .build(),
    }
}

pub(super) fn fdb_message(index: u32, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}

pub(super) fn proxy_message(index: u32, address: Ipv6Addr) -> NeighbourMessage {
    let mut message = neighbour_message(index, address.into(), None);
    message.header.flags = NeighbourFlags::Proxy;
    message
}

/// The entry of an address, permanent where it has a MAC.
pub(super) fn neighbour_message(index: u32, address: IpAddr, mac: Option<MacAddr>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = index;
    let (family, destination) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message.attributes.push(NeighbourAttribute::Destination(destination));
    if let Some(mac) = mac {
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
    }
    message
}
