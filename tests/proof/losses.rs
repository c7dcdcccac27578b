//! The comparison can fail: each rule, and elements of each set, are taken
//! away, and some flow has to notice.

use std::collections::{BTreeMap, BTreeSet};

use hostctl::reach::{Flow, Model};
use serde_json::Value;

use super::flows::flows;
use super::scene::Scene;
use crate::support::oracle::Tables;
use crate::support::spec_parts::{network, peering, tailnet};

/// A host with everything that the rules know of.
pub const FULL: &str = concat!(
    r#"[host]
firewall = "full"
allow_input = [{ protocol = "tcp", port = 22 }, { protocol = "udp", port = 7, from = ["203.0.113.0/24", "2001:db8:113::/48"] }]
deny = ["203.0.114.0/24", "192.168.7.0/24", "2001:db8:9::/48"]
dns = ["10.9.0.9", "fd00:9::9"]
"#,
    tailnet!(),
    network!("a" 1),
    r#"imds = "host"
tailscale = true
lan = ["192.168.0.0/16", "fc00::/16"]
[networks.a.subnets.out]
cidr = "10.1.0.0/25"
cidr6 = "fd00:0:0:1::/65"
type = "public"
[networks.a.subnets.in]
cidr = "10.1.0.128/25"
cidr6 = "fd00:0:0:1:8000::/65"
type = "private"
namespace = true
"#,
    network!("b" 2),
    "lan = true\n",
    network!("c" 3),
    "nat = false\n",
    peering!("a" and "b"),
    r#"[vms.a1]
network = "a"
subnet = "out"
image = "probe"
policy = "open"
[vms.a2]
network = "a"
subnet = "out"
image = "probe"
[vms.b1]
network = "b"
image = "probe"
policy = "closed"
[vms.b2]
network = "b"
image = "probe"
[vms.c1]
network = "c"
image = "probe"
[vms.c2]
network = "c"
image = "probe"

[policies.open]
default = "allow"
ingress = [{ protocol = "tcp", port = 80, action = "deny" }, { protocol = "icmp", action = "deny" }, { protocol = "icmpv6", action = "deny" }]
egress = [{ protocol = "udp", port = "53-60", action = "deny" }, { protocol = "icmp", action = "deny" }, { protocol = "icmpv6", action = "deny" }]
[policies.closed]
ingress = [{ protocol = "tcp", port = [22, "8000-8080"], source = "network:a" }, { protocol = "icmp" }, { protocol = "icmpv6" }]
egress = [{ protocol = "udp", port = 53 }, { protocol = "icmp" }, { protocol = "icmpv6" }]
"#,
);

/// Most flows that one loss is tried with, evenly among those that met it.
const ENOUGH: usize = 1500;

