//! The way of a packet: a guest's TAP, its bridge, the host, another port.

use std::net::Ipv4Addr;
use std::time::Duration;
use std::{fs, iter};

use hostctl::testbed::frames::{self, Link, Udp, ethertype, protocol, udp};
use hostctl::testbed::{Route, Tap};
use hostctl::topology::{Port, Topology};
use rustix::time::{ClockId, clock_gettime};

use super::super::harness::host::{Host, UPLINK};
use super::super::harness::layouts::UPLINK_INDEX;
use super::super::harness::program::Program;
use super::super::harness::specs;

/// Where packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the guest of a peered network.
    Peer,
    /// Out by the uplink.
    Internet,
}

/// New flows of a round: in the long run hostctl lets a guest begin 2048 a
/// second.
const FLOWS: u16 = 2_500;
/// Packets of a round within one flow.
const PACKETS: usize = 10_000;
/// Frames that are sent before a measurement, uncounted.
const WARM_UP: usize = 64;
/// Frames that the queue of a TAP surely has room for (500 in
/// `TUN_READQ_SIZE`).
const BURST: usize = 250;
const FIRST_PORT: u16 = 20_000;
/// Where they are sent: the "discard" service.
const PORT: u16 = 9;
/// Addresses that flows to the internet take turns with, so that a translated
/// port is almost always free.
const FAR: u16 = 200;

/// Who has the uplink's other end.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A host with the links of the two last networks of N. All that packets cross
/// are TAPs, whose other ends are here: nothing waits in a queue for another
/// thread.
pub struct Path {
    host: Host,
    /// The guest's end.
    tap: Tap,
    /// The other end: the peer's, or the uplink's.
    end: Tap,
    end_mac: [u8; 6],
    frames: Vec<Vec<u8>>,
}

/// N networks with a VM each, the last two peered. The limits on guests' flows
/// are as wide as they can be: what they cost is measured, not what they stop.
pub fn spec(networks: usize) -> String {
    let (last, other) = (specs::network(networks - 1), specs::network(networks - 2));
    format!(
        "{}[[peerings]]\nbetween = [\"{other}\", \"{last}\"]\n[host.limits]\nnew_flows = 1000000\nflows = 32768\n",
        specs::spec(networks, 1)
    )
}

impl Path {
    /// Baselines, which have no networks, are at the place of 5.
    pub fn new(way: Way, networks: usize) -> Self {
        let topology = specs::compile(&spec(networks.max(5)));
        let host = Host::new();
        let [.., other, last] = topology.vms.as_slice() else { unreachable!() };
        let tap = wire(&host, &topology, &last.port);
        let (end, end_mac) = match way {
            Way::Internet => (uplink(&host), GATEWAY_MAC),
            Way::Peer => (wire(&host, &topology, &other.port), other.port.mac.octets()),
        };
        let mac = topology.network(&last.port.network).unwrap().mac.octets();
        let link = Link { source: last.port.mac.octets(), destination: mac };
        let frame = |index: u16| {
            let destination = match way {
                Way::Peer => other.port.address,
                Way::Internet => Ipv4Addr::new(203, 0, 113, 1 + (index % FAR) as u8),
            };
            frame(link, (last.port.address, FIRST_PORT + index), (destination, PORT))
        };
        let frames = (0..FLOWS).map(frame).collect();
        Self { host, tap, end, end_mac, frames }
    }

    /// Loads a firewall, on a host whose uplink has the number that it has.
    pub fn load(&self, loader: &[&str], text: &str) {
        let index = self.host.netns.ifindex(UPLINK).unwrap_or(UPLINK_INDEX);
        let file = self.host.file("firewall", &text.replace(&UPLINK_INDEX.to_string(), &index.to_string()));
        Program::new(loader).input(&file).must(&self.host);
    }

    /// Loads what another hostctl program renders for so many networks.
    pub fn load_of(&self, program: &str, networks: usize) {
        let file = self.host.file("host.toml", &spec(networks));
        let root = self.host.path().to_str().unwrap();
        let text = self.host.output(program, &["--root-dir", root, "render", file.to_str().unwrap()]);
        self.load(&["nft", "-f", "-"], &text);
    }

    /// Nanoseconds a frame where each opens a flow.
    pub fn new_flows(&mut self) -> f64 {
        self.forget();
        // Neighbours are found, and what is loaded at first use is loaded.
        self.cost(0..WARM_UP);
        self.cost(WARM_UP..self.frames.len())
    }

