//! The model says what DESIGN's table of who may reach whom says.

use std::net::IpAddr;

use super::*;
use crate::packet::protocol::{ICMP, ICMPV6, TCP, UDP};
use crate::topology::IfName;
use crate::topology::test_topology::topology;

/// The documentation's addresses (RFC 5737, RFC 3849) are the internet and the
/// host's uplink, 100.64.0.0/10 is the tailnet.
pub(super) fn vicinity() -> Vicinity {
    let name = |name: &str| IfName::new(name).unwrap();
    let address = |link: &str, address: &str| (name(link), address.parse().unwrap());
    let route = |net: &str, link: &str| (net.parse().unwrap(), name(link));
    Vicinity {
        uplinks: vec![name("eth0")],
        addresses: vec![
            address("eth0", "198.51.100.2"),
            address("eth0", "2001:db8:1::2"),
            address("tailscale0", "100.64.0.1"),
            address("tailscale0", "fd7a:115c:a1e0::1"),
            address("lan0", "192.0.2.1"),
        ],
        routes: vec![
            route("0.0.0.0/0", "eth0"),
            route("::/0", "eth0"),
            route("198.51.100.0/24", "eth0"),
            route("192.0.2.0/24", "lan0"),
            route("100.64.0.0/10", "tailscale0"),
            // Alibaba's, which isn't the tailnet's.
            route("100.100.100.200/32", "eth0"),
            route("fd7a:115c:a1e0::/48", "tailscale0"),
        ],
        opened: vec![name("eth0")],
        closed6: false,
        on_link: vec!["198.51.100.0/24".parse().unwrap()],
    }
}

const HOST: &str = r#"
[host.tailscale]
interface = "tailscale0"
[networks.a]
cidr = "10.1.0.0/24"
cidr6 = "fd00:0:0:1::/64"
imds = "host"
tailscale = true
[networks.b]
cidr = "10.2.0.0/24"
cidr6 = "fd00:0:0:2::/64"
[networks.c]
cidr = "10.3.0.0/24"
cidr6 = "fd00:0:0:3::/64"
[networks.c.subnets.inside]
cidr = "10.3.0.0/25"
cidr6 = "fd00:0:0:3::/65"
type = "private"
[networks.d]
cidr = "10.4.0.0/24"
nat = false
[networks.e]
cidr = "10.5.0.0/24"
nat = "lan0"
imds = "host"
[[peerings]]
between = ["c", "a"]
[vms.a1]
network = "a"
image = "probe"
[vms.a2]
network = "a"
image = "probe"
[vms.b1]
network = "b"
image = "probe"
[vms.c1]
network = "c"
image = "probe"
[vms.d1]
network = "d"
image = "probe"
[vms.e1]
network = "e"
image = "probe"
"#;

fn entry(from: &str) -> Entry {
    let name = |name: &str| IfName::new(name).unwrap();
    match from {
        "host" => Entry::Host,
        "internet" => Entry::Interface(name("eth0")),
        "tailnet" => Entry::Interface(name("tailscale0")),
        guest => Entry::Guest(name(&format!("vm-{guest}"))),
    }
}

/// `a1 10.1.0.2 10.1.0.3 tcp/80`.
fn flow(text: &str) -> Flow {
    let mut words = text.split_whitespace();
    let mut next = || words.next().unwrap();
    let from = entry(next());
    let (source, destination): (IpAddr, IpAddr) = (next().parse().unwrap(), next().parse().unwrap());
    let (protocol, port) = match next().split_once('/') {
        Some(("tcp", port)) => (TCP, port.parse().unwrap()),
        Some(("udp", port)) => (UDP, port.parse().unwrap()),
        _ => (if source.is_ipv4() { ICMP } else { ICMPV6 }, 0),
    };
    Flow { entry: from, source, destination, protocol, port }
}

#[track_caller]
fn check(spec: &str, verdict: Verdict, flows: &[&str]) {
    let (topology, vicinity) = (topology(spec), vicinity());
    let model = Model::new(&topology, &vicinity);
    for text in flows {
        let judgement = model.judge(&flow(text));
        assert_eq!(judgement.verdict, verdict, "{text}: {judgement:?}");
    }
}

fn full() -> String {
    format!("[host]\nfirewall = \"full\"\n{HOST}")
}

#[test]
fn guests_reach_their_network_and_its_peers() {
    let flows = [
        "a1 10.1.0.2 10.1.0.3 tcp/80",
        "a1 fd00:0:0:1::2 fd00:0:0:1::3 udp/7",
        "a1 10.1.0.2 10.3.0.2 ping",
        "c1 fd00:0:0:3::2 fd00:0:0:1::2 tcp/1",
    ];
    check(HOST, Verdict::Allowed, &flows);
    check(&full(), Verdict::Allowed, &flows);
    let flows = [
        "a1 10.1.0.2 10.2.0.2 tcp/80",
        "b1 fd00:0:0:2::2 fd00:0:0:1::2 ping",
        // Nobody is there.
        "a1 10.1.0.2 10.1.0.99 tcp/80",
        "a1 10.1.0.2 10.1.0.255 udp/7",
        "a1 10.1.0.2 224.0.0.251 udp/5353",
        "a1 10.1.0.2 255.255.255.255 udp/67",
        "a1 fd00:0:0:1::2 ff02::1 ping",
        "a1 fd00:0:0:1::2 fe80::1 ping",
    ];
    check(HOST, Verdict::Dropped, &flows);
}

