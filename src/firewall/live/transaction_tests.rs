use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Value, json};
use strum::IntoEnumIterator;

use super::*;
use crate::firewall::desired::render::render;
use crate::firewall::desired::set::{FilledBy, Set};
use crate::firewall::live::delta::Delta;
use crate::firewall::live::nft;
use crate::firewall::{Difference, Owner, Ruleset, RulesetRecord, Stamp, missing_elements, probe_guard};
use crate::ownership::TABLE_FAMILIES;

fn alone(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    });
    thread.join().unwrap();
}

type Sets = BTreeMap<String, Vec<String>>;

fn ruleset(sets: &Sets, policies: Value) -> Ruleset {
    let mut record = serde_json::to_value(RulesetRecord::from(&Ruleset::default())).unwrap();
    record["full"] = true.into();
    record["policies"] = policies;
    for (set, elements) in sets {
        record[set] = json!(elements);
    }
    serde_json::from_value::<RulesetRecord>(record).unwrap().ruleset().unwrap()
}

fn delta(from: &Ruleset, to: &Ruleset) -> Delta {
    match Difference::between_rulesets(from, to).unwrap() {
        Difference::Elements(delta) => delta,
        other => panic!("{other:?}"),
    }
}

/// One field of the `number`th of a set's elements: no two overlap.
fn field(name: &str, number: u32, intervals: bool, plain: bool) -> String {
    let [.., a, b] = number.to_be_bytes();
    match name {
        "ifname" | "iifname" | "oifname" => format!("\"br-{number}\""),
        "ether_addr" => format!("02:00:00:00:{a:02x}:{b:02x}"),
        // Some of plain intervals touch each other, and the last has no end.
        "ipv4_addr" if plain && intervals && number == 0 => "224.0.0.0/3".into(),
        "ipv6_addr" if plain && intervals && number == 0 => "ff00::/8".into(),
        "ipv4_addr" if intervals && number % 3 == 1 => format!("10.{a}.{b}.3-10.{a}.{b}.9"),
        "ipv4_addr" if intervals => format!("10.{a}.{b}.0/24"),
        "ipv4_addr" => format!("10.{a}.{b}.7"),
        "ipv6_addr" if intervals => format!("fd00:0:{a:x}:{b:x}::/64"),
        "ipv6_addr" => format!("fd00::{a:x}:{b:x}"),
        "inet_service" if intervals => format!("{}-{}", number % 50_000, number % 50_000 + 70),
        "inet_service" => (number % 65536).to_string(),
        "inet_proto" => ["tcp", "udp", "icmp", "7"][usize::from(b) % 4].into(),
        "iface_index" => (number * 131 + 2).to_string(),
        "devgroup" | "mark" | "iifgroup" | "oifgroup" => format!("0x{:08x}", number * 131 + 2),
        "nf_proto" => ["ipv4", "ipv6"][usize::from(b) % 2].into(),
        raw if raw.starts_with('@') => format!("0x{:032x}", u128::from(number) + (0xfe80 << 112)),
        other => panic!("a field that no test knows: {other}"),
    }
}

fn element(set: Set, number: u32) -> String {
    let definition = set.definition();
    let (_, fields) = definition.kind.split_once(' ').unwrap();
    let (key, is_map) = fields.split_once(" : ").map_or((fields, false), |(key, _)| (key, true));
    let intervals = definition.properties.contains(&"flags interval");
    let parts: Vec<&str> = key.split(" . ").collect();
    let parts: Vec<String> =
        parts.iter().map(|part| field(part, number, intervals, parts.len() == 1)).collect();
    let state = definition.properties.iter().find_map(|property| {
        let over = if property.contains("over") { "over " } else { "" };
        let limit = || format!(" limit rate {over}{}/second burst {} packets", number + 3, number % 90 + 1);
        match property.split(' ').next().unwrap() {
            "limit" => Some(limit()),
            "ct" => Some(format!(" ct count {}", number + 1)),
            _ => None,
        }
    });
    let verdict = if is_map { " : jump drop_policy" } else { "" };
    format!("{}{}{verdict}", parts.join(" . "), state.unwrap_or_default())
}

