//! The host around the rules: ports that leave their bridge, settings that
//! `down` gives back, operators whose connections outlive the first load.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hostctl::testbed::frames::{Udp, udp};
use hostctl::testbed::{DEFAULT_TIMEOUT, Flow, Netns, Options, address, usual_services};
use hostctl::topology::MacAddr;

use crate::lab::Lab;
use crate::scene::Scene;

const SPEC: &str = r#"
[host]
firewall = "full"
allow_input = [{ port = 22, protocol = "tcp" }]
[networks.a]
cidr = "10.1.0.0/24"
cidr6 = "fd00:0:0:1::/64"
[vms.a1]
network = "a"
image = "probe"
autostart = false
"#;

/// Somebody takes a port off its bridge, or it is on its way to another.
#[test]
fn a_port_off_its_bridge_reaches_nothing() {
    let scene = Scene::new(false);
    let a1 = scene.who("a1");
    scene.lab.output("ip", &["link", "set", "vm-a1", "nomaster"]);
    let show = scene.lab.output("ip", &["-o", "link", "show", "vm-a1"]);
    let port = show.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    let port = port.parse::<MacAddr>().unwrap().octets();
    let source = SocketAddr::new(a1.v4.into(), 9);
    let send = |to: IpAddr| {
        let destination = SocketAddr::new(to, 7);
        let link = a1.to(port);
        a1.guest.guest.inject(&udp(link, Udp { source, destination, payload: b"unbridged" })).unwrap();
    };
    for to in [address::UPLINK, address::TAILSCALE, a1.gateway, address::FAR, scene.who("b1").v4] {
        send(to.into());
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(scene.host_saw(), Vec::<String>::new());
    let unbridged = |frame: &[u8]| hostctl::testbed::frames::contains(frame, b"unbridged");
    scene.capture("uplink0").none_within(unbridged, Duration::ZERO).unwrap();
    scene.who("b1").guest.guest.received().none_within(unbridged, Duration::ZERO).unwrap();
    // The same frame is what the host takes from a port that isn't a guest's.
    scene.lab.output("nft", &["delete", "element", "inet", "hostctl", "ports", "{ vm-a1 }"]);
    send(address::UPLINK.into());
    std::thread::sleep(Duration::from_millis(200));
    assert_ne!(scene.host_saw(), Vec::<String>::new());
}

/// Every setting of IP's and of bridges' in a namespace.
fn settings(netns: &Netns) -> BTreeMap<String, String> {
    fn walk(directory: &std::path::Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if let Ok(value) = std::fs::read_to_string(&path) {
                found.insert(path.display().to_string(), value);
            }
        }
    }
    netns.run(|| {
        let mut found = BTreeMap::new();
        for part in ["ipv4", "ipv6", "bridge"] {
            walk(&std::path::Path::new("/proc/sys/net").join(part), &mut found);
        }
        found.retain(|path, _| {
            !["nf_conntrack", "netfilter", "stable_secret"].iter().any(|part| path.contains(part))
        });
        found
    })
}

#[test]
fn down_gives_every_setting_back() {
    for (v4, v6, accept_ra) in [("0", "0", "1"), ("1", "1", "1"), ("0", "1", "0"), ("1", "0", "0")] {
        let lab = Lab::new(Options::default());
        let hypervisor = &lab.world.hypervisor;
        for (key, value) in [
            ("net/ipv4/ip_forward", v4),
            ("net/ipv6/conf/all/forwarding", v6),
            ("net/ipv6/conf/uplink0/accept_ra", accept_ra),
        ] {
            hypervisor.sysctl_set(key, value).unwrap();
        }
        let before = settings(hypervisor);
        lab.apply(SPEC);
        assert_ne!(settings(hypervisor), before);
        // A router that listens to no router goes on like that.
        let listens = hypervisor.sysctl_get("net/ipv6/conf/uplink0/accept_ra").unwrap();
        let expected = if (v6, accept_ra) == ("0", "1") { "2" } else { accept_ra };
        assert_eq!(listens, expected);
        lab.apply(SPEC);
        lab.down();
        let after = settings(hypervisor);
        let changed: Vec<_> = before.iter().filter(|(key, value)| after.get(*key) != Some(value)).collect();
        assert!(changed.is_empty(), "ip_forward {v4}, IPv6 {v6}, accept_ra {accept_ra}: {changed:?}");
        assert_eq!(before.len(), after.len());
    }
}

#[test]
fn the_operators_connection_outlives_the_first_load() {
    let lab = Lab::new(Options::default());
    let _services = usual_services(&lab.world.hypervisor, "host").unwrap();
    for host in [IpAddr::V4(address::UPLINK), address::UPLINK6.into()] {
        let mut flow = Flow::open(&lab.world.internet, SocketAddr::new(host, 22), DEFAULT_TIMEOUT).unwrap();
        flow.ping(DEFAULT_TIMEOUT).unwrap();
        lab.apply(SPEC);
        assert!(flow.still_alive(DEFAULT_TIMEOUT), "{host}");
        lab.down();
    }
}

/// A DHCP client renews its lease by the server's broadcast, too.
#[test]
fn the_host_hears_its_own_dhcp_server() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let client = lab.world.hypervisor.run(|| UdpSocket::bind("0.0.0.0:68").unwrap());
    client.set_read_timeout(Some(DEFAULT_TIMEOUT)).unwrap();
    let server = lab.world.internet.run(|| UdpSocket::bind("0.0.0.0:67").unwrap());
    server.set_broadcast(true).unwrap();
    for to in [address::UPLINK, [198, 51, 100, 255].into()] {
        server.send_to(b"offer", (to, 68)).unwrap();
        assert_eq!(client.recv(&mut [0; 64]).map_err(|error| error.kind()), Ok(5), "{to}");
    }
    server.send_to(b"query", (address::UPLINK, 67)).unwrap();
}