#[test]
fn guests_speak_in_their_own_name() {
    let flows = [
        "a1 10.1.0.3 10.1.0.2 tcp/80",
        "a1 203.0.113.1 10.1.0.3 tcp/80",
        "a1 fd00:0:0:1::3 fd00:0:0:1::2 ping",
        "a1 0.0.0.0 255.255.255.255 udp/67",
        "a1 10.1.0.2 10.1.0.3 udp/68",
        "a1 fd00:0:0:1::2 fd00:0:0:1::3 udp/546",
        // A network without IPv6 has none.
        "d1 fd00:0:0:4::2 2001:db8::1 tcp/443",
        "nobody 10.1.0.2 10.1.0.3 tcp/80",
        "host 10.1.0.1 fd00:0:0:1::2 tcp/80",
    ];
    check(HOST, Verdict::Dropped, &flows);
    check(HOST, Verdict::Allowed, &["a1 10.1.0.2 10.1.0.3 udp/546", "a1 fd00:0:0:1::2 fd00:0:0:1::3 udp/68"]);
}

#[test]
fn public_subnets_go_out_masqueraded() {
    let (topology, vicinity) = (topology(HOST), vicinity());
    let model = Model::new(&topology, &vicinity);
    for text in [
        "a1 10.1.0.2 203.0.113.1 tcp/443",
        "b1 fd00:0:0:2::2 2001:db8::1 ping",
        "e1 10.5.0.2 192.0.2.9 tcp/1",
    ] {
        let judgement = model.judge(&flow(text));
        assert_eq!((judgement.verdict, judgement.masqueraded), (Verdict::Allowed, true), "{text}");
        assert_eq!(judgement.way.last().unwrap().place, Checkpoint::Postrouting);
    }
    let flows = [
        "c1 10.3.0.2 203.0.113.1 tcp/443",
        "d1 10.4.0.2 203.0.113.1 tcp/443",
        "e1 10.5.0.2 203.0.113.1 tcp/443",
        "a1 10.1.0.2 192.0.2.9 tcp/443",
    ];
    check(HOST, Verdict::Dropped, &flows);
}

#[test]
fn the_host_answers_pings_of_a_guests_own_gateway() {
    check(HOST, Verdict::Allowed, &["a1 10.1.0.2 10.1.0.1 ping", "a1 fd00:0:0:1::2 fd00:0:0:1::1 ping"]);
    let flows = [
        "a1 10.1.0.2 10.1.0.1 tcp/22",
        "a1 10.1.0.2 10.3.0.1 ping",
        "a1 10.1.0.2 198.51.100.2 ping",
        "a1 10.1.0.2 100.64.0.1 tcp/22",
        "a1 fd00:0:0:1::2 fd00:0:0:2::1 ping",
        "a1 fd00:0:0:1::2 2001:db8:1::2 tcp/22",
        "a1 10.1.0.2 127.0.0.1 tcp/22",
        "a1 10.1.0.2 198.51.100.255 ping",
    ];
    check(HOST, Verdict::Dropped, &flows);
    check(&full(), Verdict::Dropped, &flows);
}

#[test]
fn metadata_is_by_the_networks_word() {
    let twins = [
        "169.254.169.254",
        "100.100.100.200",
        "fd00:42::42",
        "fd00:c1::a9fe:a9fe",
        "fd00:ec2::254",
        "fd20:ce::254",
    ];
    for twin in twins {
        let of = |guest: &str, v4: &str, v6: &str, what: &str| {
            format!("{guest} {} {twin} {what}", if twin.contains(':') { v6 } else { v4 })
        };
        check(HOST, Verdict::Allowed, &[&of("a1", "10.1.0.2", "fd00:0:0:1::2", "tcp/80")]);
        for what in ["udp/80", "tcp/443", "ping"] {
            check(HOST, Verdict::Dropped, &[&of("a1", "10.1.0.2", "fd00:0:0:1::2", what)]);
        }
        check(HOST, Verdict::Dropped, &[&of("b1", "10.2.0.2", "fd00:0:0:2::2", "tcp/80")]);
    }
    let flows = [
        "a1 10.1.0.2 168.63.129.16 tcp/80",
        "a1 10.1.0.2 169.254.1.1 tcp/80",
        "a1 fd00:0:0:1::2 ::ffff:169.254.169.254 tcp/80",
        "a1 fd00:0:0:1::2 ::ffff:203.0.113.1 tcp/80",
        "a1 fd00:0:0:1::2 64:ff9b::a9fe:a9fe tcp/80",
    ];
    check(HOST, Verdict::Dropped, &flows);
    // By an uplink of the host's, whatever the network's own exits are.
    check(HOST, Verdict::Allowed, &["e1 10.5.0.2 169.254.169.254 tcp/80"]);
}

