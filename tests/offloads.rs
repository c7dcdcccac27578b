//! What is judged is what arrives: a namespace's packets, whatever virtio
//! header they are sent with (packet(7), PACKET_VNET_HDR), reach a VM's TAP and
//! the internet as they were when the firewall saw them.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use crate::support::lab;
use crate::support::lab::Lab;
use crate::support::spec_parts::{idle_vms, namespace, subnet, wide_network};
use hostctl::host::Kind;
use hostctl::testbed::{Capture, Netns, Options, frames};
use nix::libc;

const SECOND: Duration = Duration::from_secs(1);

const SPEC: &str = concat!(
    wide_network!("prod" 20 "fd00:0:0:20::/60"),
    namespace!("public" "prod" / "web" "10.20.1.0/24" "fd00:0:0:21::/64"),
    subnet!("public" "prod" / "vms" "10.20.2.0/24" "fd00:0:0:22::/64"),
    idle_vms!("box" in "prod"),
    r#"subnet = "vms"
policy = ["web"]
[policies.web]
ingress = [{ port = 80, protocol = "tcp" }]
"#
);

/// `struct virtio_net_hdr`.
#[derive(Clone, Copy, Default)]
struct Header {
    flags: u8,
    gso_type: u8,
    header: u16,
    gso_size: u16,
    start: u16,
    offset: u16,
}

const NEEDS_CHECKSUM: u8 = 1;
const GSO: [u8; 6] = [0, 1, 3, 4, 5, 0x81];

impl Header {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![self.flags, self.gso_type];
        for word in [self.header, self.gso_size, self.start, self.offset] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }
}

/// Sends frames from a namespace's interface, each behind a virtio header.
struct Sender(std::os::fd::OwnedFd, libc::sockaddr_ll);

impl Sender {
    #[allow(unsafe_code)]
    fn new(netns: &Netns) -> Self {
        use std::os::fd::{FromRawFd, OwnedFd};
        let index = netns.ifindex("eth0").unwrap();
        let fd = netns.run(|| unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
            let on = 1_i32;
            let size = size_of::<i32>() as u32;
            // PACKET_VNET_HDR
            let set = libc::setsockopt(fd, libc::SOL_PACKET, 15, (&raw const on).cast(), size);
            assert!(fd >= 0 && set == 0, "{}", std::io::Error::last_os_error());
            fd
        });
        // SAFETY: a socket address is plain numbers.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = index as i32;
        // SAFETY: the socket was opened above.
        Self(unsafe { OwnedFd::from_raw_fd(fd) }, to)
    }

    /// Whether the kernel took it.
    #[allow(unsafe_code)]
    fn send(&self, header: Header, frame: &[u8]) -> bool {
        use std::os::fd::AsRawFd;
        let bytes = [header.bytes(), frame.to_vec()].concat();
        // SAFETY: both pointers are to what lives here.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                0,
                (&raw const self.1).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        sent > 0
    }
}

