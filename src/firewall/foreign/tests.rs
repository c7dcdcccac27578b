//! What can't be loaded everywhere: flowtables, iptables' own matches, marks.

use serde_json::{Value, json};

use super::*;
use crate::firewall::Severity;
use crate::topology::{self, IfName, Topology};

fn topology() -> Topology {
    let spec = json!({
        "host": { "tailscale": { "interface": "tailscale0" } },
        "networks": { "a": { "cidr": "10.1.0.0/24", "tailscale": true }, "b": { "cidr": "10.2.0.0/24" } },
    });
    topology::compile(&serde_json::from_value(spec).unwrap()).unwrap()
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

fn found(objects: &[Value]) -> Vec<(Severity, String, String)> {
    let mut foreign = Foreign::default();
    foreign.add(&json!({ "nftables": objects }).to_string()).unwrap();
    let uplinks = [IfName::new("eth0").unwrap()];
    let found = hazards(&foreign, &topology(), &uplinks);
    found.into_iter().map(|one| (one.severity, one.object, one.found)).collect()
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
    let part = found(&objects(json!(["10.1.0.7"])));
    assert!(part.iter().all(|one| one.0 == Severity::Info) && part.len() == 1, "{part:?}");
    let all = found(&objects(json!([{"range": ["10.0.0.0", "10.1.255.255"]}])));
    assert!(all.len() == 1 && all[0].0 == Severity::Warning, "{all:?}");
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
    let found = hazards(&foreign, &topology(), &[]);
    assert_eq!((found.len(), found[0].object.as_str()), (1, "table ip strange"));
    for text in ["", "[]", "{}", "{\"nftables\": 1}"] {
        assert!(Foreign::default().add(text).is_err(), "{text}");
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
        /// Whatever nft prints one day, an audit comes to an end.
        #[test]
        fn any_rules_are_judged(rules in proptest::collection::vec(proptest::collection::vec(expression(), 0..4), 0..4)) {
            let rules: Vec<Value> = rules.into_iter().map(|rule| json!(rule)).collect();
            found(&listing("inet", "t", "forward", "drop", &rules));
        }
    }
}
