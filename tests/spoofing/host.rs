//! The host around the rules: ports that leave their bridge, settings that
//! `down` gives back, operators whose connections outlive the first load.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hostctl::host::{HostError, Step, Watch};
use hostctl::testbed::frames::{Udp, contains, udp};
use hostctl::testbed::{
    Connection, DEFAULT_TIMEOUT, Netns, Options, Probe, Route, address, probe, usual_services,
};
use hostctl::topology::MacAddr;

use crate::spoofing::scene::Scene;
use crate::support::lab::Lab;
use crate::support::spec_parts::{idle_vms, network};

const SPEC: &str = concat!(
    r#"[host]
firewall = "full"
allow_input = [{ port = 22, protocol = "tcp" }]
"#,
    network!("a" 1),
    idle_vms!("a1" in "a"),
);

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
    let unbridged = |frame: &[u8]| contains(frame, b"unbridged");
    scene.capture("uplink0").none_within(unbridged, Duration::ZERO).unwrap();
    scene.who("b1").guest.guest.received().none_within(unbridged, Duration::ZERO).unwrap();
    // The same frame is what the host takes from a port that isn't a guest's.
    scene.lab.output("nft", &["delete", "element", "inet", "hostctl", "ports", "{ vm-a1 }"]);
    send(address::UPLINK.into());
    std::thread::sleep(Duration::from_millis(200));
    assert_ne!(scene.host_saw(), Vec::<String>::new());
}

/// A guest that speaks before each step, as whom it was and as whom it will be.
struct Chatter<'a> {
    scene: &'a Scene,
    steps: usize,
}