/// Which of the first numbers each set has.
fn sets(numbers: &[Vec<u32>]) -> Sets {
    let filled = Set::iter().filter(|set| set.definition().filled_by == FilledBy::Topology);
    let mut found = Sets::new();
    for (set, numbers) in filled.zip(numbers.iter().cycle()) {
        // A field of few values has few elements.
        let few = matches!(set.definition().kind, "type nf_proto");
        let numbers = numbers.iter().filter(|number| !few || **number < 2);
        found.insert(set.name().into(), numbers.map(|number| element(set, *number)).collect());
    }
    found
}

fn policy(chain: &str, open: bool, first: u32) -> Value {
    let ports = |address: &str| -> Vec<String> {
        (first..first + 3).map(|n| format!("{address} . tcp . {}-{}", 9 * n, 9 * n + 4)).collect()
    };
    let (ports4, ports6) = (ports("10.0.0.0/8"), ports("fd00::/8"));
    json!({
        "chain": chain, "what": "ingress of web", "far": "saddr", "open": open, "ports4": ports4,
        "ports6": ports6, "protocols4": ["10.0.0.0/8 . 47", "0.0.0.0/0 . 1"], "protocols6": ["::/0 . 58"]
    })
}

fn load(ruleset: &Ruleset) {
    nft::load(&render(ruleset).unwrap()).unwrap();
}

/// Every element as nft lists it, with what it limits, in one order.
fn listed() -> Vec<String> {
    let mut found = Vec::new();
    for family in TABLE_FAMILIES {
        let output = Command::new("nft").args(["-j", "list", "table", family, "hostctl"]).output().unwrap();
        let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
        for object in listing["nftables"].as_array().unwrap() {
            for kind in ["set", "map"] {
                let set = &object[kind];
                let elements = set["elem"].as_array().into_iter().flatten();
                found.extend(elements.map(|element| format!("{family} {}: {element}", set["name"])));
            }
        }
    }
    found.sort();
    found
}

/// What nft makes of the whole text, elements and all.
fn loaded_whole(ruleset: &Ruleset) -> Vec<String> {
    let text = render(ruleset).unwrap();
    nft::in_scratch_namespace(|| {
        nft::load(&text)?;
        Ok(listed())
    })
    .unwrap()
}

fn by_text(delta: &Delta) -> Result<(), NftError> {
    let (json, text) = delta.input();
    assert!(!json);
    nft::load(text)
}

#[test]
fn messages_lead_where_nft_leads_for_any_elements_of_each_set() {
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(7), ..Config::default() });
    let numbers =
        proptest::collection::vec(proptest::sample::subsequence((0..40).collect::<Vec<u32>>(), 0..20), 7);
    for round in 0..6 {
        let mut next = || sets(&numbers.new_tree(&mut runner).unwrap().current());
        let (first, second) = (ruleset(&next(), json!([])), ruleset(&next(), json!([])));
        alone(move || {
            load(&ruleset(&Sets::new(), json!([])));
            let empty = ruleset(&Sets::new(), json!([]));
            for (from, to) in [(&empty, &first), (&first, &second), (&second, &first), (&first, &empty)] {
                let delta = delta(from, to);
                assert!(delta.is_elements());
                let before = Stamp::read().unwrap();
                nft::change(&delta).unwrap();
                assert!(Stamp::read().unwrap().is_after(&before, 1), "one transaction");
                assert_eq!(listed(), loaded_whole(to), "round {round}");
                assert_eq!(nft::observe().unwrap(), nft::rehearse(&render(to).unwrap()).unwrap());
                by_text(&self::delta(to, from)).unwrap();
                assert_eq!(listed(), loaded_whole(from), "nft can take what messages made");
                nft::change(&delta).unwrap();
            }
        });
    }
}

