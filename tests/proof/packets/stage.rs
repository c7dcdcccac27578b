//! A host with all its guests, and those around it, each able to send any
//! packet.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use hostctl::reach::{Entry, Flow};
use hostctl::testbed::{FakeGuest, Netns, Options, Route, address};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};

use super::super::scene::{Scene, UPLINK};
use super::listen::{End, HOST, INTERNET, LAPTOP, Listener, METADATA};
use super::wire;
use crate::support::lab::Lab;

/// Somebody who sends.
enum Sender {
    /// Frames into a VM's port.
    Port { guest: FakeGuest, own: [u8; 6], gateway: [u8; 6] },
    /// Packets with any header, routed as its namespace routes them.
    Raw { v4: OwnedFd, v6: OwnedFd },
}

/// Whether a probe could be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Yes,
    /// The host's own rules were against it.
    Refused,
}

/// A host that a spec was applied to.
pub struct Stage {
    senders: HashMap<End, Sender>,
    pub listener: Listener,
}

pub fn lab() -> Lab {
    let lab = Lab::new(Options::default());
    // The internet tries private addresses, and the laptop everything.
    let to = |net: &str| net.parse().unwrap();
    lab.world
        .internet
        .links(async |links| {
            for (net, via) in [
                ("10.0.0.0/8", address::UPLINK.into()),
                ("100.64.0.0/10", address::UPLINK.into()),
                ("169.254.0.0/16", address::UPLINK.into()),
                ("168.63.129.16/32", address::UPLINK.into()),
                ("fd00::/8", address::UPLINK6.into()),
            ] {
                links.add_route(Route { to: to(net), via: Some(via), dev: "eth0" }).await?;
            }
            Ok(())
        })
        .unwrap();
    lab.world
        .laptop
        .links(async |links| {
            for (net, via) in [("0.0.0.0/0", address::TAILSCALE.into()), ("::/0", address::TAILSCALE6.into())]
            {
                links.add_route(Route { to: to(net), via: Some(via), dev: "tailnet0" }).await?;
            }
            Ok(())
        })
        .unwrap();
    lab
}

impl Stage {
    /// Puts guests on the ports of an applied spec, and listens everywhere.
    pub fn new(lab: &Lab, scene: &Scene) -> Self {
        let world = &lab.world;
        let mut senders = HashMap::new();
        let mut ends: Vec<(End, Netns)> = vec![
            (INTERNET.into(), world.internet.clone()),
            (METADATA.into(), world.metadata.clone()),
            (LAPTOP.into(), world.laptop.clone()),
        ];
        for (end, netns) in [(INTERNET, &world.internet), (LAPTOP, &world.laptop), (HOST, &world.hypervisor)]
        {
            senders.insert(end.into(), Sender::raw(netns).unwrap());
        }
        for vm in &scene.topology.vms {
            let guest = FakeGuest::attach(&world.hypervisor, &vm.port).unwrap();
            let network = scene.topology.network(&vm.port.network).unwrap();
            ends.push((vm.port.interface.to_string(), guest.netns().clone()));
            let (own, gateway) = (vm.port.mac.octets(), network.mac.octets());
            senders.insert(vm.port.interface.to_string(), Sender::Port { guest, own, gateway });
        }
        for namespace in &scene.topology.namespaces {
            let netns = Netns::named(namespace.name.as_str()).unwrap();
            senders.insert(namespace.port.interface.to_string(), Sender::raw(&netns).unwrap());
            ends.push((namespace.port.interface.to_string(), netns));
        }
        let listener = Listener::start(&ends, &world.hypervisor).unwrap();
        let stage = Self { senders, listener };
        stage.meet(scene);
        stage
    }

    /// Lets namespaces find their gateway, so that probes don't wait for that
    /// in a queue that is too short for them.
    fn meet(&self, scene: &Scene) {
        for namespace in &scene.topology.namespaces {
            let port = &namespace.port;
            let entry = Entry::Guest(port.interface.clone());
            let flow = Flow {
                entry,
                source: port.address.into(),
                destination: port.gateway.into(),
                protocol: 17,
                port: 9,
            };
            self.send(&flow, u32::MAX).unwrap();
            if let Some(v6) = &port.v6 {
                let flow = Flow { source: v6.address.into(), destination: v6.gateway.into(), ..flow };
                self.send(&flow, u32::MAX).unwrap();
            }
        }
        self.listener.quiet(Duration::from_millis(50));
    }

    /// Sends a flow's first packet.
    ///
    /// # Errors
    /// Where it couldn't be sent at all.
    pub fn send(&self, flow: &Flow, number: u32) -> io::Result<Sent> {
        let name = sender(flow);
        let sender = self.senders.get(&name).ok_or_else(|| io::Error::other(format!("no sender {name}")))?;
        let packet = wire::packet(flow, number);
        match sender {
            Sender::Port { guest, own, gateway } => {
                guest.inject(&wire::frame(*own, *gateway, &packet))?;
                Ok(Sent::Yes)
            }
            Sender::Raw { v4, v6 } => {
                let fd = if flow.destination.is_ipv4() { v4 } else { v6 };
                match sendto(fd, &packet, SendFlags::empty(), &SocketAddr::new(flow.destination, 0)) {
                    Ok(_) => Ok(Sent::Yes),
                    Err(Errno::PERM) if flow.entry == Entry::Host => Ok(Sent::Refused),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

/// The end that a flow comes from.
pub fn sender(flow: &Flow) -> End {
    match &flow.entry {
        Entry::Guest(port) => port.to_string(),
        Entry::Host => HOST.into(),
        Entry::Interface(name) if name.as_str() == UPLINK => INTERNET.into(),
        Entry::Interface(_) => LAPTOP.into(),
    }
}

/// The end that has an address.
pub fn owner(scene: &Scene, flow: &Flow) -> Option<End> {
    let to = flow.destination;
    let guest =
        scene.topology.ports().find(|port| super::super::scene::addresses_of(port).any(|own| own == to));
    let gateways = scene.topology.networks.iter().flat_map(|network| {
        [Some(network.gateway.into()), network.gateway6.map(Into::into)].into_iter().flatten()
    });
    let mut host = gateways.chain(scene.vicinity.addresses.iter().map(|(_, address)| *address));
    let is = |v4: Ipv4Addr, v6: Ipv6Addr| to == v4 || to == v6;
    if let Some(port) = guest {
        Some(port.interface.to_string())
    } else if host.any(|own| own == to) {
        Some(HOST.into())
    } else if is(address::FAR, address::FAR6) {
        Some(INTERNET.into())
    } else if is(address::LAPTOP, address::LAPTOP6) {
        Some(LAPTOP.into())
    } else if is(address::METADATA, address::METADATA6) || to == address::METADATA_TWINS[0] {
        Some(METADATA.into())
    } else {
        None
    }
}

impl Sender {
    fn raw(netns: &Netns) -> io::Result<Self> {
        let open = |family| {
            let open = || socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW));
            io::Result::Ok(netns.try_run(open)??)
        };
        Ok(Self::Raw { v4: open(AddressFamily::INET)?, v6: open(AddressFamily::INET6)? })
    }
}
