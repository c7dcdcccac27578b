//! A whole host with a guest that writes headers: the guard comes and stays with
//! its port, the firewall asks for its mark, and an audit knows it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hostctl::host::Kind;
use hostctl::testbed::{Capture, Options, address, frames};
use serde_json::Value;

use super::faithful::transport;
use super::headers::Header;
use super::stage::open_with_header;
use crate::support::lab::{Guest, Lab, compile};
use crate::support::spec_parts::{idle_vms, network};

const SECOND: Duration = Duration::from_secs(1);

const SPEC: &str = concat!(
    network!("prod" 20),
    idle_vms!("box" in "prod"),
    "policy = [\"web\"]\n[policies.web]\ningress = [{ port = 80, protocol = \"tcp\" }]\n",
    idle_vms!("evil" in "prod"),
);

struct Scene {
    lab: Lab,
    other: Guest,
    evil: File,
    link: frames::Link,
}

fn parse_mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

impl Scene {
    fn new(spec: &str) -> Self {
        let lab = Lab::new(Options::default());
        lab.apply(spec);
        let other = lab.guest(spec, "box");
        let evil = lab.world.hypervisor.run(|| open_with_header("vm-evil")).unwrap();
        let (_, topology) = compile(spec);
        let links: Value =
            serde_json::from_str(&lab.output("ip", &["-j", "link", "show", "br-prod"])).unwrap();
        let link = frames::Link {
            source: topology.vm("evil").unwrap().port.mac.octets(),
            destination: parse_mac(links[0]["address"].as_str().unwrap()),
        };
        Self { lab, other, evil, link }
    }

    fn own(v6: bool) -> IpAddr {
        let text = if v6 { "fd00:0:0:20::3" } else { "10.20.0.3" };
        text.parse().unwrap()
    }

    fn other(&self, v6: bool) -> IpAddr {
        if v6 { self.other.v6.unwrap() } else { self.other.v4 }
    }

    fn send(&mut self, header: Header, frame: &[u8]) -> bool {
        let mut buffer = vec![0; 70_000];
        while self.evil.read(&mut buffer).is_ok() {}
        self.evil.write(&[header.bytes(), frame.to_vec()].concat()).is_ok()
    }

    /// A SYN to port 80 whose checksum the kernel is to compute, and the header for
    /// it.
    fn honest(&self, to: IpAddr, from_port: u16) -> (Header, Vec<u8>) {
        self.unfinished(SocketAddr::new(to, 80), from_port)
    }

    fn unfinished(&self, server: SocketAddr, from_port: u16) -> (Header, Vec<u8>) {
        let to = server.ip();
        let from = SocketAddr::new(Self::own(to.is_ipv6()), from_port);
        let mut frame = frames::tcp_syn(self.link, from, server);
        let at = transport(&frame).unwrap().at;
        let addresses = if to.is_ipv6() { frame[22..54].to_vec() } else { frame[26..34].to_vec() };
        let mut sum = 6 + (frame.len() - at) as u32;
        for pair in addresses.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame[at + 16..at + 18].copy_from_slice(&(sum as u16).to_be_bytes());
        (Header::checksum(at, 16), frame)
    }

    fn marks_missed(&self) -> u64 {
        let text = self.lab.output("nft", &["list", "chain", "bridge", "hostctl", "from_port"]);
        let rule = text.lines().find(|line| line.contains("no guard judged")).unwrap();
        let words: Vec<&str> = rule.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "packets").unwrap();
        words[at + 1].parse().unwrap()
    }
}

/// TCP from that port.
fn from(port: u16) -> impl Fn(&[u8]) -> bool {
    move |frame| {
        let Some(found) = transport(frame).filter(|found| found.protocol == 6) else { return false };
        frame.get(found.at..found.at + 2) == Some(&port.to_be_bytes()[..])
    }
}

/// TCP to that port of that address.
fn to(address: IpAddr, port: u16) -> impl Fn(&[u8]) -> bool {
    move |frame| {
        let Some(found) = transport(frame).filter(|found| found.protocol == 6) else { return false };
        let is = match address {
            IpAddr::V4(address) => frame[30..34] == address.octets(),
            IpAddr::V6(address) => frame[38..54] == address.octets(),
        };
        is && frame.get(found.at + 2..found.at + 4) == Some(&port.to_be_bytes()[..])
    }
}

