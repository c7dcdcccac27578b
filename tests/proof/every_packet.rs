//! The rules that the kernel lists against the model, for every packet.

use hostctl::prove::{Answer, Extent, Target, prove, reaches};
use hostctl::reach::Model;
use serde_json::Value;

use super::differences::{differ, told};
use super::full_host::FULL;
use super::scene::Scene;

/// Every way in which a listing differs from the model; how much was looked at
/// where it doesn't.
pub fn held(scene: &Scene, listing: &Value) -> Result<Extent, String> {
    let model = Model::new(&scene.topology, &scene.vicinity);
    match prove(&model, listing, &scene.indices()) {
        Answer::Equal(extent) => Ok(extent),
        Answer::Unknown(unknown) => Err(unknown.to_string()),
        Answer::Different(found) => Err(found
            .iter()
            .map(|found| {
                let rule = found.rule.as_ref().map_or("no rule".into(), ToString::to_string);
                let (rules, model) = (found.rules.as_str(), found.model.outcome().as_str());
                format!("{}\n  rules: {rules} by {rule}\n  model: {model}: {:?}\n", found.packet, found.model)
            })
            .collect()),
    }
}

pub fn listing(scene: &Scene) -> Value {
    serde_json::from_str(&scene.listing()).unwrap()
}

#[test]
fn a_host_with_everything_is_proved() {
    let scene = Scene::new(FULL);
    let extent = held(&scene, &listing(&scene)).unwrap_or_else(|found| panic!("{found}"));
    assert!(extent.slices > 40 && extent.rules.len() > 80, "{extent:?}");
}

#[test]
fn a_host_that_forwards_for_others_too_is_proved() {
    let spec = FULL.replace("firewall = \"full\"", "firewall = \"guests\"").replace("allow_input", "# ");
    let scene = Scene::new(&spec).forwarding();
    held(&scene, &listing(&scene)).unwrap_or_else(|found| panic!("{found}"));
}

/// A rule's place in a listing, by its chain and the beginning of its comment.
pub fn rule(listing: &Value, chain: &str, comment: &str) -> usize {
    let is = |object: &Value| {
        let rule = &object["rule"];
        rule["chain"] == chain && rule["comment"].as_str().is_some_and(|text| text.starts_with(comment))
    };
    listing["nftables"].as_array().unwrap().iter().position(is).unwrap()
}

/// What is found once a rule is gone.
fn without(scene: &Scene, chain: &str, comment: &str) -> String {
    let mut listing = listing(scene);
    let place = rule(&listing, chain, comment);
    listing["nftables"].as_array_mut().unwrap().remove(place);
    held(scene, &listing).unwrap_err()
}

#[test]
fn a_rule_less_is_found_with_a_packet() {
    let scene = Scene::new(FULL);
    let found = without(&scene, "ip6_in", "neighbour discovery is never fragmented");
    assert!(found.contains("a first fragment") && found.contains("model: dropped"), "{found}");
    let found = without(&scene, "not_public", "host.deny");
    assert!(found.contains("rules: passed by") && found.contains("no guest reaches 192.168.7.0"), "{found}");
}

#[test]
fn an_element_less_is_found_and_so_is_a_wider_one() {
    let scene = Scene::new(FULL);
    let mut changed = listing(&scene);
    let pairs = changed["nftables"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|object| object["set"]["name"] == "pairs");
    let pairs = pairs.unwrap();
    pairs["set"]["elem"].as_array_mut().unwrap().push(serde_json::json!({ "concat": ["br-a", "br-c"] }));
    let found = held(&scene, &changed).unwrap_err();
    assert!(found.contains("IPv4 from br-a to br-c") && found.contains("not peered"), "{found}");
}

#[test]
fn what_isnt_known_is_never_equal() {
    let scene = Scene::new(FULL);
    let mut changed = listing(&scene);
    let place = rule(&changed, "forward", "a guest speaks through the host");
    let expr = changed["nftables"][place]["rule"]["expr"].as_array_mut().unwrap();
    expr.insert(
        0,
        serde_json::json!({ "match": { "op": "==", "left": { "meta": { "key": "mark" } }, "right": 7 } }),
    );
    assert!(held(&scene, &changed).unwrap_err().contains("doesn't know"), "a mark");

    // Where nobody looks.
    let mut changed = listing(&scene);
    changed["nftables"].as_array_mut().unwrap().push(serde_json::json!({ "chain": {
        "family": "bridge", "table": "hostctl", "name": "late", "handle": 900, "type": "filter",
        "hook": "forward", "prio": 0, "policy": "drop",
    } }));
    assert!(held(&scene, &changed).unwrap_err().contains("bridge chain late at forward"));

    // What is in a set that rules fill is another thing at each packet.
    let mut changed = listing(&scene);
    let place = rule(&changed, "forward", "a guest speaks through the host");
    let expr = changed["nftables"][place]["rule"]["expr"].as_array_mut().unwrap();
    let sender = serde_json::json!({ "concat": [
        { "meta": { "key": "iifname" } }, { "payload": { "protocol": "ether", "field": "saddr" } },
    ] });
    let lately = serde_json::json!({ "match": { "op": "==", "left": sender, "right": "@log_rate" } });
    expr.insert(0, lately);
    assert!(held(&scene, &changed).unwrap_err().contains("log_rate"));
}

