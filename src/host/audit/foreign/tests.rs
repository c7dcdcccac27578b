//! What can't be loaded everywhere: flowtables, iptables' own matches, marks.

use serde_json::{Value, json};

use super::*;
use crate::firewall::Severity;
use crate::topology;

/// Networks without guests: they are judged as if each had two.
fn topology() -> Topology {
    let spec = json!({
        "host": { "tailscale": { "interface": "tailscale0" } },
        "networks": {
            "a": { "cidr": "10.1.0.0/24", "cidr6": "fd00:0:0:1::/64", "tailscale": true },
            "b": { "cidr": "10.2.0.0/24" },
        },
    });
    topology::compile(&serde_json::from_value(spec).unwrap()).unwrap()
}

fn vicinity() -> Vicinity {
    Vicinity { uplinks: vec![IfName::new("eth0").unwrap()], ..Vicinity::default() }
}

fn judged(foreign: &Foreign) -> Vec<Finding> {
    let own = [("eth0".to_string(), ["192.0.2.2".parse().unwrap()].into())].into();
    super::found(foreign, &topology(), &vicinity(), &own).unwrap()
}

/// A table with a base chain at `hook` and these rules.
fn listing(family: &str, table: &str, hook: &str, policy: &str, rules: &[Value]) -> Vec<Value> {
    let name = hook.to_uppercase();
    let mut objects = vec![
        json!({"table": {"family": family, "name": table, "handle": 1}}),
        json!({"chain": {"family": family, "table": table, "name": name, "type": "filter", "hook": hook, "prio": 0, "policy": policy}}),
    ];
    objects.extend(rules.iter().enumerate().map(|(index, expr)| {
        json!({"rule": {"family": family, "table": table, "chain": name, "handle": index + 2, "expr": expr}})
    }));
    objects
}

fn happenings_of(objects: &[Value]) -> Vec<crate::prove::Happening> {
    let mut foreign = Foreign::default();
    foreign.add(&json!({ "nftables": objects }).to_string()).unwrap();
    let own = [("eth0".to_string(), ["192.0.2.2".parse().unwrap()].into())].into();
    let all = newcomers::with_newcomers(&topology());
    happenings(&Model::new(&all, &vicinity()), &own, &foreign.listing()).unwrap()
}

fn found(objects: &[Value]) -> Vec<(Severity, String, String)> {
    let mut foreign = Foreign::default();
    foreign.add(&json!({ "nftables": objects }).to_string()).unwrap();
    judged(&foreign).into_iter().map(|one| (one.severity, one.object, one.found)).collect()
}

fn name(interface: &str, key: &str) -> Value {
    json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": interface}})
}

#[test]
fn flows_that_pass_by_the_forward_hook_are_critical() {
    let rule = json!([{"flow": {"op": "add", "flowtable": "@f"}}]);
    let mut objects = listing("inet", "t", "forward", "accept", &[rule]);
    let flowtable = |devices: Value| json!({"flowtable": {"family": "inet", "name": "f", "table": "t", "hook": "ingress", "prio": 0, "dev": devices}});
    objects.push(flowtable(json!(["eth0", "br-a"])));
    let some = found(&objects);
    assert!(
        some.len() == 1 && some[0].0 == Severity::Critical && some[0].2.contains("past the forward hook"),
        "{some:?}"
    );
    objects.pop();
    objects.push(flowtable(json!(["eth7", "docker0"])));
    assert_eq!(found(&objects), [], "of other devices");
}

/// nft's JSON has only the names of what iptables has no translation for.
/// As nft shows it where there is no `/etc/protocols`.
#[test]
fn a_protocol_by_its_number_is_that_protocol() {
    let drops = |protocol: Value| {
        let protocol =
            json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": protocol}});
        let found = found(&listing("inet", "t", "forward", "accept", &[json!([protocol, {"drop": null}])]));
        found.into_iter().map(|(severity, object, _)| (severity, object)).collect::<Vec<_>>()
    };
    for (name, number) in [("tcp", 6), ("icmp", 1), ("ipv6-icmp", 58), ("udp", 17), ("gre", 47)] {
        assert_eq!(drops(json!(name)), drops(json!(number)), "{name}");
    }
    assert_eq!(
        drops(json!(6)),
        [(Severity::Warning, "rule 2 of chain inet t FORWARD (another program)".into())]
    );
    assert_eq!(
        drops(json!(47)),
        [(Severity::Info, "rule 2 of chain inet t FORWARD (another program)".into())]
    );
    assert_eq!(drops(json!("icmpv6")).len(), 1);
    let several = json!({"set": ["gre", 6]});
    assert_eq!(drops(several), drops(json!("tcp")));
}

