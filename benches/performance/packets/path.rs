//! The way of a packet: a guest's TAP, its bridge, the host, another port.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use hostctl::testbed::frames::{Link, Udp, udp};
use hostctl::testbed::{Netns, Route, Tap};
use hostctl::topology::{Port, Topology};

use crate::harness::host::{Host, UPLINK};
use crate::harness::program::Program;
use crate::harness::specs;

/// Where packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the guest of a peered network.
    Peer,
    /// Out by the uplink.
    Internet,
}

/// Frames of a round: few enough for the tracking table and for the ports of
/// one address.
const FRAMES: u16 = 10_000;
const FIRST_PORT: u16 = 20_000;
/// Where they are sent: the "discard" service.
const PORT: u16 = 9;
/// Addresses that flows to the internet take turns with, so that a translated
/// port is almost always free.
const FAR: u8 = 200;

/// A host with the links of the two last networks of N.
pub struct Path {
    way: Way,
    host: Host,
    tap: Tap,
    guest: Port,
    /// The other end: the peer, or the internet.
    end: Netns,
    socket: UdpSocket,
    frames: Vec<Vec<u8>>,
}

/// N networks with a VM each, the last two peered.
pub fn spec(networks: usize) -> String {
    let (last, other) = (specs::network(networks - 1), specs::network(networks - 2));
    format!("{}[[peerings]]\nbetween = [\"{other}\", \"{last}\"]\n", specs::spec(networks, 1))
}

impl Path {
    /// Baselines, which have no networks, are at the place of 5.
    pub fn new(way: Way, networks: usize) -> Self {
        let topology = specs::compile(&spec(networks.max(5)));
        let host = Host::new();
        let [.., other, last] = topology.vms.as_slice() else { unreachable!() };
        let tap = Tap::open(&host.netns, last.port.interface.as_str()).unwrap();
        wire(&host, &topology, &last.port);
        let end = match way {
            Way::Internet => host.beyond.clone(),
            Way::Peer => peer(&host, &topology, &other.port),
        };
        let socket = end.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mac = topology.network(&last.port.network).unwrap().mac.octets();
        let link = Link { source: last.port.mac.octets(), destination: mac };
        let frame = |index: u16| {
            let destination = match way {
                Way::Peer => other.port.address,
                Way::Internet => Ipv4Addr::new(203, 0, 113, 1 + (index % u16::from(FAR)) as u8),
            };
            frame(link, last.port.address, FIRST_PORT + index, destination)
        };
        let frames = (0..FRAMES).map(frame).collect();
        Self { way, tap, guest: last.port.clone(), end, socket, frames, host }
    }

    /// Loads a firewall.
    pub fn load(&self, loader: &[&str], text: &str) {
        let file = self.host.file("firewall", text);
        Program::new(loader).input(&file).must(&self.host);
    }

    /// New flows a second: every frame opens one.
    pub fn new_flows(&mut self) -> f64 {
        self.forget();
        // Neighbours are found, and what is loaded at first use is loaded.
        self.send(0..64);
        self.measure(64..self.frames.len(), None)
    }

    /// Packets a second of one flow that was answered.
    pub fn one_flow(&mut self) -> f64 {
        self.forget();
        let mut buffer = [0; 64];
        while {
            self.socket.set_nonblocking(true).unwrap();
            self.socket.recv_from(&mut buffer).is_ok()
        } {}
        self.socket.set_nonblocking(false).unwrap();
        self.send(0..1);
        let (_, sender) = self.socket.recv_from(&mut buffer).expect("the firewall let nothing through");
        self.socket.send_to(b"answer", sender).unwrap();
        self.measure(64..self.frames.len(), Some(0))
    }

    fn forget(&self) {
        self.host.output("conntrack", &["-F"]);
    }

    fn send(&self, frames: std::ops::Range<usize>) {
        for frame in &self.frames[frames] {
            self.tap.send(frame).unwrap();
        }
    }

    /// Sends those frames, or as many times the one, and says how many a
    /// second arrived.
    fn measure(&self, frames: std::ops::Range<usize>, only: Option<usize>) -> f64 {
        let count = frames.len() as u64;
        let before = self.arrived();
        let started = Instant::now();
        match only {
            None => self.send(frames),
            Some(index) => frames.for_each(|_| self.tap.send(&self.frames[index]).unwrap()),
        }
        let seconds = started.elapsed().as_secs_f64();
        let arrived = self.arrived() - before;
        assert!(arrived >= count, "{:?}: {arrived} of {count} arrived from {}", self.way, self.guest.address);
        count as f64 / seconds
    }

    /// Packets that the other end's interface took in.
    fn arrived(&self) -> u64 {
        let text = self.end.run(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// A UDP frame of 60 bytes.
fn frame(link: Link, source: Ipv4Addr, port: u16, destination: Ipv4Addr) -> Vec<u8> {
    let (source, destination) = ((source, port).into(), (destination, PORT).into());
    // 14 of Ethernet, 20 of IPv4 and 8 of UDP before it.
    udp(link, Udp { source, destination, payload: &[0; 18] })
}

/// The guest's bridge, with its TAP; the gateway's address; forwarding.
fn wire(host: &Host, topology: &Topology, port: &Port) {
    let network = topology.network(&port.network).unwrap();
    let (bridge, tap) = (network.bridge.as_str(), port.interface.as_str());
    host.netns
        .links(async |links| {
            links.add_bridge(bridge).await?;
            links.set_mac(bridge, network.mac.octets()).await?;
            links.add_address(bridge, format!("{}/24", network.gateway).parse().unwrap()).await?;
            links.up(bridge).await?;
            links.enslave(tap, bridge).await?;
            links.up(tap).await?;
            links.wait_running(tap, Duration::from_secs(5)).await
        })
        .unwrap();
    for name in [bridge, UPLINK] {
        host.netns.sysctl_set(&format!("net/ipv4/conf/{name}/forwarding"), "1").unwrap();
    }
}

/// A guest of another network: a namespace behind a veth pair.
fn peer(host: &Host, topology: &Topology, port: &Port) -> Netns {
    let network = topology.network(&port.network).unwrap();
    let (bridge, interface) = (network.bridge.as_str(), port.interface.as_str());
    let peer = Netns::new().unwrap();
    host.netns
        .links(async |links| {
            links.add_bridge(bridge).await?;
            links.set_mac(bridge, network.mac.octets()).await?;
            links.add_address(bridge, format!("{}/24", network.gateway).parse().unwrap()).await?;
            links.up(bridge).await?;
            links.add_veth(interface, "eth0").await?;
            links.move_to("eth0", &peer).await?;
            links.enslave(interface, bridge).await?;
            links.up(interface).await
        })
        .unwrap();
    peer.links(async |links| {
        links.set_mac("eth0", port.mac.octets()).await?;
        links.up("eth0").await?;
        links.add_address("eth0", format!("{}/24", port.address).parse().unwrap()).await?;
        let to = "0.0.0.0/0".parse().unwrap();
        links.add_route(Route { to, via: Some(port.gateway.into()), dev: "eth0" }).await
    })
    .unwrap();
    host.netns.sysctl_set(&format!("net/ipv4/conf/{bridge}/forwarding"), "1").unwrap();
    peer
}
