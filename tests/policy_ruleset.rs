//! What nft and the kernel make of policies: that they load, whatever they
//! say, and that changing elements ends where replacing the tables ends.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::support::lab::in_own_namespace;
use crate::support::random_policies::{POLICED_GUESTS, policies as random};
use hostctl::firewall::{Difference, Ruleset, Surroundings, nft, render};
use hostctl::spec::HostSpec;
use hostctl::topology::compile;
use proptest::prelude::*;

fn text(spec: &str) -> String {
    let spec: HostSpec = toml::from_str(spec).unwrap();
    let topology = compile(&spec).unwrap();
    render(&Ruleset::new(&topology, &Surroundings::default()).unwrap()).unwrap()
}

#[test]
fn a_web_servers_policy() {
    let text = text(
        r#"
[networks.production]
cidr = "10.0.0.0/16"
cidr6 = "fd00:0:0:1::/64"
[vms.web]
network = "production"
image = "probe"
policy = "web"
[policies.web]
ingress = [
    { port = 80, protocol = "tcp", source = "0.0.0.0/0" },
    { port = [443, "8000-8080"], protocol = "tcp" },
    { port = 22, protocol = "tcp", source = "network:production" },
    { port = 22, protocol = "tcp", source = "10.0.9.0/24", action = "deny" },
    { protocol = "icmp" },
]
egress = [{ port = 25, protocol = "tcp", action = "deny" }]
default = { egress = "allow" }
"#,
    );
    let from = text.find("    map ingress4").unwrap();
    let to = from + text[from..].find("    # Before").unwrap();
    let chains = text.find("    # The ingress of web").unwrap();
    let end = text.find("    chain drop_policy").unwrap();
    insta::assert_snapshot!(format!("{}{}", &text[from..to], &text[chains..end]));
    nft::rehearse(&text).unwrap();
}

/// Hundreds of guests, each with its own policy of a hundred rules and more.
#[test]
fn hundreds_of_policies_load_and_cost_a_packet_the_same() {
    let spec = |guests: usize, rules: usize| {
        let mut text = String::from("[networks.a]\ncidr = \"10.1.0.0/16\"\ncidr6 = \"fd00:0:0:1::/64\"\n");
        for guest in 0..guests {
            write!(text, "[vms.g{guest}]\nnetwork = \"a\"\nimage = \"probe\"\npolicy = \"p{guest}\"\n")
                .unwrap();
            writeln!(text, "[policies.p{guest}]\ningress = [").unwrap();
            for rule in 0..rules {
                let (a, b) = (rule % 200, guest % 200);
                writeln!(
                    text,
                    "{{ protocol = \"tcp\", port = {}, source = \"192.{a}.{b}.0/24\" }},",
                    80 + rule
                )
                .unwrap();
            }
            text.push_str("]\n");
        }
        text
    };
    let (few, many) = (text(&spec(1, 1)), text(&spec(200, 200)));
    let started = Instant::now();
    let (few, many) = (nft::rehearse(&few).unwrap(), nft::rehearse(&many).unwrap());
    eprintln!("{} elements, {} rules: {:?}", many.elements(), many.rules(), started.elapsed());
    assert!(many.elements() > 200 * 200);
    // A policy's chain has five rules, however many rules the policy has.
    assert_eq!(many.rules() - few.rules(), 199 * 5);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

/// The largest policy there can be loads in a time that one waits for.
#[test]
fn the_largest_policy_loads() {
    let mut spec = String::from(
        "[networks.a]\ncidr = \"10.1.0.0/16\"\n[vms.g]\nnetwork = \"a\"\nimage = \"probe\"\npolicy = \"p\"\n",
    );
    spec.push_str("[policies.p]\ningress = [\n");
    for rule in 0..1000 {
        let ports: Vec<String> = (0..16).map(|port| (1 + rule + port * 2000).to_string()).collect();
        let source = format!("192.{}.{}.0/24", rule / 250, rule % 250);
        writeln!(spec, "{{ protocol = \"tcp\", port = [{}], source = \"{source}\" }},", ports.join(", "))
            .unwrap();
    }
    spec.push_str("]\n");
    let text = text(&spec);
    let started = Instant::now();
    let listing = nft::rehearse(&text).unwrap();
    eprintln!("{} elements: {:?}", listing.elements(), started.elapsed());
    assert!(listing.elements() > 16_000);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_delta_ends_where_a_replacement_ends(
        before in random(5),
        after in random(5),
    ) {
        let (before, after) = (text(&format!("{POLICED_GUESTS}{before}")), text(&format!("{POLICED_GUESTS}{after}")));
        let desired = nft::rehearse(&after).unwrap();
        let reached = in_own_namespace(|| {
            nft::load(&before).unwrap();
            match Difference::between(&nft::observe().unwrap(), &desired) {
                Difference::None => {}
                Difference::Elements(delta) => {
                    assert!(delta.commands().iter().all(|command| !command.contains('(')), "{:?}", delta.commands());
                    nft::change(&delta).unwrap();
                }
                Difference::Replace { .. } => nft::load(&after).unwrap(),
            }
            nft::observe().unwrap()
        });
        prop_assert_eq!(reached, desired);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn hundreds_of_rules_load(policies in random(300)) {
        let text = text(&format!("{POLICED_GUESTS}{policies}"));
        prop_assert!(nft::rehearse(&text).is_ok(), "{:?}\n{policies}", nft::rehearse(&text));
    }
}
