//! A tightened spec ends exactly the tracked flows that it forbids: long-lived
//! connections through it, by the entries' own ids; and random policies
//! against the model.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use crate::support::lab::{Guest, Lab, compile};
use crate::support::random_policies::{POLICED_GUESTS, policies, policies_allow};
use crate::support::spec_parts::{idle_vms, network, peering, tailnet};
use hostctl::firewall::{FlowPolicy, Gone, conntrack};
use hostctl::reach::{FarEnd, TrackedFlow};
use hostctl::testbed::{Connection, Netns, Options, address};
use hostctl::topology::{Direction, Topology};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const SECOND: Duration = Duration::from_secs(1);

/// How long what has to come may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(10);

/// Three networks, two of them peered; `p` and `q` are the policies.
fn spec(p: &str, q: &str) -> String {
    format!(
        concat!(
            tailnet!(),
            network!("a" 1),
            "tailscale = true\n",
            network!("b" 2),
            network!("c" 3),
            peering!("a" and "b"),
            idle_vms!("a1" in "a"),
            "policy = 'p'\n",
            idle_vms!("a2" in "a", "b1" in "b"),
            "policy = 'q'\n",
            idle_vms!("c1" in "c"),
            "[policies.p]
ingress = [{p}]
[policies.q]
egress = [{q}]
",
        ),
        p = p,
        q = q
    )
}

/// A connection and what the kernel has of it.
struct Watched {
    what: String,
    flow: Connection,
    id: String,
    /// Whether the tightened spec allows it.
    stays: bool,
}

/// The ids of the tracked TCP flows, by the client's address and port.
fn ids(lab: &Lab) -> BTreeMap<(IpAddr, u16), String> {
    let mut found = BTreeMap::new();
    for family in ["ipv4", "ipv6"] {
        for line in lab.output("conntrack", &["-L", "-p", "tcp", "-f", family, "-o", "id"]).lines() {
            // The first of each is of the original direction.
            let field = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
            let (Some(source), Some(port), Some(id)) = (field("src="), field("sport="), field("id=")) else {
                continue;
            };
            found.insert((source.parse().unwrap(), port.parse().unwrap()), id.to_string());
        }
    }
    found
}

impl Watched {
    fn key(&self) -> (IpAddr, u16) {
        let address = self.flow.local_address().unwrap();
        (address.ip().to_canonical(), address.port())
    }
}

#[test]
fn exactly_the_flows_that_a_tightened_spec_forbids_end() {
    let lab = Lab::new(Options::default());
    // Ports 80 and 22 from everywhere; b1 may go everywhere.
    let open = spec("{ port = [80, 22], protocol = \"tcp\" }", "{ protocol = \"any\" }");
    // Port 22 only for network a, nothing for the tailnet; b1 only to port 80,
    // and no more to the internet's IPv6.
    let tight = spec(
        "{ port = 80, protocol = \"tcp\", source = [\"10.0.0.0/8\", \"fd00:0:0:1::/64\", \"fd00:0:0:2::/64\"] }, \
         { port = 22, protocol = \"tcp\", source = \"network:a\" }",
        "{ port = 80, protocol = \"tcp\", destination = [\"0.0.0.0/0\", \"fd00::/8\"] }",
    );
    lab.apply(&open);
    let guests: BTreeMap<&str, Guest> =
        ["a1", "a2", "b1", "c1"].map(|name| (name, lab.guest(&open, name))).into();
    let both = |name: &str| [guests[name].v4, guests[name].v6.unwrap()];
    let far: [IpAddr; 2] = [address::FAR.into(), address::FAR6.into()];
    let netns = |name: &str| match name {
        "laptop" => &lab.world.laptop,
        "host" => &lab.world.hypervisor,
        name => guests[name].netns(),
    };
    // From, to, port, and whether it stays, over IPv4 and IPv6.
    let wanted = [
        ("a2", "a1", 80, [true, true]),
        ("a2", "a1", 22, [true, true]),
        ("b1", "a1", 80, [true, true]),
        ("b1", "a1", 22, [false, false]),
        ("b1", "a2", 80, [true, true]),
        ("b1", "a2", 22, [false, false]),
        ("b1", "far", 80, [true, false]),
        ("b1", "far", 22, [false, false]),
        ("a1", "b1", 22, [true, true]),
        ("a1", "far", 22, [true, true]),
        ("a2", "far", 80, [true, true]),
        ("c1", "far", 22, [true, true]),
        ("laptop", "a1", 80, [false, false]),
        ("laptop", "a2", 22, [true, true]),
        ("host", "a1", 80, [true, true]),
        ("host", "a1", 22, [true, true]),
        ("host", "b1", 22, [true, true]),
    ];
    let mut connections = Vec::new();
    for (from, to, port, stays) in wanted {
        let targets = if to == "far" { far } else { both(to) };
        for (target, stays) in targets.into_iter().zip(stays) {
            let what = format!("{from} to {to}, {target} port {port}");
            let mut flow = Connection::open(netns(from), SocketAddr::new(target, port), PATIENCE)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(flow.still_alive(PATIENCE), "{what}");
            connections.push(Watched { what, flow, id: String::new(), stays });
        }
    }
    let before = ids(&lab);
    for connection in &mut connections {
        connection.id =
            before.get(&connection.key()).unwrap_or_else(|| panic!("{}", connection.what)).clone();
    }
    lab.apply(&tight);
    let after = ids(&lab);
    // Entries first: what goes on sending makes new ones where it may.
    for connection in &connections {
        let wanted = connection.stays.then_some(&connection.id);
        assert_eq!(after.get(&connection.key()), wanted, "{}", connection.what);
    }
    std::thread::scope(|scope| {
        for Watched { what, flow, stays, .. } in &mut connections {
            let time = if *stays { PATIENCE } else { SECOND / 2 };
            scope.spawn(move || assert_eq!(flow.still_alive(time), *stays, "{what}"));
        }
    });
    // Applying it again touches none of them; nor does what is about others.
    lab.apply(&tight);
    lab.apply(&format!("{tight}[networks.d]\ncidr = \"10.4.0.0/24\"\n"));
    let last = ids(&lab);
    for connection in connections.iter().filter(|connection| connection.stays) {
        assert_eq!(last.get(&connection.key()), Some(&connection.id), "{}", connection.what);
    }
}