impl Watch for Chatter<'_> {
    fn before(&mut self, _: usize, _: usize, step: &Step) -> Result<(), HostError> {
        self.steps += 1;
        let (a1, b1) = (self.scene.who("a1"), self.scene.who("b1"));
        let show = self.scene.lab.world.hypervisor.run(|| {
            std::process::Command::new("ip").args(["-o", "link", "show", "vm-a1"]).output().unwrap().stdout
        });
        let show = String::from_utf8(show).unwrap();
        let port = show.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        let port = port.map(|mac| mac.parse::<MacAddr>().unwrap().octets());
        for ip in [a1.v4, [10, 2, 0, 3].into()] {
            for mac in [a1.bridge_mac, b1.bridge_mac, b1.mac, [0xff; 6]].into_iter().chain(port) {
                for to in [address::UPLINK, address::LAPTOP, a1.gateway, b1.gateway, b1.v4] {
                    // Once it has moved, its neighbour is its neighbour.
                    if ip.octets()[1] == 2 && to == b1.v4 {
                        continue;
                    }
                    let (source, destination) =
                        (SocketAddr::new(ip.into(), 9), SocketAddr::new(to.into(), 7));
                    let frame = udp(a1.to(mac), Udp { source, destination, payload: b"on the move" });
                    // The port may be gone.
                    let _ = a1.guest.guest.inject(&frame);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
        let heard = self.scene.host_saw();
        assert!(heard.is_empty(), "before {step}: {heard:?}");
        let moving = |frame: &[u8]| contains(frame, b"on the move");
        for log in [b1.guest.guest.received(), self.scene.capture("tailscale0")] {
            assert!(log.none_within(moving, Duration::ZERO).is_ok(), "before {step}");
        }
        Ok(())
    }
}

#[test]
fn a_guest_that_moves_or_goes_is_confined_at_every_step() {
    for bridge_nf in [false, true] {
        let scene = Scene::new(bridge_nf);
        let moved = scene.spec.replace("[vms.a1]\nnetwork = \"a\"", "[vms.a1]\nnetwork = \"b\"");
        let gone =
            scene.spec.replace("[vms.a1]\nnetwork = \"a\"\nimage = \"probe\"\nautostart = false\n", "");
        for spec in [&moved, &scene.spec, &gone] {
            let mut chatter = Chatter { scene: &scene, steps: 0 };
            scene.lab.try_apply(spec, &mut chatter).unwrap();
            assert!(chatter.steps > 2);
        }
        let host = &scene.lab.host;
        let mut chatter = Chatter { scene: &scene, steps: 0 };
        scene.lab.world.hypervisor.block_on(|| async { host.down(&mut chatter).await }).unwrap().unwrap();
    }
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
        let mut flow =
            Connection::open(&lab.world.internet, SocketAddr::new(host, 22), DEFAULT_TIMEOUT).unwrap();
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

/// Something else than hostctl begins to forward: its connections and its port
/// forwards are none of hostctl's business.
#[test]
fn who_forwards_later_is_let() {
    let lab = Lab::new(Options::default());
    let spec = SPEC.split_once("[networks.a]").unwrap().1;
    lab.apply(&format!("[networks.a]{spec}"));
    let hypervisor = &lab.world.hypervisor;
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        hypervisor.sysctl_set(key, "1").unwrap();
    }
    let container = Netns::new().unwrap();
    hypervisor
        .links(async |links| {
            links.add_veth("cont0", "eth0").await?;
            links.move_to("eth0", &container).await?;
            links.up("cont0").await?;
            links.add_address("cont0", "172.18.0.1/24".parse().unwrap()).await?;
            links.add_address("cont0", "2001:db8:18::1/64".parse().unwrap()).await
        })
        .unwrap();
    let routes = [("0.0.0.0/0", "172.18.0.1"), ("::/0", "2001:db8:18::1")];
    let back =
        [("172.18.0.0/24", IpAddr::V4(address::UPLINK)), ("2001:db8:18::/64", address::UPLINK6.into())];
    container
        .links(async |links| {
            links.up("eth0").await?;
            links.add_address("eth0", "172.18.0.5/24".parse().unwrap()).await?;
            links.add_address("eth0", "2001:db8:18::5/64".parse().unwrap()).await?;
            for (to, via) in routes {
                let (to, via) = (to.parse().unwrap(), Some(via.parse().unwrap()));
                links.add_route(Route { to, via, dev: "eth0" }).await?;
            }
            Ok(())
        })
        .unwrap();
    lab.world
        .internet
        .links(async |links| {
            for (to, via) in back {
                links.add_route(Route { to: to.parse().unwrap(), via: Some(via), dev: "eth0" }).await?;
            }
            Ok(())
        })
        .unwrap();
    let _services = usual_services(&container, "container").unwrap();
    for (far, own, host) in [
        (IpAddr::V4(address::FAR), "172.18.0.5", IpAddr::V4(address::UPLINK)),
        (address::FAR6.into(), "2001:db8:18::5", address::UPLINK6.into()),
    ] {
        let own: IpAddr = own.parse().unwrap();
        let out = probe(&container, Probe::Udp(SocketAddr::new(far, 7)), DEFAULT_TIMEOUT);
        // IPv6 is forwarded by the host or not; who turned it on can't be told.
        assert_eq!(out.is_allowed(), far.is_ipv4(), "to {far}: {out}");
        // What nobody asked for is as closed as it was without hostctl.
        let into = probe(&lab.world.internet, Probe::Tcp(SocketAddr::new(own, 80)), DEFAULT_TIMEOUT);
        assert!(!into.is_allowed(), "to {own}: {into}");
        let (family, target) =
            if own.is_ipv4() { ("ip", format!("{own}:7")) } else { ("ip6", format!("[{own}]:7")) };
        for command in [
            format!("add table {family} theirs"),
            format!("add chain {family} theirs c {{ type nat hook prerouting priority -100; }}"),
            format!("add rule {family} theirs c udp dport 7777 dnat to {target}"),
        ] {
            lab.output("nft", &[&command]);
        }
        let forwarded = probe(&lab.world.internet, Probe::Udp(SocketAddr::new(host, 7777)), DEFAULT_TIMEOUT);
        assert!(forwarded.is_allowed(), "by {host}: {forwarded}");
    }
}