struct Scene {
    lab: Lab,
    guest: lab::Guest,
    web: Netns,
    sender: Sender,
    link: frames::Link,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new(Options::default());
        lab.apply(SPEC);
        let guest = lab.guest(SPEC, "box");
        let web = Netns::named("prod-web").unwrap();
        let address = |netns: &Netns, name: &str| {
            let output = netns.run(|| Command::new("ip").args(["-br", "link", "show", name]).output());
            let output = String::from_utf8(output.unwrap().stdout).unwrap();
            output.split_whitespace().find_map(parse_mac).unwrap()
        };
        let link = frames::Link {
            source: address(&web, "eth0"),
            destination: address(&lab.world.hypervisor, "br-prod"),
        };
        Self { sender: Sender::new(&web), lab, guest, web, link }
    }

    fn web(&self, v6: bool) -> IpAddr {
        if v6 { "fd00:0:0:21::2".parse().unwrap() } else { "10.20.1.2".parse().unwrap() }
    }

    /// A SYN to port 80 of `to`, and a header that has another number written
    /// to byte `at` of the frame once the checksum is.
    fn rewriting(&self, to: IpAddr, source_port: u16, at: usize, number: u16) -> (Header, Vec<u8>) {
        let from = SocketAddr::new(self.web(to.is_ipv6()), source_port);
        let mut frame = frames::tcp_syn(self.link, from, SocketAddr::new(to, 80));
        // What follows the place sums up to the number's complement.
        let length = frame.len();
        assert_eq!((length - at) % 2, 0);
        frame.extend([0, 0]);
        fix_length(&mut frame);
        let sum = frame[at..]
            .chunks(2)
            .fold(0_u32, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum = fold(sum);
        let missing = fold(u32::from(!number) + u32::from(!sum));
        frame[length..].copy_from_slice(&missing.to_be_bytes());
        let header = Header { flags: NEEDS_CHECKSUM, start: at as u16, offset: 0, ..Header::default() };
        (header, frame)
    }
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text.trim().split(':').map_while(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes.try_into().ok()
}

/// Of the IP packet in a frame, after its payload grew.
fn fix_length(frame: &mut [u8]) {
    if frame[12..14] == [0x86, 0xdd] {
        let length = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
    } else {
        let length = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[24..26].copy_from_slice(&[0, 0]);
        let sum = frame[14..34]
            .chunks(2)
            .fold(0, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum = !fold(sum);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Source address and ports of a TCP packet in a frame.
fn tcp(frame: &[u8]) -> Option<(IpAddr, u16, u16)> {
    let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    match frame.get(12..14)? {
        [0x08, 0x00] if frame.get(23) == Some(&6) => {
            let source: [u8; 4] = frame.get(26..30)?.try_into().ok()?;
            Some((source.into(), word(34)?, word(36)?))
        }
        [0x86, 0xdd] if frame.get(20) == Some(&6) => {
            let source: [u8; 16] = frame.get(22..38)?.try_into().ok()?;
            Some((source.into(), word(54)?, word(56)?))
        }
        _ => None,
    }
}

/// Where a TCP destination port is.
fn port_at(to: IpAddr) -> usize {
    if to.is_ipv6() { 56 } else { 36 }
}

#[test]
fn a_packet_that_was_judged_as_one_to_port_80_doesnt_arrive_as_one_to_port_22() {
    let scene = Scene::new();
    for to in [scene.guest.v4, scene.guest.v6.unwrap()] {
        let received = scene.guest.guest.received();
        let arrives = |source: u16, port: u16| {
            move |frame: &[u8]| tcp(frame).is_some_and(|(_, from, to)| (from, to) == (source, port))
        };
        received.clear();
        // An honest header's checksum is right when it arrives.
        let from = SocketAddr::new(scene.web(to.is_ipv6()), 4000);
        let mut frame = frames::tcp_syn(scene.link, from, SocketAddr::new(to, 80));
        let start = port_at(to) - 2;
        let whole = frame.clone();
        let pseudo = pseudo_sum(&frame, start);
        frame[start + 16..start + 18].copy_from_slice(&pseudo.to_be_bytes());
        let honest = Header { flags: NEEDS_CHECKSUM, start: start as u16, offset: 16, ..Header::default() };
        assert!(scene.sender.send(honest, &frame));
        let arrived = received.wait_for(arrives(4000, 80), 5 * SECOND).unwrap();
        assert_eq!(arrived[start..start + 20], whole[start..start + 20], "{to}");

        let (header, frame) = scene.rewriting(to, 4001, port_at(to), 22);
        assert!(scene.sender.send(header, &frame));
        received.none_within(arrives(4001, 22), SECOND).unwrap();

        // That it can be done at all: with late checksums it is.
        tx(&scene.web, "on");
        let (header, frame) = scene.rewriting(to, 4002, port_at(to), 22);
        assert!(scene.sender.send(header, &frame));
        assert!(received.wait_for(arrives(4002, 22), 5 * SECOND).is_some(), "{to}: the attack is none");
        // And it is found and repaired.
        let audit = scene.lab.audit();
        let finding =
            audit.findings.iter().find(|finding| finding.object.contains("late checksums")).unwrap();
        assert_eq!(
            (finding.kind, finding.object.as_str()),
            (Kind::Drift, "late checksums of eth0 in namespace prod-web")
        );
        assert_eq!(scene.lab.commands(SPEC), ["ip netns exec prod-web ethtool -K eth0 tx off"]);
        scene.lab.apply(SPEC);
        assert!(!scene.lab.audit().has_drift());
        let (header, frame) = scene.rewriting(to, 4003, port_at(to), 22);
        assert!(scene.sender.send(header, &frame));
        received.none_within(arrives(4003, 22), SECOND).unwrap();
    }
}

#[test]
fn an_ipv6_source_isnt_rewritten_on_the_way_out() {
    let scene = Scene::new();
    let world = &scene.lab.world;
    // An uplink that doesn't compute checksums itself.
    ethtool(&world.hypervisor, "uplink0", "off");
    let capture = Capture::start(&world.hypervisor, "uplink0").unwrap();
    let to: IpAddr = "2001:db8:113::1".parse().unwrap();
    let own = |frame: &[u8]| {
        tcp(frame).filter(|(source, _, to)| source.is_ipv6() && *to == 80).map(|found| found.0)
    };
    // One that nothing is wrong with shows what a source is.
    let plain = frames::tcp_syn(scene.link, SocketAddr::new(scene.web(true), 4100), SocketAddr::new(to, 80));
    assert!(scene.sender.send(Header::default(), &plain));
    let host = own(&capture.wait_for(|frame| own(frame).is_some(), 5 * SECOND).unwrap()).unwrap();
    let sources = |rewritten: bool| {
        // The last word of the source; later words of it are the host's own then.
        let (header, frame) = scene.rewriting(to, if rewritten { 4102 } else { 4101 }, 36, 0x6666);
        capture.clear();
        assert!(scene.sender.send(header, &frame));
        capture.wait_for(|frame| own(frame).is_some_and(|source| source != host), SECOND)
    };
    assert_eq!(sources(false), None);
    tx(&scene.web, "on");
    assert!(sources(true).is_some(), "the attack is none");
}

/// Any header, with any segmentation, any place to write to.
#[test]
fn no_virtio_header_makes_a_packet_another() {
    let scene = Scene::new();
    let received = scene.guest.guest.received();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut taken = 0;
    for round in 0..4000 {
        let to = if round % 2 == 0 { scene.guest.v4 } else { scene.guest.v6.unwrap() };
        let at = next(40) as usize * 2;
        let (mut header, mut frame) = scene.rewriting(to, 5000 + round % 1000, port_at(to), 22);
        if round % 3 > 0 {
            frame.extend(vec![0; next(3000) as usize]);
            fix_length(&mut frame);
            header.gso_type = GSO[next(6) as usize];
            header.gso_size = 1 + next(1400) as u16;
            header.header = next(120) as u16;
            // Also a place that isn't at the beginning of what is summed.
            header.start = next(60) as u16;
            header.offset = (at as u16).saturating_sub(header.start);
            if next(2) == 0 {
                // As a kernel insists on for TCP segments.
                header.offset = 16;
                header.start = port_at(to) as u16 - 16;
            }
        }
        taken += u32::from(scene.sender.send(header, &frame));
    }
    assert!(taken > 1500, "the kernel took {taken}");
    std::thread::sleep(SECOND);
    let frames = received.frames();
    let mut arrived = 0;
    for (source, from, to) in frames.iter().filter_map(|frame| tcp(frame)) {
        arrived += 1;
        assert_eq!(to, 80, "from {source}:{from}");
        assert!([scene.web(false), scene.web(true)].contains(&source), "{source}");
    }
    eprintln!("{taken} taken, {arrived} arrived");
}

/// The kernel leaves the pseudo header's sum for who completes it.
fn pseudo_sum(frame: &[u8], start: usize) -> u16 {
    let addresses = if frame[12..14] == [0x86, 0xdd] { &frame[22..54] } else { &frame[26..34] };
    let length = (frame.len() - start) as u32;
    let sum = addresses
        .chunks(2)
        .fold(6 + length, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])));
    fold(sum)
}

/// What root in the namespace can do.
fn tx(netns: &Netns, value: &str) {
    ethtool(netns, "eth0", value);
}

/// `ethtool -K NAME tx VALUE`, without the program.
#[allow(unsafe_code)]
fn ethtool(netns: &Netns, name: &str, value: &str) {
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        value: *mut [u32; 2],
        rest: [u8; 16],
    }
    let result = netns.run(|| unsafe {
        let mut command = [0x17_u32, u32::from(value == "on")];
        let mut request = Request { name: [0; 16], value: &raw mut command, rest: [0; 16] };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let result = libc::ioctl(fd, libc::SIOCETHTOOL as _, &raw mut request);
        libc::close(fd);
        result
    });
    assert_eq!(result, 0, "{name} tx {value}");
}