#[test]
fn what_iptables_matches_by_itself_is_perhaps() {
    let xt = |kind: &str, name: &str| json!({"xt": {"type": kind, "name": name}});
    let forward = |rules: &[Value]| found(&listing("ip", "filter", "forward", "accept", rules));
    // About another's interface, whatever else it asks.
    assert_eq!(forward(&[json!([name("docker0", "oifname"), xt("match", "conntrack"), {"drop": null}])]), []);
    let perhaps = forward(&[json!([xt("match", "conntrack"), {"drop": null}])]);
    assert!(perhaps.len() == 1 && perhaps[0].0 == Severity::Info, "{perhaps:?}");
    assert_eq!(perhaps[0].1, "rule 2 of chain ip filter FORWARD (iptables)");
    let certain = forward(&[json!([xt("match", "comment"), {"counter": null}, xt("target", "REJECT")])]);
    assert!(certain.len() == 1 && certain[0].0 == Severity::Warning, "{certain:?}");
    assert_eq!(forward(&[json!([xt("target", "LOG")])]), []);
    // What perhaps accepts doesn't save from a policy that drops.
    let policy = found(&listing(
        "ip",
        "filter",
        "forward",
        "drop",
        &[json!([xt("match", "conntrack"), {"accept": null}])],
    ));
    assert!(policy.len() == 1 && policy[0].0 == Severity::Warning, "{policy:?}");
}

#[test]
fn marks_are_followed_from_one_chain_to_the_next() {
    let mark = json!({"meta": {"key": "mark"}});
    let masked = json!({"&": [mark, 0xff0000]});
    let marked = |verdict: Value| json!([{"match": {"op": "==", "left": masked, "right": 0x40000}}, verdict]);
    let set = json!([name("br-a", "iifname"), {"mangle": {"key": mark, "value": {"|": [{"&": [mark, 0xff00ffff_u32]}, 0x40000]}}}]);
    assert_eq!(found(&listing("ip", "t", "forward", "accept", &[marked(json!({"drop": null}))])), []);
    let some = found(&listing("ip", "t", "forward", "accept", &[set, marked(json!({"drop": null}))]));
    assert!(some.len() == 1 && some[0].0 == Severity::Warning, "{some:?}");
    assert!(
        some[0].2.contains("guests of a to the internet")
            && !some[0].2.contains("guests of b to the internet"),
        "{some:?}"
    );
}