#[test]
fn the_tailnet_reaches_networks_that_say_so_and_guests_only_answer() {
    check(
        HOST,
        Verdict::Allowed,
        &["tailnet 100.64.0.9 10.1.0.2 tcp/22", "tailnet fd7a:115c:a1e0::9 fd00:0:0:1::2 ping"],
    );
    let flows = [
        "tailnet 100.64.0.9 10.2.0.2 tcp/22",
        "tailnet 10.1.0.3 10.1.0.2 tcp/22",
        "tailnet 100.64.0.9 10.1.0.77 tcp/22",
        "a1 10.1.0.2 100.64.0.9 tcp/22",
        "a1 fd00:0:0:1::2 fd7a:115c:a1e0::9 ping",
        "internet 203.0.113.1 10.1.0.2 tcp/22",
        "internet 2001:db8::1 fd00:0:0:1::2 ping",
        "internet 100.64.0.9 10.1.0.2 tcp/22",
    ];
    check(HOST, Verdict::Dropped, &flows);
    check(&full(), Verdict::Dropped, &flows);
}

#[test]
fn what_is_no_guests_is_the_modes() {
    let flows = ["internet 203.0.113.1 198.51.100.2 tcp/80", "internet 203.0.113.1 10.1.0.1 tcp/80"];
    check(HOST, Verdict::Untouched, &flows);
    check(&full(), Verdict::Dropped, &flows);
    let flows = ["internet 203.0.113.1 198.51.100.2 tcp/22", "tailnet 100.64.0.9 100.64.0.1 tcp/80"];
    check(HOST, Verdict::Untouched, &flows);
    check(&full(), Verdict::Allowed, &flows);
    let flows = ["host 198.51.100.2 203.0.113.1 tcp/80", "host 127.0.0.1 127.0.0.1 tcp/80"];
    check(HOST, Verdict::Untouched, &flows);
    check(&full(), Verdict::Untouched, &flows);
    // Forwarding was off before hostctl: IPv4 from eth0 only.
    let flows = ["tailnet 100.64.0.9 203.0.113.1 tcp/80", "internet 2001:db8::1 2001:db8:7::1 tcp/80"];
    check(HOST, Verdict::Untouched, &flows);
    check(&full(), Verdict::Dropped, &flows);
    check(HOST, Verdict::Dropped, &["internet 203.0.113.1 192.0.2.9 tcp/80"]);
}

const POLICIES: &str = r#"
[policies.web]
ingress = [
    { protocol = "tcp", port = [80, 443] },
    { protocol = "tcp", port = 22, source = "network:c" },
    { action = "deny", source = "10.3.0.2", priority = 50 },
]
egress = [{ destination = "203.0.113.0/24" }, { destination = "network:a" }]
[vms.web]
network = "a"
image = "probe"
policy = "web"
"#;

#[test]
fn policies_of_both_ends_narrow() {
    let spec = format!("{HOST}{POLICIES}");
    let flows = [
        "a1 10.1.0.2 10.1.0.4 tcp/80",
        "host 10.1.0.1 10.1.0.4 tcp/443",
        "tailnet 100.64.0.9 10.1.0.4 tcp/80",
        "c1 fd00:0:0:3::2 fd00:0:0:1::4 tcp/22",
        "web 10.1.0.4 203.0.113.7 udp/53",
        "web 10.1.0.4 10.1.0.1 ping",
    ];
    check(&spec, Verdict::Allowed, &flows);
    let flows = [
        "a1 10.1.0.2 10.1.0.4 tcp/22",
        "a1 10.1.0.2 10.1.0.4 ping",
        "host 10.1.0.1 10.1.0.4 tcp/22",
        "c1 10.3.0.2 10.1.0.4 tcp/80",
        "tailnet 100.64.0.9 10.1.0.4 tcp/22",
        "web 10.1.0.4 198.51.100.9 udp/53",
        "web 10.1.0.4 10.3.0.2 tcp/80",
        "web 10.1.0.4 169.254.169.254 tcp/80",
    ];
    check(&spec, Verdict::Dropped, &flows);
    let (topology, vicinity) = (topology(&spec), vicinity());
    let judgement = Model::new(&topology, &vicinity).judge(&flow("c1 10.3.0.2 10.1.0.4 tcp/80"));
    let last = judgement.way.last().unwrap();
    assert_eq!(last.what, "policy web: deny from 10.3.0.2");
    let spec = toml::from_str(&spec).unwrap();
    assert_eq!(last.decided_by.as_ref().unwrap().path(&spec).to_string(), "policies.web.ingress[2]");
    let peering = judgement.way.iter().find(|stage| stage.place == Checkpoint::Forward).unwrap();
    assert_eq!(peering.decided_by.as_ref().unwrap().path(&spec).to_string(), "peerings[0]");
}
