use serde_json::{Value, json};

use super::*;

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

/// iptables' own matches in nft's words, rule by rule.
#[test]
fn what_nfts_text_has_translated_is_judged() {
    let xt = |kind: &str, name: &str| json!({"xt": {"type": kind, "name": name}});
    let rules = [
        json!([xt("match", "addrtype"), {"jump": {"target": "own"}}]),
        json!([xt("match", "recent"), {"drop": null}]),
    ];
    let mut foreign = Foreign::default();
    foreign
        .add(&json!({ "nftables": listing("ip", "filter", "forward", "accept", &rules) }).to_string())
        .unwrap();
    assert_eq!(foreign.extended_tables().into_iter().collect::<Vec<_>>(), [("ip".into(), "filter".into())]);
    let text = "table ip filter { # handle 1\n\tchain FORWARD { # handle 1\n\
        \t\tfib daddr type local counter packets 0 bytes 0 jump own # handle 2\n\
        \t\txt match recent counter packets 0 bytes 0 drop # handle 3\n\t}\n}\n";
    let rules = foreign.extended("ip", "filter", text);
    assert_eq!(rules.iter().map(|rule| rule.handle).collect::<Vec<_>>(), [2], "the other has no translation");
    assert_eq!(
        script("ip", &rules),
        "add table ip t\nadd chain ip t own\nadd chain ip t hostctl-2\n\
         add rule ip t hostctl-2 fib daddr type local counter packets 0 bytes 0 jump own\n"
    );
    let listed = json!({"nftables": [
        {"chain": {"family": "ip", "table": "t", "name": "hostctl-2", "handle": 2}},
        {"rule": {"family": "ip", "table": "t", "chain": "hostctl-2", "handle": 9, "expr": [{"drop": null}]}},
    ]});
    foreign.adopt("ip", "filter", &listed.to_string());
    foreign.adopt("ip", "filter", "nonsense");
    let of = |index| foreign.rule_text("ip", "filter", "FORWARD", index);
    assert_eq!(of(0).as_deref(), Some("drop"));
    assert!(of(1).unwrap().contains("recent"), "{:?}", of(1));
    assert_eq!(of(2), None);
}

#[test]
fn what_isnt_nfts_json_is_refused() {
    for text in ["", "[]", "{}", "{\"nftables\": 1}"] {
        assert!(Foreign::default().add(text).is_err(), "{text}");
    }
}

/// What iptables-legacy has is listed beside what nft lists, under another name.
#[test]
fn legacy_tables_are_listed_beside_nfts_own() {
    let mut foreign = Foreign::default();
    let listed =
        |policy: &str| json!({ "nftables": listing("ip", "filter", "forward", policy, &[]) }).to_string();
    foreign.add(&listed("accept")).unwrap();
    foreign.add_legacy(&listed("drop")).unwrap();
    let listing = foreign.listing();
    let chains = listing["nftables"].as_array().unwrap().iter().map(|object| &object["chain"]);
    let found: Vec<_> = chains.map(|chain| (chain["table"].clone(), chain["policy"].clone())).collect();
    assert_eq!(found, [(json!("filter"), json!("accept")), (json!("legacy filter"), json!("drop"))]);
    assert_eq!((legacy_table("legacy filter"), legacy_table("filter")), (Some("filter"), None));
    assert_eq!(
        untranslated("add table ip filter\n# -t filter -A FORWARD -m recent \n# Completed"),
        ["filter -A FORWARD -m recent"]
    );
}

/// nft 1.0.6's JSON leaves them out.
#[test]
fn devices_are_read_from_nfts_text() {
    let mut foreign = Foreign::default();
    let chain = |name: &str| json!({"chain": {"family": "netdev", "table": "t", "name": name, "type": "filter", "hook": "ingress", "prio": 0, "policy": "accept"}});
    foreign.add(&json!({ "nftables": [chain("c"), chain("e")] }).to_string()).unwrap();
    assert_eq!(foreign.without_devices().into_iter().collect::<Vec<_>>(), [("netdev".into(), "t".into())]);
    let text = "table netdev t {\n\tchain c {\n\t\ttype filter hook ingress device \"d0\" priority filter; policy accept;\n\t}\n\
        \tchain e {\n\t\ttype filter hook ingress devices = { d0, d1 } priority filter + 1; policy accept;\n\t}\n}\n";
    foreign.add_devices("netdev", "t", text);
    let listing = foreign.listing();
    let devices: Vec<_> =
        listing["nftables"].as_array().unwrap().iter().map(|object| object["chain"]["dev"].clone()).collect();
    assert_eq!(devices, [json!(["d0"]), json!(["d0", "d1"])]);
    assert!(foreign.without_devices().is_empty());
}