#[test]
fn many_elements_of_one_set_are_each_as_they_should() {
    alone(|| {
        let empty = ruleset(&Sets::new(), json!([]));
        load(&empty);
        let names = ["public4", "public6", "new_flows", "net4", "port_target"];
        let filled: Sets = names
            .iter()
            .map(|name| (name.to_string(), (0..2500).map(|n| element(name.parse().unwrap(), n)).collect()))
            .collect();
        let full = ruleset(&filled, json!([]));
        nft::change(&delta(&empty, &full)).unwrap();
        assert_eq!(listed(), loaded_whole(&full));
        nft::change(&delta(&full, &empty)).unwrap();
        assert_eq!(listed(), loaded_whole(&empty));
    });
}

#[test]
fn a_policy_and_the_elements_that_lead_to_it_are_one_transaction() {
    alone(|| {
        let lead = |chain: &str| {
            Sets::from([("ingress4".into(), vec![format!("\"br-1\" . 10.0.0.7 : jump {chain}")])])
        };
        let empty = ruleset(&Sets::new(), json!([]));
        let one = ruleset(&lead("policy_a_in"), json!([policy("policy_a_in", false, 1)]));
        let wider = ruleset(&lead("policy_a_in"), json!([policy("policy_a_in", false, 2)]));
        let open = ruleset(&lead("policy_a_in"), json!([policy("policy_a_in", true, 2)]));
        let other = ruleset(&lead("policy_b_in"), json!([policy("policy_b_in", true, 5)]));
        load(&empty);
        for (from, to, elements) in [
            (&empty, &one, false),
            (&one, &wider, true),
            (&wider, &open, false),
            (&open, &other, false),
            (&other, &empty, false),
        ] {
            let delta = delta(from, to);
            assert_eq!(delta.is_elements(), elements);
            let before = Stamp::read().unwrap();
            nft::change(&delta).unwrap();
            assert!(Stamp::read().unwrap().is_after(&before, 1), "one transaction");
            delta.verify().unwrap();
            assert_eq!(nft::observe().unwrap(), nft::rehearse(&render(to).unwrap()).unwrap());
            assert_eq!(listed(), loaded_whole(to));
        }
    });
}

#[test]
fn one_element_that_is_refused_leaves_nothing_and_is_named() {
    alone(|| {
        let names = |names: &[&str]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
        let loaded = ruleset(&Sets::from([("bridges".into(), names(&["a", "b", "c"]))]), json!([]));
        load(&loaded);
        let before = (listed(), Stamp::read().unwrap());
        // Nothing is there to be deleted.
        let thought = ruleset(&Sets::from([("bridges".into(), names(&["a", "x", "c"]))]), json!([]));
        let wanted = ruleset(&Sets::from([("tailscale".into(), names(&["new"]))]), json!([]));
        let change = delta(&thought, &wanted);
        let error = nft::change(&change).unwrap_err();
        let NftError::Elements(ElementsError::Refused { verb, set, element, source }) = &error else {
            panic!("{error:?}")
        };
        assert_eq!((*verb, set.as_str(), element.as_str()), ("delete", "bridges", "\"x\""), "{error}");
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
        assert_eq!((listed(), Stamp::read().unwrap()), before);
        // A verdict that leads nowhere.
        let lead = |to: &str| format!("\"br-1\" . 10.0.0.7 : jump {to}");
        let lost = Sets::from([
            ("ingress4".into(), vec![lead("nowhere")]),
            ("bridges".into(), names(&["a", "b", "c", "d"])),
        ]);
        let change = delta(&loaded, &ruleset(&lost, json!([])));
        let error = nft::change(&change).unwrap_err().to_string();
        assert!(error.contains("set ingress4") && error.contains("jump nowhere"), "{error}");
        assert_eq!((listed(), Stamp::read().unwrap()), before);
    });
}

