//! The attacker, its victims and everybody who watches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use hostctl::testbed::frames::{Link, Udp, contains, udp};
use hostctl::testbed::{Capture, FrameLog, Options, Service, address, usual_services};

use crate::support::lab::{Guest, Lab, compile};
use crate::support::spec_parts::{network, network4, peering, tailnet};

/// Networks a (two guests, peered with c), b (alone) and n (two guests, no
/// IPv6 at all).
const SPEC: &str = concat!(
    tailnet!(),
    network!("a" 1),
    "tailscale = true\n",
    network!("b" 2),
    network!("c" 3),
    network4!("n" 4),
    peering!("a" and "c"),
);

const GUESTS: [&str; 6] = ["a1", "a2", "b1", "c1", "n1", "n2"];

/// How long a frame that was let through may take to be seen.
const GRACE: Duration = Duration::from_millis(120);

/// Frames between two honest ones: fewer than a capture's socket holds when
/// its thread has to wait for a processor.
const BATCH: usize = 32;

const ARRIVAL: Duration = Duration::from_secs(3);

pub struct Who {
    pub name: &'static str,
    pub guest: Guest,
    pub mac: [u8; 6],
    pub v4: Ipv4Addr,
    /// Its network's `::2` or `::3`, also where the network has no IPv6.
    pub v6: Ipv6Addr,
    pub link_local: Ipv6Addr,
    pub bridge_mac: [u8; 6],
    pub bridge_local: Ipv6Addr,
    pub gateway: Ipv4Addr,
    pub gateway6: Ipv6Addr,
}

impl Who {
    pub fn to(&self, destination: [u8; 6]) -> Link {
        Link { source: self.mac, destination }
    }

    pub fn to_bridge(&self) -> Link {
        self.to(self.bridge_mac)
    }

    pub fn to_all(&self) -> Link {
        Link::broadcast(self.mac)
    }
}

pub struct Scene {
    pub lab: Lab,
    pub spec: String,
    guests: Vec<Who>,
    captures: Vec<(&'static str, Capture)>,
    host: Vec<Service>,
}

/// Frames that must not arrive, each with the bytes it is recognized by.
#[derive(Default)]
pub struct Attacks(Vec<(String, Vec<u8>, Sign)>);

/// What an attack's frame is recognized by, wherever it turns up.
enum Sign {
    /// Bytes that occur nowhere else.
    Mark(Vec<u8>),
    /// All that follows the Ethernet header.
    Body(Vec<u8>),
}

impl Sign {
    fn is_in(&self, frame: &[u8]) -> bool {
        match self {
            Self::Mark(mark) => contains(frame, mark),
            Self::Body(body) => frame.get(14..) == Some(body),
        }
    }
}

impl Attacks {
    /// A frame built around 16 bytes that occur nowhere else. One that has no
    /// room for them is recognized by all that follows its Ethernet header.
    pub fn add(&mut self, name: &str, build: impl FnOnce(&[u8]) -> Vec<u8>) {
        self.add_all(name, |mark| vec![build(mark)]);
    }

    /// Several frames that make one attack.
    pub fn add_all(&mut self, name: &str, build: impl FnOnce(&[u8]) -> Vec<Vec<u8>>) {
        let mark = format!("hostile{:09}", self.0.len());
        for frame in build(mark.as_bytes()) {
            let marked = contains(&frame, mark.as_bytes());
            let sign =
                if marked { Sign::Mark(mark.clone().into_bytes()) } else { Sign::Body(frame[14..].to_vec()) };
            self.0.push((name.to_owned(), frame, sign));
        }
    }
}

impl Scene {
    pub fn new(bridge_nf: bool) -> Self {
        Self::with("guests", bridge_nf)
    }

    pub fn with(firewall: &str, bridge_nf: bool) -> Self {
        let options = Options { bridge_nf_call_iptables: Some(bridge_nf), ..Options::default() };
        let lab = Lab::new(options);
        let vms: String = GUESTS
            .iter()
            .map(|name| {
                let network = &name[..1];
                format!("[vms.{name}]\nnetwork = \"{network}\"\nimage = \"probe\"\nautostart = false\n")
            })
            .collect();
        // What is sent too often would be dropped for that alone.
        let limits = "[host.limits]\nnew_flows = 1000000\nfragments = 65535\nbroadcasts = 65535\n";
        let spec = format!("[host]\nfirewall = \"{firewall}\"\n{limits}{SPEC}{vms}");
        lab.apply(&spec);
        // The chains alone shall stop everything.
        lab.meet_on_the_bridge(&GUESTS, &["br-a", "br-b", "br-c", "br-n"]);
        let host = usual_services(&lab.world.hypervisor, "host").unwrap();
        let (_, topology) = compile(&spec);
        let guests = GUESTS.iter().map(|&name| {
            let port = &topology.vm(name).unwrap().port;
            let network = topology.network(&port.network).unwrap();
            let [.., third, last] = port.address.octets();
            let v6 = |last: u8| Ipv6Addr::new(0xfd00, 0, 0, third.into(), 0, 0, 0, last.into());
            let mac = port.mac.octets();
            Who {
                name,
                guest: lab.guest(&spec, name),
                mac,
                v4: port.address,
                v6: port.v6.as_ref().map_or(v6(last), |v6| v6.address),
                link_local: hostctl::topology::link_local(port.mac),
                bridge_mac: network.mac.octets(),
                bridge_local: hostctl::topology::link_local(network.mac),
                gateway: network.gateway,
                gateway6: network.gateway6.unwrap_or(v6(1)),
            }
        });
        let guests = guests.collect();
        let captures = ["br-a", "br-b", "br-c", "br-n", "uplink0", "tailscale0"]
            .map(|name| (name, Capture::start(&lab.world.hypervisor, name).unwrap()))
            .into();
        Self { lab, spec, guests, captures, host }
    }

