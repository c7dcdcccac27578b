//! The world around a hypervisor.
//!
//! ```text
//!   internet        metadata                    laptop
//!  198.51.100.1   169.254.169.254            100.64.50.50
//!  203.0.113.1        |                           |
//!      |              |                           | no ARP, like a tunnel
//!    --+-- one link --+--                         |
//!             |                                   |
//!          uplink0 ---------- hypervisor ---- tailscale0
//!        198.51.100.2                       100.101.102.103
//! ```
//!
//! The internet has no route to private addresses, so a packet that wasn't
//! masqueraded is seen there and never answered.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::packet::prefix;

use super::links::Route;
use super::netns::Netns;
use super::service::{Service, usual_services};

/// Who has which address in a [`World`].
pub mod address {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use crate::packet::prefix;

    /// The hypervisor's on `uplink0`; masqueraded packets come from it.
    pub const UPLINK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
    /// As [`UPLINK`].
    pub const UPLINK6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 2);
    /// The router: the hypervisor's default gateway.
    pub const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    /// As [`ROUTER`].
    pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1);
    /// A server on the internet, behind the router.
    pub const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    /// As [`FAR`].
    pub const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1);
    /// The cloud's metadata service.
    pub const METADATA: Ipv4Addr = prefix::IMDS4;
    /// As [`METADATA`], of AWS.
    pub const METADATA6: Ipv6Addr = prefix::IMDS6;
    /// Where other clouds have theirs: Azure and Alibaba.
    pub const METADATA_TWINS: [Ipv4Addr; 2] = prefix::OTHER_IMDS4;
    /// As [`METADATA_TWINS`]: Google and Scaleway.
    pub const METADATA_TWINS6: [Ipv6Addr; 2] = prefix::OTHER_IMDS6;
    /// The hypervisor's on `tailscale0`.
    pub const TAILSCALE: Ipv4Addr = Ipv4Addr::new(100, 101, 102, 103);
    /// As [`TAILSCALE`].
    pub const TAILSCALE6: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1);
    /// Another machine on the tailnet.
    pub const LAPTOP: Ipv4Addr = Ipv4Addr::new(100, 64, 50, 50);
    /// As [`LAPTOP`].
    pub const LAPTOP6: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0x50);
}

/// The MAC of both ends of the tailnet's link: without neighbour resolution a
/// frame goes to the sender's own address.
const TAILNET_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x7a, 0x11];

/// How long a veth may take to come up.
const CARRIER: Duration = Duration::from_secs(5);

/// What the metadata service answers.
const METADATA_ROUTES: [(&str, &str); 1] = [("/latest/meta-data/instance-id", "i-0123456789abcdef0")];

/// What a [`World`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Addresses and routes of IPv6; without it IPv6 is disabled everywhere.
    pub ipv6: bool,
    /// `tailscale0` and the laptop's link.
    pub tailnet: bool,
    /// Sets `net.bridge.bridge-nf-call-iptables` and its IPv6 twin in the
    /// hypervisor, where the kernel has them.
    pub bridge_nf_call_iptables: Option<bool>,
}

impl Default for Options {
    fn default() -> Self {
        Self { ipv6: true, tailnet: true, bridge_nf_call_iptables: None }
    }
}

/// A hypervisor's surroundings, made anew; dropping it ends its services and
/// frees its namespaces.
#[derive(Debug)]
pub struct World {
    /// Where hostctl works: `uplink0`, `tailscale0`, nothing else.
    pub hypervisor: Netns,
    /// The router and the far server, on `eth0`.
    pub internet: Netns,
    /// The metadata service, on `eth0`; it knows no one but its neighbours.
    pub metadata: Netns,
    /// The tailnet's other machine, on `tailnet0`; it routes 10.0.0.0/8 and
    /// fd00::/8 by the hypervisor.
    pub laptop: Netns,
    /// What runs: the usual services in `internet` and `laptop`, HTTP in
    /// `metadata`.
    pub services: Vec<Service>,
    /// The link that they share; it would be gone without its descriptor.
    _wire: Netns,
}

impl World {
    /// Makes the namespaces, wires them up and starts the services.
    ///
    /// # Errors
    /// Where namespaces or links can't be made.
    pub fn new(options: Options) -> io::Result<Self> {
        let [hypervisor, internet, metadata, laptop, wire] =
            [Netns::new()?, Netns::new()?, Netns::new()?, Netns::new()?, Netns::new()?];
        if !options.ipv6 {
            for netns in [&hypervisor, &internet, &metadata, &laptop, &wire] {
                netns.sysctl_set("net/ipv6/conf/all/disable_ipv6", "1")?;
                netns.sysctl_set("net/ipv6/conf/default/disable_ipv6", "1")?;
            }
        }
        connect(&wire, &[(&hypervisor, "uplink0"), (&internet, "eth0"), (&metadata, "eth0")])?;
        uplink(&hypervisor, options)?;
        the_internet(&internet, options)?;
        the_metadata(&metadata, options)?;
        if options.tailnet {
            tailnet(&hypervisor, &laptop, options)?;
        }
        if let Some(on) = options.bridge_nf_call_iptables {
            for path in ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"] {
                match hypervisor.sysctl_set(path, if on { "1" } else { "0" }) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    result => result?,
                }
            }
        }
        let mut services = usual_services(&internet, "internet")?;
        services.extend(usual_services(&laptop, "laptop")?);
        let http = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 80);
        services.push(Service::http(&metadata, "metadata", http, &METADATA_ROUTES)?);
        Ok(Self { hypervisor, internet, metadata, laptop, services, _wire: wire })
    }

    /// Every peer that the services of that name have seen on `port`.
    pub fn seen(&self, name: &str, port: u16) -> Vec<SocketAddr> {
        let named = |service: &&Service| service.name() == name && service.address().port() == port;
        self.services.iter().filter(named).flat_map(Service::seen).collect()
    }

    /// Whether bridged frames cross the hypervisor's IP hooks; `None` where
    /// the kernel has no such switch.
    pub fn bridge_nf_call_iptables(&self) -> Option<bool> {
        let value = self.hypervisor.sysctl_get("net/bridge/bridge-nf-call-iptables").ok()?;
        Some(value != "0")
    }
}