/// What the spec says about a flow between these guests, the internet, the
/// tailnet and the host: by its definition, in its own words.
fn allowed(topology: &Topology, flow: &TrackedFlow) -> bool {
    let own = |address: IpAddr| {
        topology.ports().find(|port| {
            address == IpAddr::from(port.address)
                || port.v6.as_ref().is_some_and(|v6| address == IpAddr::from(v6.address))
        })
    };
    let says = |address: IpAddr, direction: Direction, far: IpAddr| {
        let far = FarEnd { address: far, protocol: flow.protocol, port: flow.port };
        policies_allow(topology, address, direction, &far)
    };
    let network = |address: IpAddr| own(address).map(|port| &port.network);
    let reaches = match (network(flow.source), network(flow.destination)) {
        (Some(a), Some(b)) => a == b || topology.connected(a, b),
        // Every subnet here is public; guests open nothing to the tailnet or the host.
        (Some(_), None) => INTERNET.contains(&flow.destination.to_string().as_str()),
        (None, Some(b)) => {
            HOST.contains(&flow.source.to_string().as_str())
                || (TAILNET.contains(&flow.source.to_string().as_str())
                    && topology.network(b).is_some_and(|network| network.tailscale))
        }
        (None, None) => true,
    };
    reaches
        && says(flow.source, Direction::Egress, flow.destination)
        && says(flow.destination, Direction::Ingress, flow.source)
}

/// Guests with policies, and one without in a network that has one.
fn guests() -> String {
    [tailnet!(), POLICED_GUESTS, idle_vms!("b2" in "b")].concat()
}

const INTERNET: [&str; 4] = ["203.0.113.1", "198.51.100.9", "2001:db8:113::1", "8.8.8.8"];
const TAILNET: [&str; 2] = ["100.64.50.50", "fd7a:115c:a1e0::50"];
const HOST: [&str; 4] = ["10.1.0.1", "10.2.0.1", "198.51.100.2", "2001:db8:51::2"];
const INSIDE: [&str; 8] = [
    "10.1.0.2",
    "10.1.0.3",
    "10.2.0.2",
    "10.2.0.3",
    "fd00:0:0:1::2",
    "fd00:0:0:1::3",
    "fd00:0:0:2::2",
    "fd00:0:0:2::3",
];

/// Any spec over these guests: policies, a peering, the tailnet.
fn specs() -> impl Strategy<Value = String> {
    (policies(4), any::<bool>(), any::<bool>()).prop_map(|(policies, peered, tailscale)| {
        let peering = if peered { "[[peerings]]\nbetween = [\"a\", \"b\"]\n" } else { "" };
        let guests = if tailscale {
            guests().replacen("[networks.b]", "tailscale = true\n[networks.b]", 1)
        } else {
            guests()
        };
        format!("{guests}{peering}{policies}")
    })
}

