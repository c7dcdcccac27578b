//! The rendered ruleset: its text, that the kernel takes it, and that
//! changing elements ends where replacing the tables ends.

use std::fmt::Write;

use crate::support::lab::in_own_namespace;
use hostctl::firewall::{Difference, Listing, Ruleset, Surroundings, deviations, nft, render};
use hostctl::spec::HostSpec;
use hostctl::topology::{Topology, compile};
use proptest::prelude::*;

fn topology(text: &str) -> Topology {
    let spec: HostSpec = toml::from_str(text).unwrap();
    compile(&spec).unwrap()
}

/// The microVM host of examples/five-networks.toml with `count` networks.
fn networks(count: usize, host: &str) -> Topology {
    let mut text = format!("{host}\n[host.tailscale]\ninterface = \"tailscale0\"\n");
    for n in 1..=count {
        let imds = if n % 2 == 1 { "host" } else { "deny" };
        write!(
            text,
            "[networks.vm{n}]\ncidr = \"10.{n}.0.0/24\"\ncidr6 = \"fd00:0:0:{n:x}::/64\"\ntailscale = true\n\
             imds = \"{imds}\"\n[vms.vm{n}]\nnetwork = \"vm{n}\"\nimage = \"probe\"\n"
        )
        .unwrap();
    }
    topology(&text)
}

fn ruleset(topology: &Topology) -> Ruleset {
    let surroundings = Surroundings {
        uplinks: vec!["uplink0".to_string().try_into().unwrap()],
        opened: vec!["uplink0".to_string().try_into().unwrap()],
        closed6: true,
        indices: [("uplink0".to_string().try_into().unwrap(), 1234)].into(),
        on_link: ["198.51.100.0/24", "2001:db8:51::/64"].map(|net| net.parse().unwrap()).into(),
        guarded: topology.vms.iter().map(|vm| vm.port.interface.clone()).collect(),
    };
    Ruleset::new(topology, &surroundings).unwrap()
}

fn text(topology: &Topology) -> String {
    render(&ruleset(topology)).unwrap()
}

#[test]
fn no_networks() {
    let text = text(&networks(0, "[host]\nfirewall = \"full\""));
    insta::assert_snapshot!(text);
    nft::rehearse(&text).unwrap();
}

#[test]
fn one_network() {
    let text = text(&networks(1, ""));
    insta::assert_snapshot!(text);
    nft::rehearse(&text).unwrap();
}

#[test]
fn five_networks() {
    let text = text(&networks(5, "[host]\nfirewall = \"full\""));
    insta::assert_snapshot!(text);
    nft::rehearse(&text).unwrap();
}