    pub fn who(&self, name: &str) -> &Who {
        self.guests.iter().find(|who| who.name == name).unwrap()
    }

    pub fn capture(&self, name: &str) -> &FrameLog {
        &self.captures.iter().find(|(interface, _)| *interface == name).unwrap().1
    }

    /// Nobody but the attacker's own port ever sees one of the frames.
    pub fn stopped_at_port(&self, attacker: &str, attacks: Attacks) {
        self.assault(attacker, attacks, true);
    }

    /// The frames may enter the attacker's bridge; no guest of another network,
    /// no uplink and no service of the host's sees what they carry, and nothing
    /// but errors comes back.
    pub fn stopped_on_the_way(&self, attacker: &str, attacks: Attacks) {
        self.assault(attacker, attacks, false);
    }

    fn assault(&self, attacker: &str, attacks: Attacks, at_port: bool) {
        let attacker = self.who(attacker);
        let logs = self.logs(attacker.name);
        logs.iter().for_each(|(_, log)| log.clear());
        attacker.guest.guest.received().clear();
        for (number, batch) in attacks.0.chunks(BATCH).enumerate() {
            for (name, frame, _) in batch {
                attacker.guest.guest.inject(frame).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            self.honest_frames_arrive(attacker, number);
        }
        sleep(GRACE);
        let mut leaks = Vec::new();
        for (name, _, sign) in &attacks.0 {
            for (place, log) in &logs {
                // A bridge shows what it hands to the host, before the host drops it.
                let near = place.starts_with("br-") || place[..1] == attacker.name[..1];
                let judged = at_port || !near;
                if judged && log.frames().iter().any(|frame| sign.is_in(frame)) {
                    leaks.push(format!("{name}: seen at {place}"));
                }
            }
            let answered = attacker.guest.guest.received().frames();
            if answered.iter().any(|frame| sign.is_in(frame) && !is_error(frame)) {
                leaks.push(format!("{name}: answered"));
            }
        }
        leaks.extend(self.host_saw());
        assert!(leaks.is_empty(), "from {}:\n{}", attacker.name, leaks.join("\n"));
    }

    /// Guests that the host's own services have heard of.
    pub fn host_saw(&self) -> Vec<String> {
        let peers = self.host.iter().flat_map(Service::seen).map(|peer| peer.ip());
        let guests = peers.filter(|ip| match ip {
            IpAddr::V4(v4) => v4.octets()[0] == 10,
            IpAddr::V6(v6) => [0xfd00, 0xfe80].contains(&v6.segments()[0]) && v6.segments()[1] == 0,
        });
        guests.map(|ip| format!("a service of the host's was reached by {ip}")).collect()
    }

    /// What every guest but the attacker gets, and what passes every other interface.
    pub fn logs(&self, attacker: &str) -> Vec<(&'static str, &FrameLog)> {
        let others = self.guests.iter().filter(|who| who.name != attacker);
        let others = others.map(|who| (who.name, who.guest.guest.received()));
        others.chain(self.captures.iter().map(|(name, capture)| (*name, &**capture))).collect()
    }

    /// The positive control: to the neighbour on the bridge, and routed.
    pub fn honest_frames_arrive(&self, from: &Who, number: usize) {
        let neighbour =
            self.guests.iter().find(|who| who.name != from.name && who.name[..1] == from.name[..1]);
        let source = SocketAddr::new(from.v4.into(), 4242);
        let send = |link, ip: Ipv4Addr, payload: &[u8]| {
            let destination = SocketAddr::new(ip.into(), 4242);
            from.guest.guest.inject(&udp(link, Udp { source, destination, payload })).unwrap();
        };
        if let Some(neighbour) = neighbour {
            let payload = format!("honest to a neighbour {number:09}");
            send(from.to(neighbour.mac), neighbour.v4, payload.as_bytes());
            let seen = |frame: &[u8]| contains(frame, payload.as_bytes());
            assert!(neighbour.guest.guest.received().wait_for(seen, ARRIVAL).is_some(), "{payload}");
        }
        let payload = format!("honest to the internet {number:09}");
        send(from.to_bridge(), address::FAR, payload.as_bytes());
        let seen = |frame: &[u8]| contains(frame, payload.as_bytes());
        for place in ["uplink0", &format!("br-{}", &from.name[..1])] {
            assert!(self.capture(place).wait_for(seen, ARRIVAL).is_some(), "{payload} at {place}");
        }
    }

    /// A socket of the host's to a guest, that hears of ICMP errors.
    pub fn host_socket(&self, to: SocketAddr) -> UdpSocket {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        self.lab.world.hypervisor.run(|| {
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket
        })
    }

    /// What everybody believes about who has which MAC, one line each.
    pub fn neighbour_tables(&self, victim: &str) -> (String, String) {
        let list = || std::process::Command::new("ip").args(["neigh", "show"]).output().unwrap().stdout;
        let [host, guest] = [&self.lab.world.hypervisor, self.who(victim).guest.netns()]
            .map(|netns| String::from_utf8(netns.run(list)).unwrap());
        (host, guest)
    }
}

/// An ICMP error, which quotes what it is about; behind options of neither IP.
pub fn is_error(frame: &[u8]) -> bool {
    match (frame.get(12..14), frame.get(14)) {
        (Some([8, 0]), Some(0x45)) => frame[23] == 1 && [3, 11, 12].contains(&frame[34]),
        (Some([0x86, 0xdd]), _) => frame[20] == 58 && frame[54] < 128,
        _ => false,
    }
}