/// Rules that no flow's first packet misses, by the reason. What isn't here
/// has to be noticed, so a new rule is noticed or explained.
const QUIET_RULES: [(&str, &[&str]); 6] = [
    (
        "routing asks for it where the firewall is gone; tests/flush takes that away",
        &["inet source: judged: without it, networks are kept apart by routes"],
    ),
    (
        "they judge frames and headers that an honest flow doesn't have; tests/spoofing sends those",
        &[
            "bridge arp_in: ARP in another's name",
            "bridge arp_in: malformed",
            "bridge arp_in: neither request nor reply",
            "bridge arp_in: not Ethernet",
            "bridge arp_in: not IPv4",
            "bridge arp_in: probe for its own address (RFC 5227)",
            "bridge arp_in: sender is the guest",
            "bridge from_port: a guest is no switch",
            "bridge from_port: neither ARP, IPv4 nor IPv6: VLAN tags, LLDP, anything unknown",
            "bridge from_port: source MAC isn't the guest's",
            "bridge icmp6_in: a first fragment hides its type (RFC 7112)",
            "bridge icmp6_in: a guest is no router: MLD query, RA, redirect, renumbering and the like (6)",
            "bridge icmp6_in: advertises another's address, or none that can be read (6)",
            "bridge icmp6_in: advertises its own address (6)",
            "bridge ip6_in: neighbour discovery is never fragmented (RFC 6980) (6)",
            "bridge icmp6_in: the rest of a packet whose beginning is judged above",
            "bridge input: a guest is no switch",
            "bridge ip4_in: a fragment larger than a frame: the memory for incomplete packets is the host's",
            "bridge ip4_in: a guest is no router",
            "bridge ip4_in: a guest is no router: IGMP query",
            "bridge ip6_in: a first fragment hides its ports (RFC 7112) (6)",
            "bridge ip6_in: a fragment larger than a frame: the memory for incomplete packets is the host's (6)",
            "bridge ip6_in: a header chain that can't be read to its end (6)",
            "bridge ip6_in: duplicate address detection for its own address (RFC 4862) (6)",
            "bridge ip6_in: neighbour discovery has rules of its own (6)",
            "bridge ip6_in: the rest of a packet whose beginning is judged above (6)",
            "bridge from_port: to everybody, or to a group",
            "bridge to_group: an IP packet in a frame to a group",
            "bridge to_group: neighbour discovery (RFC 4861), listeners (RFC 2710, RFC 3810) (6)",
            "bridge to_group: who has that address",
            "inet guest_to_host: finding its neighbours (RFC 4861) (6)",
            "inet guest_to_host: sent by every guest, answered by none (6)",
            "inet host_to_guest: the network's, not the host's (6)",
            "inet input: IPv6 doesn't work without (RFC 4890) (6)",
            "inet input: multicast listeners (RFC 4890) (6)",
            "inet input: the host's own DHCP (RFC 2131)",
            "inet input: the host's own DHCPv6 (6)",
            "inet output: there is no shorter way",
            "inet output: there is no shorter way (6)",
            "inet policed: finding neighbours (RFC 4861) (6)",
            "inet policed: to a group, which guests with a policy are in",
            "inet policed: to a group, which guests with a policy are in (6)",
            "inet policy_open_in: allowed by default: it has no ports",
            "inet policy_open_in: ports that can't be read",
            "inet policy_open_out: allowed by default: it has no ports",
            "inet policy_open_out: ports that can't be read",
            "inet source: duplicate address detection; judged at the port (6)",
        ],
    ),
    (
        "they are about flows that are there already; tests/isolation.rs and tests/spoofing have such",
        &[
            "inet forward: replies to what was forwarded",
            "inet forward: somebody's port forward",
            "inet from_guest: ICMP error about another's flow",
            "inet from_guest: ICMP error about another's flow (6)",
            "inet from_guest: belongs to no connection, so it wouldn't be masqueraded",
            "inet from_guest: reply to the tailnet",
            "inet from_guest: reply to the tailnet (6)",
            "inet guest_to_host: reply to a flow that the host opened",
            "inet guest_to_host: reply to a flow that the host opened (6)",
            "inet input: belongs to no connection",
            "inet input: replies",
            "inet new_flow: not its first packet",
            "inet policed: errors belong to their flow (RFC 4890) (6)",
            "inet policed: errors belong to their flow: path MTU (RFC 1191)",
            "inet policed: policies judge who opens a flow",
            "inet to_guest: reply from the internet",
        ],
    ),
    (
        "another rule behind them decides the same",
        &[
            "bridge ip4_in: source address isn't the guest's, or can't be read",
            "inet forward: the last rule",
            "inet from_guest: no other network",
            "inet input: the last rule",
            "inet prerouting: a port that left its bridge, or LLDP's group, which passes by the bridge's chains",
            "inet prerouting: who sends from a bridge",
            "inet source: not the address of a guest of this network",
            "inet source: not the address of a guest of this network (6)",
        ],
    ),
    (
        "they decide nothing while a guest keeps within its bounds",
        &[
            "inet clamp: segments that fit the tunnel",
            "inet policed: a guest's flow takes room in the host's table",
            "inet drop_limit: the guest has enough flows",
            "inet new_flow: the last rule",
            "inet counted: the last rule",
            "bridge to_group: a storm of broadcast or multicast",
            "bridge arp_in: a storm of ARP",
            "bridge ip4_in: and all guests'",
            "bridge ip6_in: a storm of neighbour discovery (6)",
            "bridge ip6_in: and all guests' (6)",
        ],
    ),
    (
        "without them only the source port could be guessed",
        &[
            "inet port_share_1: a part of the ports",
            "inet port_share_2: a part of the ports",
            "inet port_share_3: a part of the ports",
            "inet port_share_4: a part of the ports",
            "inet postrouting: guests share the host's address; ports can't be guessed",
            "inet postrouting: guests share the host's address; ports can't be guessed (6)",
            "inet postrouting: those who could take all",
            "inet postrouting: those who could take all (6)",
        ],
    ),
];