#[test]
fn named_sets_and_maps_are_looked_up() {
    let objects = |elements: Value| {
        let rule = json!([{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@s"}}, {"drop": null}]);
        let mut objects = listing("ip", "t", "forward", "accept", &[rule]);
        objects.push(json!({"set": {"family": "ip", "name": "s", "table": "t", "type": "ipv4_addr", "elem": elements}}));
        objects
    };
    assert_eq!(found(&objects(json!(["192.168.9.9", {"range": ["10.3.0.0", "10.4.0.255"]}]))), []);
    assert_eq!(found(&objects(json!(["10.1.0.7"]))), [], "nobody has it");
    let one = found(&objects(json!(["10.1.0.3"])));
    assert!(one.len() == 1 && one[0].0 == Severity::Warning, "{one:?}");
    assert!(
        one[0].2.contains("for example IPv4 from br-a") && one[0].2.contains("source 10.1.0.3"),
        "{one:?}"
    );
    let all = found(&objects(json!([{"range": ["10.0.0.0", "10.1.255.255"]}])));
    assert!(all.len() == 1 && all[0].0 == Severity::Warning, "{all:?}");
}

/// What a container publishes is dropped where it comes in past the
/// translation; guests' answers arrive for the host's own address.
#[test]
fn answers_arrive_for_the_hosts_own_address() {
    let raw = |address: &str, priority: i32| {
        let to = json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": address}});
        let mut objects = listing("ip", "raw", "prerouting", "accept", &[json!([to, {"drop": null}])]);
        objects[1]["chain"]["prio"] = json!(priority);
        found(&objects)
    };
    assert_eq!(raw("172.17.0.2", -300), []);
    let own = raw("192.0.2.2", -300);
    assert!(own.len() == 1 && own[0].0 == Severity::Warning, "{own:?}");
    assert!(own[0].2.contains("answers to guests of a to the internet"), "{own:?}");
    // Behind the translation they are the guest's.
    assert_eq!(raw("192.0.2.2", -90), []);
    let guests = raw("10.1.0.2", -90);
    assert!(guests[0].2.contains("answers to guests of a to the internet"), "{guests:?}");
}

/// 6to4's addresses are as public as those of IPv4 in them (RFC 3056), and
/// guests' packets have no routing headers.
#[test]
fn what_can_only_be_forged_is_no_guests_packet() {
    let rule = |left: Value, right: Value| {
        let rule = json!([{"match": {"op": "==", "left": left, "right": right}}, {"reject": null}]);
        let mut found = found(&listing("ip6", "t", "forward", "accept", &[rule]));
        found.retain(|one| one.2.contains("to the internet"));
        found
    };
    let to = || json!({"payload": {"protocol": "ip6", "field": "daddr"}});
    let prefix = |addr: &str, len: u8| json!({"prefix": {"addr": addr, "len": len}});
    for (addr, len) in [("2002:a00::", 24), ("2002:c0a8::", 32), ("2002:e000::", 19), ("::", 96)] {
        assert_eq!(rule(to(), prefix(addr, len)), [], "{addr}");
    }
    for (addr, len) in [("2002:c000::", 24), ("2002::", 16), ("2001:db8::", 32)] {
        assert_eq!(rule(to(), prefix(addr, len)).len(), 1, "{addr}");
    }
    assert_eq!(rule(json!({"rt type": 0}), json!(0)).len(), 1, "what isn't known is said");
    assert_eq!(rule(json!({"exthdr": {"name": "rt", "field": "type"}}), json!(0)), []);
}

/// What iptables-legacy has is judged as what nft lists, and what has no
/// translation is said, without what could steer a terminal.
#[test]
fn legacy_tables_are_judged_beside_nfts_own() {
    let mut foreign = Foreign::default();
    let listed =
        |policy: &str| json!({ "nftables": listing("ip", "filter", "forward", policy, &[]) }).to_string();
    foreign.add(&listed("accept")).unwrap();
    foreign.add_legacy(&listed("drop")).unwrap();
    foreign.add_unjudged_legacy("ip6", format!("filter -A FORWARD --comment \"\x1b[2J{}\"", "x".repeat(500)));
    let found = judged(&foreign);
    let objects: Vec<&str> = found.iter().map(|one| one.object.as_str()).collect();
    assert_eq!(objects, ["ip6tables-legacy's tables (IPv6)", "chain ip filter FORWARD (iptables-legacy)"]);
    assert!(!found[0].found.contains('\x1b') && found[0].found.chars().count() < 250, "{:?}", found[0]);
    assert_eq!(found[0].commands, ["ip6tables-legacy -S INPUT", "ip6tables-legacy -S FORWARD"]);
    assert!(
        found[1].commands.contains(&"iptables-legacy -I FORWARD -i br-a -j ACCEPT".into()),
        "{:?}",
        found[1]
    );
}

#[test]
fn what_repeats_itself_is_one() {
    let drop = |port: u16| {
        let to = json!({"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": port}});
        json!([to, {"drop": null}])
    };
    let mut objects = listing("ip", "firewalld", "forward", "drop", &[drop(25), drop(465)]);
    objects.extend(listing("ip6", "firewalld", "forward", "drop", &[]));
    let known: Vec<String> = found(&objects).into_iter().map(|(_, object, _)| object).collect();
    assert_eq!(
        known,
        [
            "chains ip firewalld FORWARD, ip6 firewalld FORWARD (firewalld)".to_string(),
            "2 rules of chain ip firewalld FORWARD (firewalld)".to_string(),
        ]
    );
    // What nobody knows can be meant in two ways.
    let other = found(&listing("ip", "t", "forward", "accept", &[drop(25), drop(465)]));
    assert_eq!(other.len(), 2, "{other:?}");
}

#[test]
fn chains_that_jump_to_each_other_come_to_an_end() {
    let jump = json!([{"jump": {"target": "FORWARD"}}]);
    let some = found(&listing("ip", "t", "forward", "accept", &[jump.clone(), jump]));
    assert!(
        some.iter().all(|one| one.0 == Severity::Info && one.2.contains("more rules than hostctl follows")),
        "{some:?}"
    );
    assert!(!some.is_empty());
}

#[test]
fn what_nft_cant_list_is_said() {
    let mut foreign = Foreign::default();
    foreign.add_unreadable("ip", "strange");
    let found = judged(&foreign);
    assert_eq!((found.len(), found[0].object.as_str()), (1, "table ip strange"));
}

/// Each kind of traffic, dropped alone.
#[test]
fn each_kind_of_traffic_is_followed() {
    let is = |protocol: &str, field: &str, right: Value| json!({"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}});
    let l4 = |name: &str| json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": name}});
    let state = |word: &str| json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": word}});
    let drop = || json!({"drop": null});
    for (hook, conditions, severity, who) in [
        ("forward", vec![l4("udp")], Severity::Warning, "guests of a to the internet"),
        ("forward", vec![l4("icmp")], Severity::Warning, "guests of a among themselves"),
        ("forward", vec![state("established")], Severity::Warning, "answers to guests of a to the internet"),
        ("forward", vec![state("related")], Severity::Info, "answers to guests of a to the internet"),
        ("forward", vec![name("tailscale0", "iifname")], Severity::Warning, "the tailnet to guests of a"),
        (
            "forward",
            vec![name("tailscale0", "oifname")],
            Severity::Warning,
            "answers to the tailnet to guests of a",
        ),
        ("forward", vec![is("tcp", "dport", json!(25))], Severity::Info, "guests of a to the internet"),
        (
            "input",
            vec![is("icmpv6", "type", json!("nd-neighbor-solicit"))],
            Severity::Info,
            "neighbour discovery of guests of a",
        ),
        (
            "input",
            vec![is("ip6", "hoplimit", json!(255))],
            Severity::Warning,
            "neighbour discovery of guests of a",
        ),
        ("input", vec![state("untracked")], Severity::Warning, "neighbour discovery of guests of a"),
        (
            "input",
            vec![is("icmp", "type", json!("echo-request"))],
            Severity::Warning,
            "guests of a to their gateway",
        ),
        ("input", vec![state("established")], Severity::Warning, "answers to the host to guests of a"),
        ("output", vec![state("new")], Severity::Warning, "the host to guests of a"),
        (
            "output",
            vec![is("icmp", "type", json!("echo-reply"))],
            Severity::Warning,
            "answers to guests of a to their gateway",
        ),
        (
            "postrouting",
            vec![is("ip", "saddr", json!("192.0.2.2"))],
            Severity::Warning,
            "guests of a to the internet",
        ),
    ] {
        let mut rule = conditions.clone();
        rule.push(drop());
        let mut objects = listing("inet", "t", hook, "accept", &[json!(rule)]);
        // Behind the translation.
        objects[1]["chain"]["prio"] = json!(if hook == "postrouting" { 300 } else { 0 });
        let found = found(&objects);
        assert_eq!(found.len(), 1, "{conditions:?}: {found:#?}");
        assert_eq!(found[0].0, severity, "{conditions:?}: {found:#?}");
        let happenings = happenings_of(&objects);
        let all: Vec<_> = happenings.iter().map(|one| one.traffic.who.as_str()).collect();
        assert!(all.contains(&who), "{conditions:?}: {all:?}");
    }
}

/// By a mark of hostctl's packets to a metadata service are routed.
#[test]
fn who_takes_the_mark_away_takes_the_route_to_metadata_away() {
    let mark = json!({"meta": {"key": "mark"}});
    let set = |value: Value| json!([{"mangle": {"key": mark, "value": value}}]);
    let spec = json!({"networks": { "a": { "cidr": "10.1.0.0/24", "imds": "host" }, "b": { "cidr": "10.2.0.0/24" } }});
    let topology = topology::compile(&serde_json::from_value(spec).unwrap()).unwrap();
    let found = |rules: &[Value]| {
        let mut foreign = Foreign::default();
        let listed = listing("ip", "t", "prerouting", "accept", rules);
        foreign.add(&json!({ "nftables": listed }).to_string()).unwrap();
        super::found(&foreign, &topology, &vicinity(), &OwnAddresses::new()).unwrap()
    };
    for value in [json!(7), json!({"ct": {"key": "mark"}}), json!({"&": [mark, 0xff00_ffff_u32]})] {
        let found = found(&[set(value.clone())]);
        let lost = value.get("&").is_none();
        assert_eq!(found.len(), usize::from(lost), "{value}: {found:#?}");
        assert!(found.iter().all(|one| one.severity == Severity::Warning), "{value}: {found:#?}");
        assert!(
            found
                .iter()
                .all(|one| one.found.contains("guests of a to") && !one.found.contains("guests of b"))
        );
    }
    // Whoever gives it back took nothing.
    assert_eq!(found(&[set(json!(7)), set(json!({"|": [mark, 0x0100_0000]}))]), []);
}

/// What a rule says of packets that no guest sends is no hazard.
#[test]
fn what_the_spec_drops_may_be_dropped_again() {
    let is = |protocol: &str, field: &str, right: Value| json!({"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}});
    let prefix = |addr: &str, len: u8| json!({"prefix": {"addr": addr, "len": len}});
    let flags = json!({"match": {"op": "!=", "left": {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["fin", "syn", "rst", "ack"]]}, "right": "syn"}});
    let state = |word: &str| json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": word}});
    for conditions in [
        vec![is("ip", "daddr", prefix("10.0.0.0", 8)), name("eth0", "oifname")],
        vec![is("ip", "saddr", json!("10.1.0.77"))],
        vec![name("br-a", "iifname"), name("br-b", "oifname")],
        vec![name("br-a", "iifname"), is("ip", "saddr", prefix("10.2.0.0", 24))],
        vec![name("docker*", "iifname")],
        vec![name("br-b", "iifname"), name("tailscale0", "oifname")],
        vec![is("ip", "daddr", json!("169.254.169.254"))],
        vec![is("ip6", "saddr", prefix("fe80::", 10))],
        vec![state("invalid")],
        vec![state("new"), flags],
    ] {
        let mut rule = conditions.clone();
        rule.push(json!({"drop": null}));
        assert_eq!(found(&listing("inet", "t", "forward", "accept", &[json!(rule)])), [], "{conditions:?}");
    }
}

mod random {
    use proptest::prelude::*;

    use super::*;

    fn expression() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<u32>().prop_map(|number| json!(number)),
            "[a-z@*0-9.]{0,8}".prop_map(|text| json!(text)),
            prop_oneof![
                Just("meta"),
                Just("ct"),
                Just("payload"),
                Just("fib"),
                Just("match"),
                Just("vmap"),
                Just("drop"),
                Just("jump")
            ]
            .prop_map(|kind| json!({ kind: {"key": "mark", "target": "FORWARD"} })),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            const KINDS: [&str; 10] =
                ["match", "vmap", "&", "concat", "set", "prefix", "range", "mangle", "xt", "elem"];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|values| json!(values)),
                (proptest::sample::select(&KINDS[..]), inner.clone())
                    .prop_map(|(kind, value)| json!({ kind: value })),
                (inner.clone(), inner)
                    .prop_map(|(left, right)| json!({"match": {"op": "==", "left": left, "right": right}})),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever nft prints one day, an audit comes to an end.
        #[test]
        fn any_rules_are_judged(rules in proptest::collection::vec(proptest::collection::vec(expression(), 0..4), 0..4)) {
            let rules: Vec<Value> = rules.into_iter().map(|rule| json!(rule)).collect();
            found(&listing("inet", "t", "forward", "drop", &rules));
        }
    }
}

#[test]
fn who_writes_hostctls_bits_of_flows_marks_is_named_with_other_bits() {
    let ct = || json!({"ct": {"key": "mark"}});
    let set = |value: Value| json!([{"mangle": {"key": ct(), "value": value}}]);
    let of = |rules: &[Value]| {
        let mut foreign = Foreign::default();
        let objects = listing("inet", "t", "forward", "accept", rules);
        foreign.add(&json!({ "nftables": objects }).to_string()).unwrap();
        judged(&foreign)
    };
    let found = of(&[set(json!({"|": [ct(), 0x1000_0000]})), set(json!({"|": [ct(), 0x00f0_0000]}))]);
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(one.severity, Severity::Warning);
    assert_eq!(one.object, "rule 2 of chain inet t FORWARD");
    assert!(one.found.contains("writes 0x10000000 into flows' marks"), "{}", one.found);
    assert!(one.remedy.ends_with("mark_mask = \"0x000f0000\""), "{}", one.remedy);
    // What it makes of them is nobody that was judged.
    let found = of(&[set(json!(7))]);
    assert_eq!(found.iter().map(|one| one.severity).collect::<Vec<_>>(), [Severity::Info]);
    assert_eq!(of(&[set(json!({"|": [{"&": [ct(), 0xff00_ffff_u32]}, 0x0008_0000]}))]), []);
    let found = of(&[json!([{"xt": {"type": "target", "name": "CONNMARK"}}])]);
    assert!(
        found.iter().any(|one| one.severity == Severity::Info && one.found.contains("may write bits of"))
    );
}