/// Joins interfaces of several namespaces in one link: a bridge in `wire`.
fn connect(wire: &Netns, ends: &[(&Netns, &str)]) -> io::Result<()> {
    wire.links(async |links| {
        links.add_bridge("segment").await?;
        links.up("segment").await?;
        for (index, (netns, name)) in ends.iter().enumerate() {
            let port = format!("port{index}");
            links.add_veth(&port, name).await?;
            links.enslave(&port, "segment").await?;
            links.up(&port).await?;
            links.move_to(name, netns).await?;
        }
        Ok(())
    })?;
    for (netns, name) in ends {
        netns.links(async |links| links.up(name).await)?;
    }
    wire.links(async |links| {
        for index in 0..ends.len() {
            links.wait_running(&format!("port{index}"), CARRIER).await?;
        }
        Ok(())
    })
}

fn uplink(hypervisor: &Netns, options: Options) -> io::Result<()> {
    let dev = "uplink0";
    configure(
        hypervisor,
        options,
        &[(dev, net(address::UPLINK, 24)), (dev, net(address::UPLINK6, 64))],
        &[
            (net(std::net::Ipv4Addr::UNSPECIFIED, 0), Some(address::ROUTER.into()), dev),
            (net(Ipv6Addr::UNSPECIFIED, 0), Some(address::ROUTER6.into()), dev),
            (host(address::METADATA), None, dev),
            (host(address::METADATA6), None, dev),
        ],
    )?;
    let twins = address::METADATA_TWINS.map(host).into_iter().chain(address::METADATA_TWINS6.map(host));
    configure(hypervisor, options, &[], &twins.map(|to| (to, None, dev)).collect::<Vec<_>>())
}

fn the_internet(internet: &Netns, options: Options) -> io::Result<()> {
    configure(
        internet,
        options,
        &[
            ("eth0", net(address::ROUTER, 24)),
            ("eth0", net(address::ROUTER6, 64)),
            ("lo", host(address::FAR)),
            ("lo", host(address::FAR6)),
        ],
        &[],
    )
}

fn the_metadata(metadata: &Netns, options: Options) -> io::Result<()> {
    let v4 = [address::METADATA].into_iter().chain(address::METADATA_TWINS).map(host);
    let v6 = [address::METADATA6].into_iter().chain(address::METADATA_TWINS6).map(host);
    let addresses: Vec<_> = v4.chain(v6).map(|address| ("eth0", address)).collect();
    let neighbours = [(net(address::UPLINK, 24), None, "eth0"), (net(address::UPLINK6, 64), None, "eth0")];
    configure(metadata, options, &addresses, &neighbours)
}

fn tailnet(hypervisor: &Netns, laptop: &Netns, options: Options) -> io::Result<()> {
    laptop.links(async |links| {
        links.add_veth("tailnet0", "tailscale0").await?;
        links.move_to("tailscale0", hypervisor).await
    })?;
    for (netns, name) in [(hypervisor, "tailscale0"), (laptop, "tailnet0")] {
        netns.links(async |links| {
            links.set_mac(name, TAILNET_MAC).await?;
            links.set_noarp(name).await?;
            links.up(name).await
        })?;
    }
    laptop.links(async |links| links.wait_running("tailnet0", CARRIER).await)?;
    let here = "tailscale0";
    configure(
        hypervisor,
        options,
        &[(here, host(address::TAILSCALE)), (here, host(address::TAILSCALE6))],
        &[(prefix::TAILNET4.into(), None, here), (prefix::TAILNET6.into(), None, here)],
    )?;
    let there = "tailnet0";
    configure(
        laptop,
        options,
        &[(there, host(address::LAPTOP)), (there, host(address::LAPTOP6))],
        &[
            (host(address::TAILSCALE), None, there),
            (host(address::TAILSCALE6), None, there),
            (net([10, 0, 0, 0], 8), Some(address::TAILSCALE.into()), there),
            (net(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0), 8), Some(address::TAILSCALE6.into()), there),
        ],
    )
}

/// Adds addresses and routes, those of IPv6 only where the world has it.
fn configure(
    netns: &Netns,
    options: Options,
    addresses: &[(&str, IpNet)],
    routes: &[(IpNet, Option<IpAddr>, &str)],
) -> io::Result<()> {
    let wanted = |net: &IpNet| options.ipv6 || net.addr().is_ipv4();
    netns.links(async |links| {
        for (dev, address) in addresses.iter().filter(|(_, address)| wanted(address)) {
            links.add_address(dev, *address).await?;
        }
        for &(to, via, dev) in routes.iter().filter(|(to, ..)| wanted(to)) {
            links.add_route(Route { to, via, dev }).await?;
        }
        Ok(())
    })
}

fn net(address: impl Into<IpAddr>, prefix: u8) -> IpNet {
    IpNet::new_assert(address.into(), prefix)
}

fn host(address: impl Into<IpAddr>) -> IpNet {
    IpNet::from(address.into())
}
