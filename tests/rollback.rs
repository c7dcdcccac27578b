//! Generations: listed, returned to, and what becomes of the spec's files.

use std::fs;
use std::time::Duration;

use crate::support::commands::{done, json, links, run, write};
use crate::support::lab::Lab;
use crate::support::spec_parts::{idle_vms, network4};
use hostctl::testbed::{Options, Probe, probe};
use serde_json::Value;

const OLD: &str = concat!(network4!("a" 1), network4!("b" 2), idle_vms!("a1" in "a", "b1" in "b"),);

/// `a` and `b` peered, and a network more.
fn new() -> String {
    format!("{OLD}[[peerings]]\nbetween = [\"a\", \"b\"]\n[networks.c]\ncidr = \"10.3.0.0/24\"\n")
}

#[test]
fn an_earlier_generation_is_a_new_one_and_the_files_stay() {
    let lab = Lab::new(Options::default());
    let (code, text) = run(&lab, &["rollback"]);
    assert!(code == 1 && text.contains("there is no generation to return to"), "{text}");
    write(&lab, OLD);
    done(&lab, &["apply"]);
    write(&lab, &new());
    done(&lab, &["apply"]);
    let (a1, b1) = (lab.guest(OLD, "a1"), lab.guest(OLD, "b1"));
    let ping = || probe(a1.netns(), Probe::Icmp(b1.v4), Duration::from_millis(500)).is_allowed();
    assert!(ping());

    let planned = done(&lab, &["rollback", "--dry-run"]);
    assert!(planned.contains("ip link del br-c") && planned.contains("pairs"), "{planned}");
    assert!(links(&lab).contains("br-c"));
    let told = done(&lab, &["rollback"]);
    assert!(told.contains("generation 3"), "{told}");
    assert!(
        told.contains("files still say otherwise") && told.contains("+network c, +peering a-b"),
        "{told}"
    );
    assert!(!links(&lab).contains("br-c") && !ping());

    // Listed, also for programs.
    let list = json(&lab, &["generations"]);
    let columns = |key: &str| list.as_array().unwrap().iter().map(|row| row[key].clone()).collect::<Vec<_>>();
    assert_eq!(columns("number"), [1, 2, 3]);
    assert_eq!(columns("command"), ["apply", "apply", "rollback to 1"]);
    assert_eq!(columns("from"), [Value::Null, Value::Null, 1.into()]);
    assert_eq!(columns("current"), [false, false, true]);
    assert_eq!(list[1]["changes"], serde_json::json!(["+network c", "+peering a-b"]));
    let table = done(&lab, &["generations"]);
    let last: Vec<&str> =
        table.lines().last().unwrap().split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(last[2..], ["rollback to 1", "-network c, -peering a-b", "current"]);

    // The status says it as long as it is so; a command doesn't bring the rest back.
    let status = done(&lab, &["status"]);
    assert!(status.contains("rolled back and the spec's files still say otherwise"), "{status}");
    assert!(status.contains("no drift"), "{status}");
    let plan = done(&lab, &["plan"]);
    assert!(plan.contains("ip link add br-c"), "{plan}");
    let (code, refused) = run(&lab, &["vpc", "create", "--name", "d", "--cidr", "10.4.0.0/24"]);
    assert!(code == 3 && refused.contains("+network c") && refused.contains("hint: "), "{code} {refused}");

    // With the files in line nothing is left to say.
    write(&lab, OLD);
    assert!(!done(&lab, &["status"]).contains("note:"));
    assert_eq!(done(&lab, &["apply"]), "nothing to do\n");
    done(&lab, &["vpc", "create", "--name", "d", "--cidr", "10.4.0.0/24"]);

    // Forward again, by number.
    write(&lab, &new());
    done(&lab, &["rollback", "2"]);
    assert!(links(&lab).contains("br-c") && ping());
    let (code, text) = run(&lab, &["rollback", "9"]);
    assert!(code == 1 && text.contains("there is no generation 9; those from 1 to 5 are kept"), "{text}");
    let log = fs::read_to_string(lab.host.root.state().join("hostctl.log")).unwrap();
    assert!(log.contains(" rollback to 1: done: ") && log.contains(" rollback to 2: done: "), "{log}");
}

