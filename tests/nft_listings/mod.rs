//! The listings of three versions of nft, recorded on Linux 6.18 from
//! `ruleset.nft`: just loaded, and after ten packets and one added element.
//! Each version prints other things about what happened since; none of them is
//! a difference, and what differs is found with each.
//!
//! 1.0.6 is Debian 12's, 1.1.3 Debian 13's; 1.1.7 prints `"count"` in sets that
//! rules fill. Only the first was on a machine with `/etc/protocols`.

use hostctl::firewall::{Difference, Listing, deviations};
use serde_json::{Value, json};

const VERSIONS: [(&str, &str, &str); 3] = [
    ("1.0.6", include_str!("nft-1.0.6-loaded.json"), include_str!("nft-1.0.6-used.json")),
    ("1.1.3", include_str!("nft-1.1.3-loaded.json"), include_str!("nft-1.1.3-used.json")),
    ("1.1.7", include_str!("nft-1.1.7-loaded.json"), include_str!("nft-1.1.7-used.json")),
];

/// The objects of a listing, each as its kind and what it says.
fn objects(text: &str) -> Vec<(String, Value)> {
    let listing: Value = serde_json::from_str(text).unwrap();
    let objects = listing["nftables"].as_array().unwrap().iter();
    objects.flat_map(|object| object.as_object().unwrap().clone()).collect()
}

fn read(objects: &[(String, Value)]) -> Listing {
    let mut listing = Listing::default();
    for family in ["bridge", "inet"] {
        let of = objects.iter().filter(|(_, body)| body["family"] == family);
        let objects: Vec<Value> = of.map(|(kind, body)| json!({ kind: body })).collect();
        listing.add(family, &json!({ "nftables": objects }).to_string()).unwrap();
    }
    listing
}

/// Both accounts of a difference: the one that `apply` acts on, and the one
/// that `audit` reports.
fn differ(live: &Listing, desired: &Listing) -> (bool, bool) {
    (Difference::between(live, desired) != Difference::None, !deviations(live, desired).is_empty())
}

#[test]
fn what_happened_since_is_no_difference() {
    for (version, loaded, used) in VERSIONS {
        assert!(loaded.contains(&format!(r#""version": "{version}""#)), "{version}");
        assert_ne!(loaded, used);
        let (loaded, used) = (read(&objects(loaded)), read(&objects(used)));
        assert_eq!(differ(&used, &loaded), (false, false), "{version}");
        assert_eq!(loaded, used, "{version}");
        // Every version says as much of the same rules.
        assert_eq!((loaded.rules(), loaded.elements()), (17, 9), "{version}");
    }
    let counts = |text: &str| text.matches(r#""count":"#).count();
    assert_eq!(VERSIONS.map(|(_, _, used)| counts(used)), [0, 0, 3]);
}

#[test]
fn what_a_later_version_may_say_of_it_is_no_difference() {
    for (version, loaded, used) in VERSIONS {
        let mut later = objects(used);
        for (kind, body) in &mut later {
            body["handle"] = json!(4711);
            body["last_used"] = json!(12);
            body["owner"] = json!({ "pid": 7, "name": "somebody" });
            // An element of a verdict map may be wrapped as well.
            if kind == "map" {
                let wrapped = json!({ "elem": { "val": body["elem"][0][0], "packets": 5 } });
                body["elem"][0][0] = wrapped;
            }
        }
        assert_eq!(differ(&read(&later), &read(&objects(loaded))), (false, false), "{version}");
    }
}

#[test]
fn what_defines_an_object_is_compared() {
    let changes: [(&str, &str, &str, Value); 12] = [
        ("set", "pairs", "type", json!("ifname")),
        ("set", "net4", "flags", json!(["interval", "timeout"])),
        ("set", "flow_rate4", "timeout", json!(3600)),
        ("set", "flow_rate4", "size", json!(4)),
        ("set", "pairs", "elem", json!([{ "concat": ["br-a", "br-b"] }])),
        ("map", "senders4", "elem", json!([[{ "concat": ["br-a", "10.1.0.2"] }, { "accept": null }]])),
        ("map", "senders4", "map", json!("mark")),
        ("chain", "forward", "policy", json!("accept")),
        ("chain", "forward", "hook", json!("input")),
        ("chain", "forward", "prio", json!(1)),
        ("chain", "forward", "type", json!("route")),
        ("table", "hostctl", "flags", json!("dormant")),
    ];
    for (version, loaded, used) in VERSIONS {
        let desired = read(&objects(loaded));
        for (kind, name, key, value) in &changes {
            let mut live = objects(used);
            let of = |object: &&mut (String, Value)| object.0 == *kind && object.1["name"] == *name;
            live.iter_mut().find(of).unwrap().1[key] = value.clone();
            assert_eq!(differ(&read(&live), &desired), (true, true), "{version}: {name}'s {key}");
        }
        for statement in ["drop", "limit", "masquerade", "vmap", "set"] {
            let mut live = objects(used);
            let has = |body: &Value| {
                let mut statements = body["expr"].as_array().into_iter().flatten();
                statements.any(|found| found.get(statement).is_some())
            };
            let (_, rule) = live.iter_mut().find(|(_, body)| has(body)).unwrap();
            rule["expr"].as_array_mut().unwrap().retain(|found| found.get(statement).is_none());
            assert_eq!(differ(&read(&live), &desired), (true, true), "{version}: a rule's {statement}");
        }
        let mut live = objects(used);
        live.retain(|(kind, body)| kind != "set" || body["name"] != "connections4");
        assert_eq!(differ(&read(&live), &desired), (true, true), "{version}: a set that is gone");
        let mut live = objects(used);
        live.push(("quota".into(), json!({ "family": "inet", "table": "hostctl", "name": "q", "bytes": 5 })));
        assert_eq!(differ(&read(&live), &desired), (true, true), "{version}: an object of another kind");
    }
}