#[test]
fn what_rules_have_filled_by_now_is_no_difference() {
    let scene = Scene::new(FULL);
    let mut used = listing(&scene);
    let sets = used["nftables"].as_array_mut().unwrap().iter_mut();
    let filled =
        sets.filter_map(|object| object.get_mut("set")).find(|set| set["name"] == "log_rate").unwrap();
    filled["elem"] = serde_json::json!([{ "elem": {
        "val": { "concat": ["br-a", "02:00:00:00:00:01"] }, "timeout": 60, "expires": 42,
        "limit": { "rate": 10, "burst": 20, "per": "second" },
    } }]);
    held(&scene, &used).unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn two_sets_of_rules_differ_by_a_packet_or_by_none() {
    let scene = Scene::new(FULL);
    let model = Model::new(&scene.topology, &scene.vicinity);
    let before = listing(&scene);
    let differ = |after: &Value| differ(&scene, Some(&model), (&before, after)).unwrap();
    assert!(differ(&before).is_empty());
    let mut after = before.clone();
    let place = rule(&after, "guest_to_host", "ping of its own gateway");
    after["nftables"].as_array_mut().unwrap().remove(place);
    let found = differ(&after);
    assert!(!found.is_empty());
    for found in &found {
        let text = told(found);
        assert!(text.contains("type 8") && text.ends_with("-> dropped"), "{text}");
    }
    // The spec is of both sides, and speaks for the old one.
    assert!(
        found.iter().all(|one| one.old.model.as_ref().map(|model| model.outcome()) == Some(one.old.outcome))
    );
}

#[test]
fn who_reaches_the_host_is_told_in_boxes() {
    let scene = Scene::new(FULL);
    let model = Model::new(&scene.topology, &scene.vicinity);
    let found = reaches(&model, &listing(&scene), &scene.indices(), (&Target::Host, None)).unwrap();
    let of =
        |link: &str| found.iter().filter(|reacher| reacher.from.as_deref() == Some(link)).collect::<Vec<_>>();
    // Of its gateway a guest gets a ping, in its own name alone.
    let guests = of("br-a");
    assert!(!guests.is_empty());
    let v4 = guests.iter().find(|reacher| reacher.family == hostctl::packet::Family::V4).unwrap();
    assert!(v4.boxes.iter().all(|one| one.protocols == (1, 1) && one.types == Some((8, 8))), "{v4:?}");
    let own: std::collections::BTreeSet<u128> = scene
        .topology
        .ports()
        .filter(|port| port.network.as_str() == "a")
        .map(|port| u32::from(port.address).into())
        .collect();
    let sources = v4.boxes.iter().flat_map(|one| &one.sources);
    assert!(sources.clone().count() > 0);
    assert!(sources.clone().all(|(first, last)| first == last && own.contains(first)), "{v4:?}");
    assert!(v4.rule.as_ref().is_some_and(|rule| rule.chain == "counted"), "{v4:?}");
    // ssh is open to everybody.
    let ssh = |one: &hostctl::prove::HeaderBox| one.protocols == (6, 6) && one.ports == Some((22, 22));
    for family in hostctl::packet::Family::ALL {
        let mut uplink = of("uplink0").into_iter().filter(|reacher| reacher.family == family);
        assert!(uplink.any(|reacher| reacher.boxes.iter().any(ssh)), "{:?}", of("uplink0"));
    }
}

/// A rule at the beginning of a chain.
fn with_rule(scene: &Scene, family: &str, chain: &str, expr: Value) -> Value {
    let mut listing = listing(scene);
    let objects = listing["nftables"].as_array_mut().unwrap();
    let is = |object: &Value| object["rule"]["family"] == family && object["rule"]["chain"] == chain;
    let place = objects.iter().position(is).unwrap();
    objects.insert(
        place,
        serde_json::json!({ "rule": {
            "family": family, "table": "hostctl", "chain": chain, "handle": 999, "comment": "new", "expr": expr,
        } }),
    );
    listing
}

/// What was seen to fare otherwise in the kernel than it would seem from a
/// listing: none of it is "equal".
#[test]
fn what_the_kernel_answers_otherwise_is_never_equal() {
    let scene = Scene::new(FULL);
    let text = r#"[
        ["a set that a rule fills", "inet", "source", [{"set": {"op": "add", "elem": {"concat": [{"meta": {"key": "iifname"}}, {"payload": {"protocol": "ip", "field": "saddr"}}]}, "set": "@guest4"}}]],
        ["a set that a rule empties", "inet", "forward", [{"set": {"op": "delete", "elem": {"meta": {"key": "iifname"}}, "set": "@bridges"}}]],
        ["frames to others", "bridge", "prerouting", [{"match": {"op": "==", "left": {"meta": {"key": "pkttype"}}, "right": "other"}}, {"accept": null}]],
        ["broadcasts to the host", "inet", "input", [{"match": {"op": "==", "left": {"meta": {"key": "pkttype"}}, "right": "broadcast"}}, {"accept": null}]],
        ["an EtherType", "bridge", "from_port", [{"match": {"op": "==", "left": {"payload": {"protocol": "ether", "field": "type"}}, "right": 35020}}, {"accept": null}]],
        ["EtherTypes", "bridge", "from_port", [{"match": {"op": "==", "left": {"payload": {"protocol": "ether", "field": "type"}}, "right": {"range": [34915, 34916]}}}, {"accept": null}]],
        ["what a tag hides", "bridge", "from_port", [{"match": {"op": "==", "left": {"meta": {"key": "protocol"}}, "right": "ip"}}, {"accept": null}]],
        ["a frame that isn't there yet", "inet", "output", [{"match": {"op": "==", "left": {"payload": {"protocol": "ether", "field": "type"}}, "right": "ip"}}, {"accept": null}]],
        ["a size that UDP hasn't", "inet", "drop_forward", [{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": 1400}}, {"drop": null}]],
        ["a mark that isn't there", "inet", "drop_input", [{"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"ct": {"key": "mark"}}}}, {"drop": null}]],
        ["fragments that aren't put together yet", "inet", "prerouting", [{"match": {"op": "==", "left": {"exthdr": {"name": "frag"}}, "right": true}}, {"drop": null}]],
        ["tracking before anything is tracked", "inet", "prerouting", [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "invalid"}}, {"accept": null}]],
        ["a way out before there is one", "inet", "prerouting", [{"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "uplink0"}}, {"drop": null}]],
        ["a port's way out", "bridge", "ip4_in", [{"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "uplink0"}}, {"accept": null}]],
        ["a hop limit that is counted down", "inet", "source", [{"match": {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "hoplimit"}}, "right": 64}}, {"accept": null}]],
        ["addresses of nobody", "inet", "output", [{"match": {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "saddr"}}, "right": "::"}}, {"drop": null}]],
        ["what isn't in a set that limits", "bridge", "to_group", [{"match": {"op": "!=", "left": {"meta": {"key": "iifname"}}, "right": "@group_rate"}}, {"drop": null}]],
        ["ICMP in IPv6", "inet", "source", [{"match": {"op": "==", "left": {"meta": {"key": "nfproto"}}, "right": "ipv6"}}, {"match": {"op": "==", "left": {"payload": {"protocol": "icmp", "field": "type"}}, "right": "echo-reply"}}, {"accept": null}]]
    ]"#;
    for case in serde_json::from_str::<Value>(text).unwrap().as_array().unwrap() {
        let [what, family, chain, expr] = case.as_array().unwrap().as_slice() else { panic!("{case}") };
        let changed = with_rule(&scene, family.as_str().unwrap(), chain.as_str().unwrap(), expr.clone());
        assert!(held(&scene, &changed).is_err(), "{what}: equal");
    }

    // Bits that a mask takes away are never there: the rule drops nothing.
    let mut changed = listing(&scene);
    let place = rule(&changed, "from_port", "to everybody, or to a group");
    changed["nftables"][place]["rule"]["expr"][0]["match"]["right"] = "03:00:00:00:00:00".into();
    assert!(held(&scene, &changed).unwrap_err().contains("rules: passed"));
    // Of what isn't tracked no direction is known.
    let mut changed = listing(&scene);
    let place = rule(&changed, "from_guest", "belongs to no connection");
    let direction = serde_json::json!({ "match": { "op": "==", "left": { "ct": { "key": "direction" } }, "right": "original" } });
    changed["nftables"][place]["rule"]["expr"].as_array_mut().unwrap().insert(1, direction);
    assert!(held(&scene, &changed).unwrap_err().contains("rules: passed"));
    // A chain that is called earlier, or a second one for addresses.
    for (chain, priority) in [("output", -300), ("prerouting", 0)] {
        let mut changed = listing(&scene);
        for object in changed["nftables"].as_array_mut().unwrap() {
            if object["chain"]["family"] == "inet" && object["chain"]["name"] == chain {
                object["chain"]["prio"] = priority.into();
            }
        }
        assert!(held(&scene, &changed).unwrap_err().contains("priority"), "{chain}");
    }
    let mut changed = listing(&scene);
    changed["nftables"].as_array_mut().unwrap().push(serde_json::json!({ "chain": {
        "family": "inet", "table": "hostctl", "name": "z", "handle": 900, "type": "nat",
        "hook": "postrouting", "prio": 100, "policy": "accept",
    } }));
    assert!(held(&scene, &changed).unwrap_err().contains("chain z at postrouting"));
}
