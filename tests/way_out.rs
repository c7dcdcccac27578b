//! What guests reach by an uplink: the public internet, and of the rest only
//! what their network names. Real packets.

use std::net::{IpAddr, SocketAddr};

use crate::support::lab::Lab;
use hostctl::testbed::{DEFAULT_TIMEOUT, Netns, Options, Probe, address, probe, usual_services};

/// Machines behind the uplink: of a private prefix, of the uplink's own, and of
/// a public one that the operator denies.
const PRIVATE: [&str; 2] = ["192.168.7.1", "fd00:77::1"];
const OTHER: [&str; 2] = ["172.16.7.1", "fd00:88::1"];
const DENIED: [&str; 2] = ["203.0.114.1", "2001:db8:114::1"];

fn spec(host: &str, network: &str, guest: &str) -> String {
    format!(
        "[host]\ndns = [\"192.168.7.1\", \"fd00:77::1\"]\n{host}\n[networks.m]\ncidr = \"10.1.0.0/24\"\n\
         cidr6 = \"fd00:0:0:1::/64\"\n{network}\n[vms.m1]\nnetwork = \"m\"\nimage = \"probe\"\nautostart = false\n{guest}"
    )
}

/// A world with such machines, all of them the internet's namespace.
fn lab() -> Lab {
    let lab = Lab::new(Options::default());
    for address in PRIVATE.into_iter().chain(OTHER).chain(DENIED) {
        let net = ipnet::IpNet::from(address.parse::<IpAddr>().unwrap());
        lab.world.internet.links(async |links| links.add_address("lo", net).await).unwrap();
    }
    lab
}

fn reached(netns: &Netns, to: IpAddr, port: u16) -> [bool; 2] {
    let to = SocketAddr::new(to, port);
    [Probe::Tcp(to), Probe::Udp(to)].map(|what| probe(netns, what, DEFAULT_TIMEOUT).is_allowed())
}

/// Whether ports 80 and 7 of each are reached: TCP and UDP.
fn reaches(netns: &Netns, of: [&str; 2]) -> [bool; 2] {
    of.map(|address| {
        let to: IpAddr = address.parse().unwrap();
        let [tcp, _] = reached(netns, to, 80);
        let [_, udp] = reached(netns, to, 7);
        assert_eq!(tcp, udp, "{address}");
        tcp
    })
}

const ROUTER: [&str; 2] = ["198.51.100.1", "2001:db8:51::1"];
const FAR: [&str; 2] = ["203.0.113.1", "2001:db8:113::1"];

#[test]
fn the_internet_is_the_public_one_unless_a_network_says_otherwise() {
    let lab = lab();
    let closed = spec("", "", "");
    lab.apply(&closed);
    let m1 = lab.guest(&closed, "m1");
    assert_eq!(reaches(m1.netns(), FAR), [true; 2]);
    for (what, of) in [("private", PRIVATE), ("other", OTHER), ("the uplink's own", ROUTER)] {
        assert_eq!(reaches(m1.netns(), of), [false; 2], "{what}");
    }
    assert_eq!(reaches(m1.netns(), DENIED), [true; 2]);

    // The prefixes that it names, and no other.
    lab.apply(&spec("", "lan = [\"192.168.0.0/16\", \"fd00:77::1\"]", ""));
    assert_eq!(reaches(m1.netns(), PRIVATE), [true; 2]);
    assert_eq!(reaches(m1.netns(), OTHER), [false; 2]);
    assert_eq!(reaches(m1.netns(), ROUTER), [false; 2]);

    lab.apply(&spec("", "lan = true", ""));
    for of in [PRIVATE, OTHER, ROUTER, FAR] {
        assert_eq!(reaches(m1.netns(), of), [true; 2], "{of:?}");
    }
    // The metadata services aren't of it.
    let [tcp, _] = reached(m1.netns(), address::METADATA.into(), 80);
    assert!(!tcp);

    // What the host denies nobody reaches, and open connections end.
    let to = SocketAddr::new(DENIED[0].parse().unwrap(), 22);
    let mut open = hostctl::testbed::Connection::open(m1.netns(), to, DEFAULT_TIMEOUT).unwrap();
    let deny = "deny = [\"203.0.114.0/24\", \"2001:db8:114::/48\", \"192.168.7.1\"]";
    lab.apply(&spec(deny, "lan = true", ""));
    assert!(!open.still_alive(DEFAULT_TIMEOUT), "a connection to what is denied goes on");
    assert_eq!(reaches(m1.netns(), DENIED), [false; 2]);
    assert_eq!(reaches(m1.netns(), PRIVATE), [false, true]);
    assert_eq!(reaches(m1.netns(), OTHER), [true; 2]);
    assert_eq!(reaches(m1.netns(), FAR), [true; 2]);
}