/// Elements likewise, by how they begin.
const QUIET_ELEMENTS: [(&str, &[&str]); 5] = [
    (
        "the kernel routes nothing to them",
        &[
            "inet closed4 {\"prefix\":{\"addr\":\"0.0.0.0\",\"len\":8}}",
            "inet closed4 {\"prefix\":{\"addr\":\"127.0.0.0\",\"len\":8}}",
            "inet closed4 {\"prefix\":{\"addr\":\"224.0.0.0\",\"len\":3}}",
            "inet closed6 {\"prefix\":{\"addr\":\"ff00::\",\"len\":8}}",
        ],
    ),
    (
        "they bound how much, or which ports",
        &[
            "bridge group_rate ",
            "bridge neighbour_rate ",
            "bridge fragment_rate4 ",
            "bridge fragment_rate6 ",
            "inet port_share ",
            "inet port_share6 ",
        ],
    ),
    ("only neighbour discovery asks for them", &["bridge port_target "]),
    ("only replies and ICMP errors ask for them", &["inet own4 ", "inet own6 "]),
    (
        "they are about groups, link-local addresses, and ports that left their bridge",
        &[
            "inet receivers ",
            "inet ports ",
            "inet ingress6 [{\"concat\":[\"br-a\",\"fe80::",
            "inet ingress6 [{\"concat\":[\"br-b\",\"fe80::",
            "inet metadata6 {\"prefix\":{\"addr\":\"fe80::\",\"len\":10}}",
            // From there only the gateway is pinged, which these two's policies don't tell apart.
            "bridge port_mac_ip6 {\"concat\":[\"vm-a1\",\"02:71:e2:fa:8d:b8\",\"fe80::",
            "inet guest6 {\"concat\":[\"br-a\",\"fe80::71:e2ff:fefa:8db8\"]}",
            "inet egress6 [{\"concat\":[\"br-b\",\"fe80::71:e2ff:fef2:1e03\"]}",
        ],
    ),
];

fn objects(scene: &Scene) -> Vec<Value> {
    let listing: Value = serde_json::from_str(&scene.listing()).unwrap();
    listing["nftables"].as_array().unwrap().clone()
}

/// Flows with the rules that each of them matched.
struct Survey<'s> {
    scene: &'s Scene,
    model: Model<'s>,
    flows: Vec<Flow>,
    /// By a rule's place in the listing, flows that matched it.
    matched: BTreeMap<usize, Vec<usize>>,
    /// By a set's and an element's place, flows that found it.
    found: BTreeMap<(usize, usize), Vec<usize>>,
}

impl<'s> Survey<'s> {
    fn new(scene: &'s Scene, objects: &[Value]) -> Self {
        let model = Model::new(&scene.topology, &scene.vicinity);
        let (tables, host, flows) = (Tables::read(objects).unwrap(), scene.host(), flows(scene));
        let mut survey = Self { scene, model, flows, matched: BTreeMap::new(), found: BTreeMap::new() };
        for (index, flow) in survey.flows.iter().enumerate() {
            let trace = scene.compare(&survey.model, &host, &tables, flow);
            let trace = trace.unwrap_or_else(|error| panic!("{error}"));
            for place in trace.matched {
                survey.matched.entry(place).or_default().push(index);
            }
            for place in trace.elements {
                survey.found.entry(place).or_default().push(index);
            }
        }
        survey
    }