#[test]
fn a_policy_that_the_kernel_refuses_leaves_nothing() {
    alone(|| {
        let loaded = ruleset(&Sets::new(), json!([]));
        load(&loaded);
        // A chain of that name is there, and has a rule more than it should.
        nft::load("table inet hostctl { set policy_a_in_ports4 { type ifname; }; }").unwrap();
        let before = (listed(), Stamp::read().unwrap());
        let bridges = Sets::from([("bridges".into(), vec!["\"a\"".into()])]);
        let change = delta(&loaded, &ruleset(&bridges, json!([policy("policy_a_in", false, 1)])));
        let error = nft::change(&change).unwrap_err();
        assert!(matches!(error, NftError::Refused { .. }), "nft explains it: {error:?}");
        assert_eq!((listed(), Stamp::read().unwrap()), before);
    });
}

#[test]
fn what_others_change_meanwhile_is_no_reason_to_fail() {
    alone(move || {
        let stop = AtomicBool::new(false);
        let loaded = ruleset(&Sets::new(), json!([]));
        load(&loaded);
        let (to, from) = (sets(&[vec![1, 2, 3]]), Sets::new());
        let forth = delta(&ruleset(&from, json!([])), &ruleset(&to, json!([policy("policy_a_in", true, 2)])));
        let back = delta(&ruleset(&to, json!([policy("policy_a_in", true, 2)])), &ruleset(&from, json!([])));
        thread::scope(|scope| {
            // The thread is in the same namespace.
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    nft::load("add table inet other\ndelete table inet other").unwrap();
                }
            });
            let mut changed = (0..15).flat_map(|_| [&forth, &back]).map(nft::change);
            let failed = changed.find_map(Result::err);
            stop.store(true, Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
        assert_eq!(listed(), loaded_whole(&loaded));
    });
}

#[test]
fn a_transaction_of_an_earlier_state_is_refused_whole() {
    alone(|| {
        load(&ruleset(&Sets::new(), json!([])));
        let socket = open_for_answers().unwrap();
        let mut parts = Parts::default();
        assert!(parts.push(true, "inet", "bridges", &["\"a\"".into()]));
        let added = written(&parts.added, Verb::Add, OURS);
        let stale = framed(generation(socket.as_fd()).unwrap(), &[], &[], &added);
        nft::load("add table inet other").unwrap();
        let before = listed();
        assert!(matches!(send_batch(socket.as_fd(), &stale, added.iter()), Err(Stopped::Overtaken)));
        assert_eq!(listed(), before);
        let fresh = framed(generation(socket.as_fd()).unwrap(), &[], &[], &added);
        assert!(send_batch(socket.as_fd(), &fresh, added.iter()).is_ok());
        assert_ne!(listed(), before);
    });
}