#[test]
fn fifty_networks_have_the_rules_of_one() {
    let (one, fifty) = (text(&networks(1, "")), text(&networks(50, "")));
    let rules = |text: &str| {
        let chains = text.split("    chain ").skip(1);
        chains.map(|chain| chain.split("\n    }").next().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(rules(&one), rules(&fifty));
    let (one, fifty) = (nft::rehearse(&one).unwrap(), nft::rehearse(&fifty).unwrap());
    assert_eq!(one.rules(), fifty.rules());
    assert!(fifty.elements() > 49 * 15, "{}", fifty.elements());
}

#[test]
fn a_firewall_that_nobody_touched_is_as_desired() {
    let text = text(&networks(5, ""));
    let desired = nft::rehearse(&text).unwrap();
    in_own_namespace(|| {
        nft::load(&text).unwrap();
        assert_eq!(Difference::between(&nft::observe().unwrap(), &desired), Difference::None);
        nft::load("add element inet hostctl uplinks { eth9 }").unwrap();
        let Difference::Elements(delta) = Difference::between(&nft::observe().unwrap(), &desired) else {
            panic!("an element is an element")
        };
        assert_eq!(delta.commands(), ["nft delete element inet hostctl uplinks '{ eth9 }'"]);
        nft::load("insert rule inet hostctl forward accept").unwrap();
        let difference = Difference::between(&nft::observe().unwrap(), &desired);
        assert!(matches!(difference, Difference::Replace { .. }), "{difference:?}");
        nft::load(&text).unwrap();
        assert_eq!(nft::observe().unwrap(), desired);
        nft::load(&nft::removal()).unwrap();
        assert!(nft::observe().unwrap().is_empty());
    });
}

/// What this machine's nft says of sets that rules filled; for other versions
/// see tests/nft_listings.
#[test]
fn what_rules_filled_is_no_difference() {
    let text = text(&networks(1, ""));
    let desired = nft::rehearse(&text).unwrap();
    in_own_namespace(|| {
        nft::load(&text).unwrap();
        let element = "br-vm1 . 02:00:00:00:00:01 limit rate 10/second burst 20 packets";
        nft::load(&format!("add element inet hostctl log_rate {{ {element} }}")).unwrap();
        assert_eq!(Difference::between(&nft::observe().unwrap(), &desired), Difference::None);
        assert_eq!(deviations(&nft::observe().unwrap(), &desired), []);
    });
}

#[test]
fn a_foreign_table_stays_byte_for_byte() {
    in_own_namespace(|| {
        nft::load(
            "table inet other { set s { type ipv4_addr; elements = { 192.0.2.1 } }\n\
             chain forward { type filter hook forward priority 0; policy accept; ip saddr @s counter drop; }; }",
        )
        .unwrap();
        let list = || {
            let output =
                std::process::Command::new("nft").args(["-a", "list", "table", "inet", "other"]).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        let before = list();
        assert!(before.contains("192.0.2.1"));
        nft::load(&text(&networks(3, ""))).unwrap();
        nft::load(&text(&networks(2, "[host]\nfirewall = \"full\""))).unwrap();
        assert_eq!(list(), before);
        nft::load(&nft::removal()).unwrap();
        assert_eq!(list(), before);
    });
}

/// A random host: which of a few networks exist, and how each is set.
fn host() -> impl Strategy<Value = String> {
    let network = (any::<bool>(), any::<bool>(), any::<bool>(), 0usize..3, 1u8..=3);
    (proptest::collection::vec(proptest::option::of(network), 4), any::<bool>()).prop_map(
        |(networks, peer)| {
            let mut text = String::from("[host.tailscale]\ninterface = \"tailscale0\"\n");
            for (n, network) in networks.iter().enumerate() {
                let Some((ipv6, imds, tailscale, vms, third)) = network else { continue };
                write!(text, "[networks.n{n}]\ncidr = \"10.{n}.{third}.0/24\"\ntailscale = {tailscale}\n")
                    .unwrap();
                if *ipv6 {
                    writeln!(text, "cidr6 = \"fd00:0:{n}:{third}::/64\"").unwrap();
                }
                if *imds {
                    text.push_str("imds = \"host\"\n");
                }
                for vm in 0..*vms {
                    write!(text, "[vms.n{n}-{vm}]\nnetwork = \"n{n}\"\nimage = \"probe\"\n").unwrap();
                }
            }
            if peer && networks[0].is_some() && networks[1].is_some() {
                text.push_str("[[peerings]]\nbetween = [\"n0\", \"n1\"]\n");
            }
            text
        },
    )
}

/// Policies of two names, each with one of these as its ingress and egress, at
/// the first network's guests.
fn policies() -> impl Strategy<Value = String> {
    const RULES: [&str; 6] = [
        "",
        "ingress = []",
        "ingress = [{ port = 80, protocol = \"tcp\" }, { port = \"8000-9000\", protocol = \"udp\", source = \"10.9.0.0/16\" }]",
        "ingress = [{ port = 80, protocol = \"tcp\" }, { protocol = \"icmp\" }]\negress = [{ port = 53, protocol = \"udp\" }]",
        "default = \"allow\"\ningress = [{ port = 22, protocol = \"tcp\", action = \"deny\" }]",
        "egress = [{ destination = \"fd00::/8\", port = [80, 443], protocol = \"tcp\" }]",
    ];
    proptest::collection::vec(0..RULES.len(), 0..=2).prop_map(|chosen| {
        let mut text = String::from("[networks.p]\ncidr = \"10.200.0.0/24\"\ncidr6 = \"fd00:0:200::/64\"\n");
        for (n, rules) in chosen.into_iter().enumerate() {
            write!(
                text,
                "[vms.p{n}]\nnetwork = \"p\"\nimage = \"probe\"\npolicy = \"p{n}\"\n[policies.p{n}]\n{}\n",
                RULES[rules]
            )
            .unwrap();
        }
        text
    })
}

/// Guests' policies come and go, change, and change their default.
#[test]
fn policies_chains_come_and_go_by_deltas() {
    let host = |policy: &str| {
        format!(
            "[networks.p]\ncidr = \"10.1.0.0/24\"\n[vms.v]\nnetwork = \"p\"\nimage = \"probe\"\n{}",
            if policy.is_empty() { String::new() } else { format!("policy = \"w\"\n[policies.w]\n{policy}") }
        )
    };
    let steps = [
        "",
        "ingress = [{ port = 80, protocol = \"tcp\" }]",
        "ingress = [{ port = 81, protocol = \"tcp\" }]",
        "default = \"allow\"\ningress = [{ port = 81, protocol = \"tcp\", action = \"deny\" }]",
        "",
    ];
    in_own_namespace(|| {
        let mut loaded = ruleset(&topology(&host(steps[0])));
        nft::load(&render(&loaded).unwrap()).unwrap();
        nft::load("add rule inet hostctl drop_input counter packets 7 bytes 7").unwrap();
        for step in &steps[1..] {
            let desired = ruleset(&topology(&host(step)));
            let Difference::Elements(delta) = Difference::between_rulesets(&loaded, &desired).unwrap() else {
                panic!("a policy is a delta: {step}")
            };
            nft::change(&delta).unwrap_or_else(|error| panic!("{error}: {:?}", delta.input()));
            loaded = desired;
        }
        let Difference::Replace { .. } =
            Difference::between(&nft::observe().unwrap(), &nft::rehearse(&render(&loaded).unwrap()).unwrap())
        else {
            panic!("the rule that somebody added is still there: nothing was replaced")
        };
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_delta_ends_where_a_replacement_ends(before in host(), after in host()) {
        let (before, after) = (text(&topology(&before)), text(&topology(&after)));
        let desired = nft::rehearse(&after).unwrap();
        let reached: Listing = in_own_namespace(|| {
            nft::load(&before).unwrap();
            match Difference::between(&nft::observe().unwrap(), &desired) {
                Difference::None => {}
                Difference::Elements(delta) => nft::change(&delta).unwrap(),
                Difference::Replace { reason } => panic!("the shape never differs: {reason}"),
            }
            nft::observe().unwrap()
        });
        prop_assert_eq!(reached, desired);
    }

    #[test]
    fn a_change_of_rulesets_ends_where_a_replacement_ends(
        before in (host(), policies()),
        after in (host(), policies()),
    ) {
        let [before, after] =
            [before, after].map(|(host, policies)| ruleset(&topology(&format!("{host}{policies}"))));
        let desired = nft::rehearse(&render(&after).unwrap()).unwrap();
        let reached: Listing = in_own_namespace(|| {
            nft::load(&render(&before).unwrap()).unwrap();
            match Difference::between_rulesets(&before, &after).unwrap() {
                Difference::None => {}
                Difference::Elements(delta) => nft::change(&delta).unwrap(),
                Difference::Replace { reason } => panic!("the shape never differs: {reason}"),
            }
            nft::observe().unwrap()
        });
        prop_assert_eq!(reached, desired);
    }
}