    /// Nanoseconds a frame where all are of one flow, which was answered.
    pub fn one_flow(&mut self) -> f64 {
        self.forget();
        self.drain();
        self.send(0);
        let mut buffer = [0; 2048];
        let sent = loop {
            let frame = self.end.receive(&mut buffer).unwrap().expect("the firewall let nothing through");
            if frames::ethertype_of(frame) == Some(ethertype::IPV4) && frame[23] == protocol::UDP {
                break frame;
            }
        };
        // It may have been translated: the answer goes to where it says it is from.
        let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&sent[at..at + 4]).unwrap());
        let from = (address(26), u16::from_be_bytes([sent[34], sent[35]]));
        let link = Link { source: self.end_mac, destination: sent[6..12].try_into().unwrap() };
        self.end.send(&frame(link, (address(30), PORT), from)).unwrap();
        self.cost(iter::repeat_n(0, WARM_UP));
        self.cost(iter::repeat_n(0, PACKETS))
    }

    fn forget(&self) {
        self.host.output("conntrack", &["-F"]);
    }

    fn send(&self, frame: usize) {
        self.tap.send(&self.frames[frame]).unwrap();
    }

    /// Sends these frames, all of which have to arrive; nanoseconds of this
    /// thread's processor time for each. The other end's queue is emptied in
    /// between, which isn't counted.
    fn cost(&self, frames: impl IntoIterator<Item = usize>) -> f64 {
        self.drain();
        let frames: Vec<usize> = frames.into_iter().collect();
        let before = self.left();
        let mut spent = Duration::ZERO;
        for burst in frames.chunks(BURST) {
            let started = thread_time();
            burst.iter().for_each(|frame| self.send(*frame));
            spent += thread_time() - started;
            self.drain();
        }
        let left = self.left() - before;
        assert!(left >= frames.len() as u64, "{left} of {} arrived at {}", frames.len(), self.end.name());
        spent.as_nanos() as f64 / frames.len() as f64
    }

    fn drain(&self) {
        let mut buffer = [0; 2048];
        while self.end.receive(&mut buffer).unwrap().is_some() {}
    }

    /// Packets that left by the other end: those that were read there, and
    /// those that it had no room for.
    fn left(&self) -> u64 {
        let text = self.host.netns.run(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let name = format!("{}:", self.end.name());
        let line = text.lines().find_map(|line| line.trim().strip_prefix(&name)).unwrap();
        let sent: Vec<u64> = line.split_whitespace().skip(8).map(|word| word.parse().unwrap()).collect();
        sent[1] + sent[3]
    }
}

/// The processor time that this thread has taken.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A UDP frame of 60 bytes: 14 of Ethernet, 20 of IPv4 and 8 of UDP before its
/// payload.
fn frame(link: Link, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Vec<u8> {
    udp(link, Udp { source: source.into(), destination: destination.into(), payload: &[0; 18] })
}

/// A network's bridge with its guest's TAP; both know each other.
fn wire(host: &Host, topology: &Topology, port: &Port) -> Tap {
    let network = topology.network(&port.network).unwrap();
    let (bridge, interface) = (network.bridge.as_str(), port.interface.as_str());
    let tap = Tap::open(&host.netns, interface).unwrap();
    host.netns
        .links(async |links| {
            links.add_bridge(bridge).await?;
            links.set_mac(bridge, network.mac.octets()).await?;
            links.add_address(bridge, format!("{}/24", network.gateway).parse().unwrap()).await?;
            links.up(bridge).await?;
            links.enslave(interface, bridge).await?;
            links.up(interface).await?;
            links.wait_running(interface, Duration::from_secs(5)).await
        })
        .unwrap();
    knows(host, bridge, port.address, port.mac.octets());
    forwards(host, bridge);
    tap
}

/// A TAP in the place of the host's uplink.
fn uplink(host: &Host) -> Tap {
    host.output("ip", &["link", "del", UPLINK]);
    let tap = Tap::open(&host.netns, UPLINK).unwrap();
    host.netns
        .links(async |links| {
            links.add_address(UPLINK, "198.51.100.2/24".parse().unwrap()).await?;
            links.up(UPLINK).await?;
            let to = "0.0.0.0/0".parse().unwrap();
            links.add_route(Route { to, via: Some(GATEWAY.into()), dev: UPLINK }).await
        })
        .unwrap();
    knows(host, UPLINK, GATEWAY, GATEWAY_MAC);
    forwards(host, UPLINK);
    tap
}

fn knows(host: &Host, device: &str, address: Ipv4Addr, [a, b, c, d, e, f]: [u8; 6]) {
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    host.output("ip", &["neigh", "replace", &address.to_string(), "lladdr", &mac, "dev", device]);
}

fn forwards(host: &Host, device: &str) {
    host.netns.sysctl_set(&format!("net/ipv4/conf/{device}/forwarding"), "1").unwrap();
}