#[test]
fn elements_that_arent_as_they_should_are_found_by_their_keys() {
    alone(|| {
        let all = sets(&[(0..30).collect()]);
        let (empty, full) = (ruleset(&Sets::new(), json!([])), ruleset(&all, json!([])));
        load(&empty);
        let delta = delta(&empty, &full);
        nft::change(&delta).unwrap();
        let odd = || {
            let elements = Set::iter().map(|set| (set, full.elements(set)));
            missing_elements(elements)
                .unwrap()
                .into_iter()
                .map(|(set, text)| (set.name(), text))
                .collect::<Vec<_>>()
        };
        assert_eq!(odd(), []);
        for (change, set) in [
            ("delete element inet hostctl bridges { \"br-3\" }", "bridges"),
            ("delete element inet hostctl net4 { 10.0.6.0/24 }", "net4"),
            // The same addresses, in two, and one more beside it.
            (
                "delete element inet hostctl net4 { 10.0.9.0/24 }\nadd element inet hostctl net4 { 10.0.9.0/25, 10.0.9.128/25 }",
                "net4",
            ),
            (
                "delete element inet hostctl net4 { 10.0.29.0/24 }\nadd element inet hostctl net4 { 10.0.29.0-10.0.30.255 }",
                "net4",
            ),
            (
                "delete element inet hostctl closed6 { ff00::/8 }\nadd element inet hostctl closed6 { ff00::/9 }",
                "closed6",
            ),
            (
                "delete element inet hostctl public4 { \"br-5\" . 657 . 10.0.5.0/24 }\nadd element inet hostctl public4 { \"br-5\" . 657 . 10.0.5.0/25 }",
                "public4",
            ),
            (
                "delete element inet hostctl ingress4 { \"br-4\" . 10.0.4.7 }\nadd element inet hostctl ingress4 { \"br-4\" . 10.0.4.7 : jump drop_limit }",
                "ingress4",
            ),
            (
                "delete element inet hostctl new_flows { \"br-4\" . 02:00:00:00:00:04 }\nadd element inet hostctl new_flows { \"br-4\" . 02:00:00:00:00:04 limit rate 8/second burst 5 packets }",
                "new_flows",
            ),
            (
                "delete element inet hostctl flows { \"br-4\" . 02:00:00:00:00:04 }\nadd element inet hostctl flows { \"br-4\" . 02:00:00:00:00:04 ct count over 5 }",
                "flows",
            ),
            (
                "delete element bridge hostctl group_rate { \"br-4\" }\nadd element bridge hostctl group_rate { \"br-4\" limit rate 7/second burst 5 packets }",
                "group_rate",
            ),
            ("delete element bridge hostctl ports { \"br-4\" }", "ports"),
        ] {
            nft::change(&self::delta(&full, &empty)).unwrap();
            nft::change(&delta).unwrap();
            nft::load(change).unwrap();
            let found = odd();
            assert_eq!(found.len(), 1, "{change}: {found:?}");
            assert_eq!(found[0].0, set, "{change}");
            let error = delta.verify().unwrap_err();
            assert!(matches!(&error, ElementsError::Otherwise { set: of, .. } if of == set), "{error}");
            load(&full);
        }
        let gone = self::delta(&full, &empty);
        assert!(gone.verify().is_err(), "they are still there");
        nft::change(&gone).unwrap();
        gone.verify().unwrap();
    });
}

#[test]
fn held_tables_are_changed_by_their_owners_socket_alone() {
    if let Err(error) = probe_guard() {
        println!("SKIPPED: tables can't be guarded here: {error}");
        return;
    }
    alone(|| {
        let (from, to) = (Sets::new(), sets(&[vec![1, 2, 3]]));
        let (from, to) = (ruleset(&from, json!([])), ruleset(&to, json!([policy("policy_a_in", true, 2)])));
        let owner = Owner::open().unwrap();
        owner.load(&render(&from).unwrap(), true).unwrap();
        assert!(nft::change(&delta(&from, &to)).is_err(), "anybody could");
        for (from, to) in [(&from, &to), (&to, &from)] {
            owner.change(&delta(from, to), true).unwrap();
            assert_eq!(listed(), loaded_whole(to));
            assert!(crate::firewall::Tables::read().unwrap().are_guarded());
        }
    });
}

/// Also where nft has looked at what is there: its own transactions name none.
#[test]
fn a_policy_made_beside_anothers_transaction_is_made_again() {
    alone(|| {
        let (from, to) = (ruleset(&Sets::new(), json!([])), json!([policy("policy_a_in", true, 2)]));
        load(&from);
        let delta = delta(&from, &ruleset(&Sets::new(), to));
        let socket = open().unwrap();
        let seen = std::cell::Cell::new(0);
        // While nft's part is caught, somebody else is faster, twice.
        let faster = |_: &mut [u8]| {
            seen.set(seen.get() + 1);
            if seen.get() <= 2 {
                nft::load(&format!("add table inet other{}", seen.get())).map_err(io::Error::other)?;
            }
            Ok(())
        };
        change(socket.as_fd(), delta.parts().unwrap(), &faster).unwrap();
        assert_eq!(seen.get(), 3);
        delta.verify().unwrap();
    });
}

proptest! {
    #[test]
    fn any_refusal_is_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..120), flags: u16) {
        for message in messages(&bytes).into_iter().flatten() {
            _ = refusal(message);
        }
        _ = refusal(Message { kind: ANSWER, flags, sequence: 1, payload: &bytes });
        _ = unframed(&bytes);
    }
}
