//! Neighbour entries over rtnetlink.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourState};

use super::netlink::{LinkError, Netlink, asked};
use super::observed::Link;

impl Netlink {
    /// Writes down with each link of hostctl's the neighbours that are set down for
    /// it: those that were asked for come and go.
    pub(super) async fn read_neighbours(
        &self,
        names: &BTreeMap<u32, String>,
        links: &mut BTreeMap<String, Link>,
    ) -> Result<(), LinkError> {
        let mut dump = self.handle.neighbours().get().execute();
        while let Some(message) = dump.try_next().await.map_err(asked("listing neighbours"))? {
            if message.header.state != NeighbourState::Permanent
                || message.header.flags.contains(NeighbourFlags::Proxy)
            {
                continue;
            }
            let mut mac = None;
            let mut address = None;
            for attribute in &message.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                        address = Some(IpAddr::V4(*found));
                    }
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                        address = Some(IpAddr::V6(*found));
                    }
                    NeighbourAttribute::LinkLayerAddress(found) => {
                        mac = <[u8; 6]>::try_from(found.as_slice()).ok();
                    }
                    _ => {}
                }
            }
            let link = names.get(&message.header.ifindex).and_then(|name| links.get_mut(name));
            if let (Some(address), Some(mac), Some(link)) = (address, mac, link)
                && link.is_ours()
            {
                link.neighbours.insert(address, mac);
            }
        }
        Ok(())
    }
}
