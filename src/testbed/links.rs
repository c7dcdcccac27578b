//! Links, addresses and routes of one namespace, over route netlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use ipnet::{IpNet, Ipv6Net};
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::netns::Netns;

/// A route-netlink connection inside one namespace; see [`Netns::links`].
#[derive(Debug, Clone)]
pub struct Links {
    handle: Handle,
}

/// A route to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'a> {
    /// Where it leads.
    pub to: IpNet,
    /// The next hop; without one the destination is on the link itself. It
    /// needn't lie in a prefix of the interface's (`onlink`).
    pub via: Option<IpAddr>,
    /// The interface it goes out of.
    pub dev: &'a str,
}

impl Links {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// The connection itself, for what isn't here.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What the kernel says of the link named `name`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get(&self, name: &str) -> io::Result<LinkMessage> {
        let mut found = Box::pin(self.handle.link().get().match_name(name).execute());
        let link = found.try_next().await.map_err(|error| context(&format!("no link {name}"), error))?;
        link.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link {name}")))
    }

    /// The index of the link named `name`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn index(&self, name: &str) -> io::Result<u32> {
        Ok(self.get(name).await?.header.index)
    }

    /// Makes a veth pair, both ends in this namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn add_veth(&self, name: &str, peer: &str) -> io::Result<()> {
        let request = self.handle.link().add(LinkVeth::new(name, peer).build());
        request.execute().await.map_err(|error| context(&format!("can't make the veth {name}"), error))
    }

    /// Makes a bridge.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn add_bridge(&self, name: &str) -> io::Result<()> {
        let request = self.handle.link().add(LinkBridge::new(name).build());
        request.execute().await.map_err(|error| context(&format!("can't make the bridge {name}"), error))
    }

    /// Moves a link into another namespace; it keeps its name.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn move_to(&self, name: &str, netns: &Netns) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(self.index(name).await?).setns_by_fd(netns.fd().as_raw_fd());
        self.set(name, message).await
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn up(&self, name: &str) -> io::Result<()> {
        self.set(name, LinkUnspec::new_with_index(self.index(name).await?).up()).await
    }

    /// Makes a link a port of a bridge.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn enslave(&self, name: &str, bridge: &str) -> io::Result<()> {
        let bridge = self.index(bridge).await?;
        self.set(name, LinkUnspec::new_with_index(self.index(name).await?).controller(bridge)).await
    }

    /// Sets a link's Ethernet address.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn set_mac(&self, name: &str, mac: [u8; 6]) -> io::Result<()> {
        self.set(name, LinkUnspec::new_with_index(self.index(name).await?).address(mac.to_vec())).await
    }

    /// Turns neighbour resolution off: frames are sent to the link's own MAC,
    /// so the other end has to have the same one.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn set_noarp(&self, name: &str) -> io::Result<()> {
        self.set(name, LinkUnspec::new_with_index(self.index(name).await?).arp(false)).await
    }

    /// Adds an address with its prefix length; IPv6 without duplicate
    /// address detection.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn add_address(&self, dev: &str, address: IpNet) -> io::Result<()> {
        let index = self.index(dev).await?;
        let mut request = self.handle.address().add(index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        }
        request.execute().await.map_err(|error| context(&format!("can't add {address} to {dev}"), error))
    }

    /// Adds a route to the main table.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn add_route(&self, route: Route<'_>) -> io::Result<()> {
        let dev = self.index(route.dev).await?;
        let length = route.to.prefix_len();
        let failed = |error| context(&format!("can't add the route to {} by {}", route.to, route.dev), error);
        let message = match (route.to.network(), route.via) {
            (IpAddr::V4(to), None) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to, length)
                .scope(RouteScope::Link)
                .output_interface(dev)
                .build(),
            (IpAddr::V4(to), Some(IpAddr::V4(via))) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to, length)
                .gateway(via)
                .onlink()
                .output_interface(dev)
                .build(),
            (IpAddr::V6(to), None) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(to, length)
                .output_interface(dev)
                .build(),
            (IpAddr::V6(to), Some(IpAddr::V6(via))) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(to, length)
                .gateway(via)
                .onlink()
                .output_interface(dev)
                .build(),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "a route by the other family")),
        };
        self.handle.route().add(message).execute().await.map_err(failed)
    }

    /// Waits until a link carries frames: it is up and its other end is.
    ///
    /// # Errors
    /// When there is none, or it isn't so after `timeout`.
    pub async fn wait_running(&self, name: &str, timeout: Duration) -> io::Result<()> {
        let end = Instant::now() + timeout;
        while !self.get(name).await?.header.flags.contains(LinkFlags::Running) {
            if Instant::now() >= end {
                let message = format!("{name} has no carrier after {timeout:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        Ok(())
    }

    /// Waits until the kernel takes packets that are for an IPv6 address of
    /// `dev`'s within `net`. Such an address is listed at once where the link is
    /// up, and becomes the namespace's own when a worker of the kernel's gets to
    /// it: under load the first packet comes before that, and is lost.
    ///
    /// # Errors
    /// When it isn't so after `timeout`.
    pub async fn wait_own(&self, dev: &str, net: Ipv6Net, timeout: Duration) -> io::Result<()> {
        let end = Instant::now() + timeout;
        while !own6(dev)?.iter().any(|own| net.contains(own)) {
            if Instant::now() >= end {
                let message = format!("{dev} has no address of its own in {net} after {timeout:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        Ok(())
    }

    async fn set(&self, name: &str, message: LinkMessageBuilder<LinkUnspec>) -> io::Result<()> {
        let request = self.handle.link().set(message.build());
        request.execute().await.map_err(|error| context(&format!("can't change {name}"), error))
    }
}

/// The IPv6 addresses of `dev` that the kernel takes packets for: local routes,
/// with RTF_LOCAL of `linux/ipv6_route.h` in the last field but one.
fn own6(dev: &str) -> io::Result<Vec<Ipv6Addr>> {
    const RTF_LOCAL: u32 = 0x8000_0000;
    let routes = std::fs::read_to_string("/proc/thread-self/net/ipv6_route")?;
    let own = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, "80", .., flags, at] = fields.as_slice() else { return None };
        let local = u32::from_str_radix(flags, 16).ok()? & RTF_LOCAL != 0 && *at == dev;
        local.then_some(Ipv6Addr::from_bits(u128::from_str_radix(address, 16).ok()?))
    };
    Ok(routes.lines().filter_map(own).collect())
}

/// An I/O error that says what was tried; the kernel's error number decides
/// its kind.
fn context(what: &str, error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            let error = message.to_io();
            io::Error::new(error.kind(), format!("{what}: {error}"))
        }
        other => io::Error::other(format!("{what}: {other}")),
    }
}