    /// Whether any of these flows fares otherwise than the model says.
    fn notices(&self, objects: &[Value], flows: Option<&Vec<usize>>) -> bool {
        let Some(flows) = flows else { return false };
        let (tables, host) = (Tables::read(objects).unwrap(), self.scene.host());
        let mut flows =
            flows.iter().step_by(1 + flows.len() / ENOUGH).filter_map(|index| self.flows.get(*index));
        flows.any(|flow| self.scene.compare(&self.model, &host, &tables, flow).is_err())
    }
}

fn scenes() -> [Scene; 3] {
    let guests = FULL.replace("firewall = \"full\"", "").replace("allow_input = ", "# ");
    [Scene::new(FULL), Scene::new(&guests), Scene::new(&guests).forwarding()]
}

/// A rule as people know it: its chain and comment.
fn label(rule: &Value) -> String {
    format!(
        "{} {}: {}",
        rule["family"].as_str().unwrap(),
        rule["chain"].as_str().unwrap(),
        rule["comment"].as_str().unwrap_or("the last rule")
    )
}

#[test]
fn the_loss_of_any_rule_is_noticed() {
    let (mut all, mut noticed) = (BTreeSet::new(), BTreeSet::new());
    for scene in scenes() {
        let objects = objects(&scene);
        let survey = Survey::new(&scene, &objects);
        for (place, object) in objects.iter().enumerate() {
            let Some(rule) = object.get("rule") else { continue };
            // Bounds on how much: tests/adversary* exceed them.
            if ["limit", "ct count"]
                .iter()
                .any(|word| rule["expr"].to_string().contains(&format!("\"{word}\"")))
            {
                continue;
            }
            // Rules of the same comment are IPv4's and IPv6's twins.
            let twin = if rule.to_string().contains("ip6") || rule.to_string().contains("icmpv6") {
                " (6)"
            } else {
                ""
            };
            let label = label(rule) + twin;
            let without: Vec<Value> = objects
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != place)
                .map(|(_, object)| object.clone())
                .collect();
            if survey.notices(&without, survey.matched.get(&place)) {
                noticed.insert(label.clone());
            }
            all.insert(label);
        }
    }
    let missed: Vec<&String> = all.difference(&noticed).collect();
    let quiet: BTreeSet<&str> = QUIET_RULES.iter().flat_map(|(_, labels)| labels.iter().copied()).collect();
    let missed: BTreeSet<&str> = missed.into_iter().map(String::as_str).collect();
    let differ: Vec<_> = missed.symmetric_difference(&quiet).collect();
    assert!(
        differ.is_empty(),
        "missed by no flow and not explained above, or the other way round: {differ:#?}"
    );
    println!("{} of {} rules are missed by a flow", noticed.len(), all.len());
}

#[test]
fn the_loss_of_any_element_is_noticed() {
    let (mut all, mut noticed) = (BTreeSet::new(), BTreeSet::new());
    for scene in scenes() {
        let objects = objects(&scene);
        let survey = Survey::new(&scene, &objects);
        for (place, object) in objects.iter().enumerate() {
            let Some(set) = object.get("set").or_else(|| object.get("map")) else { continue };
            let Some(elements) = set["elem"].as_array() else { continue };
            for (index, element) in elements.iter().enumerate() {
                let label = format!(
                    "{} {} {}",
                    set["family"].as_str().unwrap(),
                    set["name"].as_str().unwrap(),
                    element
                );
                let mut without = objects.clone();
                let kind = if object.get("set").is_some() { "set" } else { "map" };
                without[place][kind]["elem"].as_array_mut().unwrap().remove(index);
                if survey.notices(&without, survey.found.get(&(place, index))) {
                    noticed.insert(label.clone());
                }
                all.insert(label);
            }
        }
    }
    let missed: Vec<&String> = all.difference(&noticed).collect();
    let quiet: Vec<&str> = QUIET_ELEMENTS.iter().flat_map(|(_, labels)| labels.iter().copied()).collect();
    let explained = |label: &str| quiet.iter().any(|quiet| label.starts_with(quiet));
    let missed: Vec<_> = missed.into_iter().filter(|label| !explained(label)).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    println!("{} of {} elements are missed by a flow", noticed.len(), all.len());
}