#[test]
fn a_guests_header_changes_nothing_that_was_judged() {
    let mut scene = Scene::new(SPEC);
    let uplink = Capture::start(&scene.lab.world.hypervisor, "uplink0").unwrap();
    for (base, v6) in [(4000, false), (4100, true)] {
        let far: IpAddr = if v6 { address::FAR6.into() } else { address::FAR.into() };
        let near = scene.other(v6);
        // What is honest arrives.
        for (server, port) in [(near, base), (far, base + 1)] {
            let (header, frame) = scene.honest(server, port);
            assert!(scene.send(header, &frame));
        }
        let received = scene.other.guest.received().wait_for(from(base), 5 * SECOND).unwrap();
        assert!(to(near, 80)(&received), "{received:02x?}");
        assert!(uplink.wait_for(to(far, 80), 5 * SECOND).is_some());
        // What isn't, doesn't: neither at the neighbour's nor on the internet.
        for (server, port) in [(SocketAddr::new(near, 80), base + 2), (SocketAddr::new(far, 81), base + 3)] {
            let (honest, frame) = scene.unfinished(server, port);
            let at = usize::from(honest.start);
            // The port, the addresses, the checksum's neighbours.
            for header in [
                Header::checksum(at + 2, 0),
                Header::checksum(at, 2),
                Header::checksum(at - 4, 0),
                Header::checksum(at, 14),
                Header::checksum(at + 2, 14),
            ] {
                scene.send(header, &frame);
            }
        }
        scene.other.guest.received().none_within(from(base + 2), SECOND).unwrap();
        uplink.none_within(to(far, 81), SECOND).unwrap();
        uplink.none_within(to(far, 22), Duration::ZERO).unwrap();
    }
    assert_eq!(scene.marks_missed(), 0, "the guard drops what is hostile by itself");
}

#[test]
fn without_its_guard_a_port_is_shut_until_it_has_one_again() {
    let mut scene = Scene::new(SPEC);
    let server = scene.other(false);
    let mut port = 5000;
    let mut passes = |scene: &mut Scene| {
        port += 1;
        let (header, frame) = scene.honest(server, port);
        assert!(scene.send(header, &frame));
        scene.other.guest.received().wait_for(from(port), SECOND).is_some()
    };
    assert!(passes(&mut scene));
    assert_eq!(scene.marks_missed(), 0);
    assert!(!scene.lab.audit().has_drift());
    for damage in [
        "tc qdisc del dev vm-evil clsact",
        "tc filter del dev vm-evil ingress prio 1",
        // Another program comes first, and lets everything by.
        "tc filter add dev vm-evil ingress prio 1 protocol all u32 match u32 0 0 flowid 1:1",
    ] {
        if damage.contains("u32") {
            scene.lab.run_line("tc filter del dev vm-evil ingress prio 1");
        }
        scene.lab.run_line(damage);
        let before = scene.marks_missed();
        assert!(!passes(&mut scene), "{damage}");
        assert!(scene.marks_missed() > before, "{damage}");
        // Frames of other ports go on.
        let audit = scene.lab.audit();
        let finding = audit.findings.iter().find(|finding| finding.object == "guard of vm-evil");
        let finding = finding.unwrap_or_else(|| panic!("{damage}: {:?}", audit.findings));
        assert_eq!(finding.kind, Kind::Drift);
        let commands = scene.lab.commands(SPEC);
        assert!(commands.len() == 1 && commands[0].starts_with("tc qdisc"), "{commands:?}");
        scene.lab.apply(SPEC);
        assert!(!scene.lab.audit().has_drift(), "{damage}");
        assert!(passes(&mut scene), "{damage}");
    }
}

#[test]
fn offload_off_takes_the_guard_away_once_nobody_has_a_header() {
    let off = SPEC.replace("[vms.evil]\n", "[vms.evil]\noffload = false\n");
    let mut scene = Scene::new(SPEC);
    let server = scene.other(false);
    scene.lab.apply(&off);
    // Its holder has the header still.
    let filters = |scene: &Scene| scene.lab.run_line("tc filter show dev vm-evil ingress");
    assert!(filters(&scene).contains("hostctl_guard"));
    let (header, frame) = scene.honest(server, 6000);
    scene.send(Header::checksum(usize::from(header.start) + 2, 0), &frame);
    let (header, frame) = scene.honest(server, 6001);
    scene.send(header, &frame);
    assert!(scene.other.guest.received().wait_for(from(6001), 5 * SECOND).is_some());
    scene.other.guest.received().none_within(from(6000), SECOND).unwrap();
    assert!(!scene.lab.audit().has_drift(), "{:?}", scene.lab.audit().findings);
    drop(std::mem::replace(&mut scene.evil, File::open("/dev/null").unwrap()));
    scene.lab.apply(&off);
    assert!(!filters(&scene).contains("hostctl_guard"), "{}", filters(&scene));
    let plain = scene.lab.guest(&off, "evil");
    assert!(!scene.lab.audit().has_drift(), "{:?}", scene.lab.audit().findings);
    drop(plain);
    assert!(scene.lab.plan(&off).unwrap().is_empty());
}
