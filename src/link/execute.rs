//! Carries one step out, over rtnetlink.

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use netlink_packet_route::link::{BridgeStpState, InfoBridge, InfoData, InfoVeth, LinkAttribute};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope};
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::desired::{INSIDE, LLDP_MASK};
use super::namespace;
use super::netlink::{LinkError, Netlink, asked};
use super::offload;
use super::step::{Setting, Step};
use super::sysctl;
use crate::ownership::LINK_GROUP;
use crate::tap;
use crate::topology::{IfName, MacAddr};

impl Netlink {
    pub(super) async fn index(&self, name: &str) -> Result<u32, LinkError> {
        if !self.away {
            // Without all that netlink says of a link: a large apply asks a lot.
            return if_nametoindex(name).map_err(|_| LinkError::Gone(name.into()));
        }
        let mut found = self.handle.link().get().match_name(name.to_string()).execute();
        match found.try_next().await {
            Ok(Some(message)) => Ok(message.header.index),
            _ => Err(LinkError::Gone(name.into())),
        }
    }

    /// A link that is gone needs no deletion: the kernel takes a namespace's
    /// away a while after the namespace.
    async fn delete(&self, step: &Step, name: &str) -> Result<(), LinkError> {
        let index = match self.index(name).await {
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
        match step {
            Step::CreateBridge { name, mac } => {
                let message = LinkBridge::new(name)
                    .address(mac.octets().to_vec())
                    .link_group(LINK_GROUP)
                    .stp_state(BridgeStpState::Disabled)
                    .mcast_snooping(false)
                    .group_fwd_mask(LLDP_MASK)
                    .build();
                self.handle.link().add(message).execute().await.map_err(asked(step))
            }
            Step::CreateTap { name, mac } => self.create_tap(name, *mac).await,
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
            Step::AddProxy { name, address } => {
                let index = self.index(name).await?;
                let request = self.handle.neighbours().add(index, (*address).into());
                request.flags(NeighbourFlags::Proxy).replace().execute().await.map_err(asked(step))
            }
            Step::RemoveProxy { name, address } => {
                let mut message = NeighbourMessage::default();
                message.header.family = AddressFamily::Inet6;
                message.header.ifindex = self.index(name).await?;
                message.header.flags = NeighbourFlags::Proxy;
                message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet6(*address)));
                self.handle.neighbours().del(message).execute().await.map_err(asked(step))
            }
            Step::AddNeighbour { name, address, mac } => self.add_neighbour(step, name, *address, *mac).await,
            Step::RemoveNeighbour { name, address, .. } => self.remove_neighbour(step, name, *address).await,
            Step::Sysctl(setting) => sysctl::write(&setting.key, &setting.value)
                .map_err(|source| LinkError::Sysctl { key: setting.key.clone(), source }),
        }
    }

    /// The TAP stays only once it bears hostctl's mark, so a crash leaves none
    /// that looks like somebody else's.
    async fn create_tap(&self, name: &str, mac: Option<MacAddr>) -> Result<(), LinkError> {
        let passing = tap::begin(&IfName::new(name)?)?;
        let mut message = LinkUnspec::new_with_index(self.index(name).await?).link_group(LINK_GROUP);
        if let Some(mac) = mac {
            message = message.address(mac.octets().to_vec());
        }
        let message = message.build();
        self.handle.link().set(message).execute().await.map_err(asked(&format!("creating {name}")))?;
        Ok(passing.persist()?)
    }

    async fn set(&self, step: &Step, name: &str, setting: &Setting) -> Result<(), LinkError> {
        let index = self.index(name).await?;
        let link = || LinkUnspec::new_with_index(index);
        let message = match setting {
            Setting::Mac(mac) => link().address(mac.octets().to_vec()).build(),
            Setting::Group => link().link_group(LINK_GROUP).build(),
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
                let message = LinkBridgePort::new(index).learning(false).flood(false).isolated(true).build();
                return self.handle.link().set_port(message).execute().await.map_err(asked(step));
            }
            Setting::Reclaim => return Ok(tap::reclaim(&IfName::new(name)?)?),
            Setting::WholeChecksums => {
                let failed = |source| LinkError::Checksums { name: name.into(), source };
                return offload::write_early(name).map_err(failed);
            }
            Setting::Up => link().up().build(),
            Setting::Down => link().down().build(),
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
        let index = self.index(name).await?;
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
