//! A guest without QEMU: a namespace behind the host's real TAP port.
//!
//! ```text
//! guest namespace                       hypervisor namespace
//! sockets -- eth0 (a TAP) == pump thread == vm-<name> (the port) -- bridge
//!                                 inject() --^    `--> received()
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::capture::FrameLog;
use super::links::Route;
use super::netns::Netns;
use super::service::{Service, usual_services};
use super::tap::{MAX_FRAME, Tap};
use super::worker::Worker;
use crate::topology::Port;

/// The guest's interface.
const INTERFACE: &str = "eth0";

/// RFC 4291, 2.5.6.
const LINK_LOCAL6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// How long a port may take to start to forward.
const CARRIER: Duration = Duration::from_secs(5);

/// What the guest does: believe no router, and show no address but its own.
const SYSCTLS: [(&str, &str); 4] = [
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/addr_gen_mode", "0"),
    ("net/ipv6/conf/default/use_tempaddr", "0"),
];

/// A guest without QEMU, attached to a TAP port of the hypervisor's. It has
/// the MAC, addresses and default routes of its [`Port`], and reaches the
/// host by frames through that port only.
#[derive(Debug)]
pub struct FakeGuest {
    netns: Netns,
    port: Arc<Tap>,
    received: Arc<FrameLog>,
    _pump: Worker,
}

impl FakeGuest {
    /// Attaches to the existing TAP of `port`.
    ///
    /// # Errors
    /// When the TAP isn't there or someone else holds it, and when it gets no
    /// carrier (it has to be up).
    pub fn attach(hypervisor: &Netns, port: &Port) -> io::Result<Self> {
        let name = port.interface.as_str();
        // Opening a TAP that isn't there would make it.
        hypervisor.ifindex(name)?;
        let tap = Tap::open(hypervisor, name)?;
        Self::behind(hypervisor, tap, port)
    }

    /// As [`FakeGuest::attach`] where nothing has made the port: makes the
    /// TAP, puts it on the bridge of `port` and sets it up. It is gone when
    /// the guest is.
    ///
    /// # Errors
    /// When the bridge isn't there or the TAP is.
    pub fn attach_to_new_port(hypervisor: &Netns, port: &Port) -> io::Result<Self> {
        let name = port.interface.as_str();
        let tap = Tap::open(hypervisor, name)?;
        hypervisor.links(async |links| {
            links.enslave(name, port.bridge.as_str()).await?;
            links.up(name).await
        })?;
        Self::behind(hypervisor, tap, port)
    }

    fn behind(hypervisor: &Netns, tap: Tap, port: &Port) -> io::Result<Self> {
        let netns = Netns::new()?;
        for (path, value) in SYSCTLS {
            netns.sysctl_set(path, value)?;
        }
        let inside = Tap::open(&netns, INTERFACE)?;
        let outside = Arc::new(tap);
        let received = Arc::new(FrameLog::default());
        let pump = pump(Arc::clone(&outside), inside, Arc::clone(&received))?;
        netns.links(async |links| {
            links.set_mac(INTERFACE, port.mac.octets()).await?;
            links.up(INTERFACE).await?;
            links.wait_running(INTERFACE, CARRIER).await?;
            for (address, gateway) in addressing(port) {
                links.add_address(INTERFACE, address).await?;
                if let IpNet::V6(own) = address {
                    links.wait_own(INTERFACE, own.addr().into(), CARRIER).await?;
                }
                if !address.contains(&gateway) {
                    let to = IpNet::from(gateway);
                    links.add_route(Route { to, via: None, dev: INTERFACE }).await?;
                }
                let to = everything(gateway);
                links.add_route(Route { to, via: Some(gateway), dev: INTERFACE }).await?;
            }
            Ok(())
        })?;
        hypervisor.links(async |links| {
            links.wait_running(port.interface.as_str(), CARRIER).await?;
            links.wait_running(port.bridge.as_str(), CARRIER).await?;
            match port.v6 {
                // The host looks for the guest from its link-local address.
                Some(_) => links.wait_own(port.bridge.as_str(), LINK_LOCAL6, CARRIER).await,
                None => Ok(()),
            }
        })?;
        Ok(Self { netns, port: outside, received, _pump: pump })
    }

    /// The guest's namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Sends a raw frame into the port, as a guest would that keeps to no
    /// rule.
    ///
    /// # Errors
    /// Those of [`Tap::send`].
    pub fn inject(&self, frame: &[u8]) -> io::Result<()> {
        self.port.send(frame)
    }

    /// What the port has delivered to the guest, VLAN tags included.
    pub fn received(&self) -> &FrameLog {
        &self.received
    }

    /// Starts the usual services in the guest: TCP 80 and 22, UDP 7.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn serve(&self, name: &str) -> io::Result<Vec<Service>> {
        usual_services(&self.netns, name)
    }
}

/// The addresses a guest configures, each with its gateway.
fn addressing(port: &Port) -> Vec<(IpNet, IpAddr)> {
    let v4 = IpNet::new(port.address.into(), port.prefix).ok().map(|net| (net, port.gateway.into()));
    let v6 = port.v6.as_ref().and_then(|v6| {
        let net = IpNet::new(v6.address.into(), v6.prefix).ok()?;
        Some((net, v6.gateway.into()))
    });
    v4.into_iter().chain(v6).collect()
}

/// The prefix of a default route, of the gateway's family.
fn everything(gateway: IpAddr) -> IpNet {
    match gateway {
        IpAddr::V4(_) => Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Carries frames both ways until told to stop. A frame that a side won't
/// take (an interface that is down) is lost, as on a wire.
fn pump(outside: Arc<Tap>, inside: Tap, received: Arc<FrameLog>) -> io::Result<Worker> {
    Worker::spawn("guest-pump", move |stop| {
        let mut buffer = vec![0; MAX_FRAME];
        while let Some([from_host, from_guest]) = stop.wait_readable([outside.as_fd(), inside.as_fd()]) {
            if from_host {
                match outside.receive(&mut buffer) {
                    Ok(Some(frame)) => {
                        received.push(frame);
                        let _ = inside.send(frame);
                    }
                    Ok(None) => {}
                    // The port was deleted: nothing will come any more.
                    Err(_) => return,
                }
            }
            if from_guest && let Ok(Some(frame)) = inside.receive(&mut buffer) {
                let _ = outside.send(frame);
            }
        }
    })
}