#[test]
fn resolvers_that_are_handed_out_answer() {
    let lab = lab();
    let spec = spec("", "", "");
    lab.apply(&spec);
    let m1 = lab.guest(&spec, "m1");
    let answered = |to: &str| {
        let far = SocketAddr::new(to.parse().unwrap(), 53);
        let server = lab.world.internet.run(|| std::net::UdpSocket::bind(far).unwrap());
        server.set_read_timeout(Some(DEFAULT_TIMEOUT)).unwrap();
        let own = if far.is_ipv4() { m1.v4 } else { m1.v6.unwrap() };
        let client = m1.netns().run(|| std::net::UdpSocket::bind((own, 0)).unwrap());
        client.send_to(b"who is", far).unwrap();
        server.recv(&mut [0; 64]).is_ok()
    };
    for resolver in PRIVATE {
        assert!(answered(resolver), "{resolver}");
    }
    for other in OTHER {
        assert!(!answered(other), "{other} is no resolver of theirs");
    }
}

/// A link that takes the uplink's name isn't the uplink.
#[test]
fn the_uplinks_name_is_not_the_uplink() {
    let lab = lab();
    let spec = spec("", "", "");
    lab.apply(&spec);
    let m1 = lab.guest(&spec, "m1");
    assert_eq!(reaches(m1.netns(), FAR), [true; 2]);
    let ip = |line: &str| lab.output("ip", &line.split(' ').collect::<Vec<_>>());
    // Another one in its place, with its addresses and routes.
    ip("link set uplink0 down");
    ip("link set uplink0 name former0");
    ip("link add uplink0 type veth peer name decoy0");
    ip("link set decoy0 up");
    ip("link set uplink0 up");
    ip("addr add 198.51.100.2/24 dev uplink0");
    ip("addr add 2001:db8:51::2/64 dev uplink0 nodad");
    ip("route add default via 198.51.100.1 dev uplink0");
    ip("-6 route add default via 2001:db8:51::1 dev uplink0");
    ip("neigh add 198.51.100.1 lladdr 02:00:00:00:00:99 dev uplink0");
    ip("-6 neigh add 2001:db8:51::1 lladdr 02:00:00:00:00:99 dev uplink0");
    let seen = hostctl::testbed::Capture::start(&lab.world.hypervisor, "uplink0").unwrap();
    assert_eq!(reaches(m1.netns(), FAR), [false; 2]);
    let guests = |frame: &Vec<u8>| {
        let (far4, far6) = (address::FAR.octets(), address::FAR6.octets());
        frame.windows(4).any(|bytes| bytes == far4) || frame.windows(16).any(|bytes| bytes == far6)
    };
    assert!(!seen.frames().iter().any(guests), "its packets leave by a link that took a name");
    // It is seen, and the next apply says that this is the uplink now.
    assert!(!lab.plan(&spec).unwrap().is_empty());
    lab.apply(&spec);
    assert!(lab.plan(&spec).unwrap().is_empty());
    reaches(m1.netns(), FAR);
    assert!(seen.frames().iter().any(guests), "nothing leaves by the new uplink");
}

/// The host's ports may be open to some only.
#[test]
fn the_hosts_ports_may_be_open_to_some() {
    let lab = lab();
    let allow = "firewall = \"full\"\nallow_input = [{ port = 22, protocol = \"tcp\", from = \
         [\"203.0.113.1\", \"203.0.113.0/25\", \"2001:db8:113::/48\"] }, { port = 80, protocol = \"tcp\" }]";
    let spec = spec(allow, "", "");
    lab.apply(&spec);
    let _services = usual_services(&lab.world.hypervisor, "host").unwrap();
    let internet = &lab.world.internet;
    let from = |own: &str, host: IpAddr, port: u16| {
        let own: IpAddr = own.parse().unwrap();
        let host = SocketAddr::new(host, port);
        let output = internet.run(|| {
            std::process::Command::new("curl")
                .args(["-s", "--max-time", "2", "--interface", &own.to_string()])
                .args(["-w", "connected after %{time_connect}", "-o", "/dev/null"])
                .arg(format!("http://{host}/"))
                .output()
                .unwrap()
        });
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains("connected after"), "{output:?}");
        !told.contains("after 0.000000")
    };
    let (host4, host6): (IpAddr, IpAddr) = (address::UPLINK.into(), address::UPLINK6.into());
    assert!(from(FAR[0], host4, 22), "22 from a sender that is named");
    assert!(from(FAR[1], host6, 22), "22 from a sender that is named");
    assert!(!from(ROUTER[0], host4, 22), "22 from another");
    assert!(!from(ROUTER[1], host6, 22), "22 from another");
    assert!(from(ROUTER[0], host4, 80), "80 from anybody");
}
