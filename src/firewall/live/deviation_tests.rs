//! What differences of the tables mean.

use super::*;

fn listing(json: &str) -> Listing {
    let mut listing = Listing::default();
    listing
        .add(
            "inet",
            &format!(r#"{{"nftables": [{{"table": {{"family": "inet", "name": "hostctl"}}}}, {json}]}}"#),
        )
        .unwrap();
    listing
}

fn set(name: &str, elements: &str) -> String {
    format!(
        r#"{{"set": {{"family": "inet", "name": "{name}", "table": "hostctl", "type": "ifname", "elem": [{elements}]}}}}"#
    )
}

fn rules(verdicts: &[&str]) -> String {
    let rule = |verdict: &&str| {
        format!(
            r#"{{"rule": {{"family": "inet", "table": "hostctl", "chain": "c", "expr": [{{"{verdict}": null}}]}}}}"#
        )
    };
    verdicts.iter().map(rule).collect::<Vec<_>>().join(", ")
}

fn found(live: &str, wanted: &str) -> Vec<(Severity, String)> {
    let found = deviations(&listing(live), &listing(wanted));
    found
        .into_iter()
        .map(|one| (one.severity, format!("{}: {} instead of {}", one.object, one.found, one.expected)))
        .collect()
}

#[test]
fn an_element_more_of_who_may_and_one_less_of_who_is_judged_open_something() {
    use Severity::{Critical, Warning};
    for (name, added, removed) in [
        ("pairs", Critical, Warning),
        ("bridges", Warning, Critical),
        ("uplinks", Warning, Warning),
        ("new_set", Critical, Critical),
    ] {
        let (with, without) = (set(name, r#""br-a", "br-x""#), set(name, r#""br-a""#));
        assert_eq!(
            found(&with, &without),
            [(added, format!("element of set inet hostctl {name}: br-x instead of nothing"))]
        );
        assert_eq!(
            found(&without, &with),
            [(removed, format!("element of set inet hostctl {name}: not there instead of br-x"))]
        );
    }
    let commands: Vec<_> = deviations(&listing(&set("pairs", r#""a""#)), &listing(&set("pairs", r#""b""#)))
        .into_iter()
        .map(|one| one.command.unwrap())
        .collect();
    assert_eq!(
        commands,
        ["nft delete element inet hostctl pairs '{ a }'", "nft add element inet hostctl pairs '{ b }'"]
    );
}

#[test]
fn a_policys_sets_hold_what_it_allows_or_what_it_denies() {
    use Severity::{Critical, Warning};
    for (last, added) in
        [(r#"{"goto": {"target": "drop_policy"}}"#, Critical), (r#"{"return": null}"#, Warning)]
    {
        let chain = format!(
            r#"{{"rule": {{"family": "inet", "table": "hostctl", "chain": "policy_0_in", "expr": [{last}]}}}}"#
        );
        let with = format!("{}, {chain}", set("policy_0_in_ports4", r#""x""#));
        let without = format!("{}, {chain}", set("policy_0_in_ports4", ""));
        assert_eq!(found(&with, &without)[0].0, added, "{last}");
    }
}

#[test]
fn rules_are_named_one_by_one() {
    use Severity::{Critical, Warning};
    let lost = found(&rules(&["accept"]), &rules(&["drop", "accept"]));
    assert_eq!(lost, [(Critical, "rule in chain inet hostctl c: not there instead of drop".into())]);
    let lost = found(&rules(&["drop"]), &rules(&["accept", "drop"]));
    assert_eq!(lost, [(Warning, "rule in chain inet hostctl c: not there instead of accept".into())]);
    let more = found(&rules(&["accept", "drop"]), &rules(&["drop"]));
    assert_eq!(more, [(Critical, "rule in chain inet hostctl c: accept instead of nothing".into())]);
    let twice = found(&rules(&["drop", "drop"]), &rules(&["drop"]));
    assert_eq!(twice, [(Warning, "rule in chain inet hostctl c: drop instead of nothing".into())]);
    let order = found(&rules(&["accept", "drop"]), &rules(&["drop", "accept"]));
    assert_eq!(order[0].0, Critical);
    assert!(order[0].1.contains("another order"), "{order:?}");
    assert_eq!(found(&rules(&["drop"]), &rules(&["drop"])), []);
}

#[test]
fn a_policy_that_was_turned_and_a_table_that_is_gone_are_critical() {
    let chain = |policy: &str| {
        format!(
            r#"{{"chain": {{"family": "inet", "table": "hostctl", "name": "forward", "type": "filter", "hook": "forward", "prio": 0, "policy": "{policy}"}}}}"#
        )
    };
    let turned = found(&chain("accept"), &chain("drop"));
    assert_eq!(
        turned,
        [(
            Severity::Critical,
            "chain inet hostctl forward: at forward, priority 0, policy accept instead of at forward, priority 0, policy drop".into()
        )]
    );
    let gone = deviations(&Listing::default(), &listing(&chain("drop")));
    assert_eq!((gone.len(), gone[0].severity), (1, Severity::Critical));
}