#[test]
fn what_commands_wrote_is_brought_back_too() {
    let lab = Lab::new(Options::default());
    let create = |name: &str, cidr: &str| done(&lab, &["vpc", "create", "--name", name, "--cidr", cidr]);
    create("a", "10.1.0.0/24");
    let first = fs::read_to_string(hostctl::host::drop_in(&lab.host.root)).unwrap();
    create("b", "10.2.0.0/24");
    create("c", "10.3.0.0/24");
    let told = done(&lab, &["rollback", "1"]);
    assert!(told.contains("commands.json is what it was then"), "{told}");
    assert_eq!(fs::read_to_string(hostctl::host::drop_in(&lab.host.root)).unwrap(), first);
    assert_eq!(done(&lab, &["apply"]), "nothing to do\n");
    assert!(!done(&lab, &["status"]).contains("note:"));
    // Commands go on from there.
    create("d", "10.4.0.0/24");
    let links = links(&lab);
    assert!(links.contains("br-a") && links.contains("br-d") && !links.contains("br-b"), "{links}");
    let list = json(&lab, &["generations"]);
    assert_eq!(list[4]["command"], "network d (10.4.0.0/24) created");
    assert_eq!(list[4]["changes"], serde_json::json!(["+network d"]));
}

#[test]
fn a_rollback_that_fails_leaves_host_and_drop_in_as_they_were() {
    let lab = Lab::new(Options::default());
    for (name, cidr) in [("a", "10.1.0.0/24"), ("b", "10.2.0.0/24")] {
        done(&lab, &["vpc", "create", "--name", name, "--cidr", cidr]);
    }
    done(&lab, &["vpc", "delete", "--name", "a"]);
    // What generation 2 wants is taken.
    lab.output("ip", &["link", "add", "br-a", "type", "bridge"]);
    let path = hostctl::host::drop_in(&lab.host.root);
    let before = fs::read_to_string(&path).unwrap();
    let (code, text) = run(&lab, &["rollback"]);
    assert!(code == 1 && text.contains("there is already a link br-a"), "{code} {text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    assert_eq!(json(&lab, &["generations"]).as_array().unwrap().len(), 3);
    assert_eq!(done(&lab, &["apply"]), "nothing to do\n");
}

#[test]
fn a_broken_generation_stops_nothing_but_what_would_return_to_it() {
    let lab = Lab::new(Options::default());
    write(&lab, OLD);
    done(&lab, &["apply"]);
    write(&lab, &new());
    done(&lab, &["apply"]);
    let newest = lab.host.root.state().join("generations/2.json");
    let whole = fs::read_to_string(&newest).unwrap();
    fs::write(&newest, &whole[..whole.len() / 2]).unwrap();

    let status = done(&lab, &["status"]);
    assert!(status.contains("generation 1,") && status.contains("generation 2 can't be read"), "{status}");
    let table = done(&lab, &["generations"]);
    assert!(table.contains("current, can't be read"), "{table}");
    assert_eq!(done(&lab, &["check"]).lines().count(), 1);
    done(&lab, &["plan"]);
    for arguments in [&["rollback"][..], &["vpc", "create", "--name", "d", "--cidr", "10.4.0.0/24"]] {
        let (code, text) = run(&lab, arguments);
        assert!(code == 1 && text.contains("hostctl apply keeps a new one"), "{code} {text}");
    }
    // An apply keeps a new one, numbered after it; a number names an older one.
    done(&lab, &["apply"]);
    assert_eq!(json(&lab, &["status"])["generation"], 3);
    done(&lab, &["rollback", "1"]);
    assert_eq!(json(&lab, &["status"])["generation"], 4);
    assert!(!links(&lab).contains("br-c"));
}