fn flows() -> impl Strategy<Value = Vec<TrackedFlow>> {
    let everybody = [&INTERNET[..], &TAILNET, &HOST, &INSIDE].concat();
    let end = proptest::sample::select(everybody);
    let service =
        proptest::sample::select(vec![(6, 80), (6, 22), (6, 443), (17, 7), (17, 150), (1, 0), (58, 0)]);
    let flow = (end.clone(), end, service).prop_map(|(source, destination, (protocol, port))| TrackedFlow {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol,
        port,
    });
    let possible = |flow: &TrackedFlow| {
        let v4 = flow.source.is_ipv4();
        v4 == flow.destination.is_ipv4()
            && flow.protocol != if v4 { 58 } else { 1 }
            && flow.source != flow.destination
    };
    proptest::collection::vec(flow, 400).prop_map(move |flows| flows.into_iter().filter(possible).collect())
}

/// Puts flows into the kernel's table, each with a source port (or id) of its
/// own, from 1024.
fn track(netns: &Netns, flows: &[TrackedFlow]) {
    let mut text = String::new();
    for (flow, own) in flows.iter().zip(1024..) {
        let TrackedFlow { source, destination, protocol, port } = flow;
        let service = match protocol {
            6 => format!("-p tcp --sport {own} --dport {port} --state ESTABLISHED"),
            17 => format!("-p udp --sport {own} --dport {port}"),
            1 => format!("-p icmp --icmp-type 8 --icmp-code 0 --icmp-id {own}"),
            _ => format!("-p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id {own}"),
        };
        writeln!(text, "-I -s {source} -d {destination} {service} -t 3600").unwrap();
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let load = || Command::new("conntrack").arg("-R").arg(file.path()).output().unwrap();
    let output = netns.run(load);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The places of the flows that are tracked, and their entries' ids.
fn tracked(netns: &Netns) -> BTreeMap<usize, String> {
    let list = |family: &str| {
        let mut command = Command::new("conntrack");
        let output = netns.run(|| command.args(["-L", "-f", family, "-o", "id"]).output().unwrap());
        String::from_utf8(output.stdout).unwrap()
    };
    let text = list("ipv4") + &list("ipv6");
    let entry = |line: &str| {
        let field = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
        // The ids of echo requests come before their entries' own.
        let own: usize = field("sport=").or_else(|| field("id="))?.parse().ok()?;
        let id = line.split_whitespace().rev().find_map(|word| word.strip_prefix("id="))?;
        Some((own - 1024, id.to_string()))
    };
    text.lines().filter_map(entry).collect()
}

/// Of the flows that one spec allows, those end that the other denies: in
/// words, and in the kernel.
#[test]
fn what_ends_is_what_was_allowed_and_is_denied_now() {
    let (ended, stayed) = (Cell::new(0), Cell::new(0));
    let case = |old: &str, new: &str, flows: Vec<TrackedFlow>, kernel: bool| {
        let ((_, old), (_, new)) = (compile(old), compile(new));
        let host = HOST.map(|address| address.parse().unwrap()).into();
        let policy = FlowPolicy::new(&new, host, &[], Gone::default());
        let open: Vec<TrackedFlow> = flows.into_iter().filter(|flow| allowed(&old, flow)).collect();
        for flow in &open {
            let ends = !allowed(&new, flow);
            let count = if ends { &ended } else { &stayed };
            count.set(count.get() + 1);
            prop_assert_eq!(policy.forbids(flow), ends, "{:?}", flow);
        }
        if kernel {
            let netns = Netns::new().unwrap();
            track(&netns, &open);
            let before = tracked(&netns);
            prop_assert_eq!(before.len(), open.len());
            let count = netns.run(|| conntrack::cut(&policy).unwrap());
            let stay = |place: &usize| allowed(&new, &open[*place]);
            let wanted: BTreeMap<_, _> = before.into_iter().filter(|(place, _)| stay(place)).collect();
            prop_assert_eq!(count, open.len() - wanted.len());
            prop_assert_eq!(tracked(&netns), wanted);
        }
        Ok(())
    };
    let run = |cases: u32, kernel: bool| {
        let mut runner =
            TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..Default::default() });
        let result =
            runner.run(&(specs(), specs(), flows()), |(old, new, flows)| case(&old, &new, flows, kernel));
        result.unwrap_or_else(|error| panic!("{error}"));
    };
    run(200, false);
    run(5, true);
    assert!(ended.get() > 1000 && stayed.get() > 1000, "{ended:?} {stayed:?}");
}
