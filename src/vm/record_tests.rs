//! Records as hostctl d346908 wrote them (`tests/data/records/d346908`), which
//! had none of this: each is read as what it was, and each part of one can be
//! lost.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::record::{Field, parse};
use crate::topology::{Topology, Vm, test_topology};

use super::booted::Booted;
use super::control::VmReport;
use super::pending::differences;
use super::qemu::command_line::Accelerator;
use super::record::{LaunchRecord, VmRecord};
use super::state::State;

/// Hosts, and their VMs that were started.
const HOSTS: [(&str, &[&str]); 2] =
    [("plain", &["plain"]), ("everything", &["files", "a-guest-with-a-long-name", "arm", "of-a-unit"])];

fn host(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/records/d346908").join(name)
}

fn topology(host_name: &str) -> Topology {
    let text = fs::read_to_string(host(host_name).join("host.toml")).unwrap();
    test_topology::topology(&text)
}

fn file(host_name: &str, vm: &str, file: &str) -> Vec<u8> {
    fs::read(host(host_name).join("run/hostctl/vms").join(vm).join(file)).unwrap()
}

/// Every VM that was started: its host and name, and the topology's own.
fn vms() -> Vec<(&'static str, &'static str, Vm)> {
    let mut found = Vec::new();
    for (host, names) in HOSTS {
        let topology = topology(host);
        found.extend(names.iter().map(|name| (host, *name, topology.vm(name).unwrap().clone())));
    }
    assert_eq!(found.len(), 5);
    found
}

#[test]
fn what_was_written_is_read_as_what_it_was() {
    for (host, name, vm) in vms() {
        let desired: VmRecord = parse(&file(host, name, "vm.json")).unwrap();
        assert_eq!(desired.vm(), Ok(vm.clone()), "{name}");
        let launched: LaunchRecord = parse(&file(host, name, "launch.json")).unwrap();
        assert_eq!(differences(launched.vm.get(), &vm), [], "{name}");
        assert_eq!(launched.vm.into_option().unwrap().vm(), Ok(vm), "{name}");
        assert!(launched.pid.get().is_some() && launched.start_time.get().is_some());
        assert_eq!(launched.accel, Field::Is(Accelerator::Tcg));
        assert_eq!(launched.agent, Field::Is(name != "files"), "{name}");
        assert!(launched.accel_reason.get().is_some() && launched.birthplace.get().is_some());
        assert_eq!(launched.started_at.get().map(|time| time / 100_000), Some(17_956));
        let booted = file(host, name, "booted.json");
        let known: Booted = parse(&booted).unwrap();
        let written: Value = serde_json::to_value(&known).unwrap();
        assert_eq!(written["files"], serde_json::from_slice::<Value>(&booted).unwrap()["files"], "{name}");
    }
    let line = fs::read(host("plain").join("control-status.json")).unwrap();
    let answer: Value = serde_json::from_slice(&line).unwrap();
    let status: VmReport = serde_json::from_value(answer["ok"].clone()).unwrap();
    assert_eq!((status.state, status.pid, status.agent), (State::Ready, Some(7260), true));
}

/// Supervisors of d346908 run on, and read what this version writes: all that
/// they know is there, as they know it.
#[test]
fn what_is_written_has_all_that_was() {
    for (host, name, vm) in vms() {
        let then: Value = serde_json::from_slice(&file(host, name, "vm.json")).unwrap();
        let mut now = serde_json::to_value(VmRecord::from(&vm)).unwrap();
        assert_eq!(now.as_object_mut().unwrap().remove("version"), Some(json!(1)));
        assert_eq!(now, then, "{name}");
    }
}

/// Every place of a record, as a JSON pointer; of lists the whole.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let place = format!("{at}/{key}");
        found.push(place.clone());
        places(value, &place, found);
    }
}

fn without(whole: &Value, place: &str) -> Value {
    let mut value = whole.clone();
    let (parent, key) = place.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    value
}

fn with(whole: &Value, place: &str, odd: Value) -> Value {
    let mut value = whole.clone();
    *value.pointer_mut(place).unwrap() = odd;
    value
}

/// The keys that a place of `launch.json` may be said to differ in.
fn keys(place: &str) -> Vec<&str> {
    let mut parts = place.split('/').skip(1);
    if parts.next() != Some("vm") {
        return Vec::new();
    }
    let port = ["interface", "network", "mac", "address", "gateway", "address6"];
    match (parts.next(), parts.next()) {
        (None, _) => vec!["everything"],
        (Some("name" | "autostart" | "restart" | "supervisor"), _) => Vec::new(),
        (Some("uid"), _) => vec!["user"],
        (Some("port"), None) => port.to_vec(),
        (Some("port"), Some("altname" | "subnet" | "bridge")) => Vec::new(),
        (Some("port"), Some("prefix")) => vec!["address"],
        (Some("port"), Some("v6")) => vec!["address6"],
        (Some("port"), Some(key)) => vec![port.into_iter().find(|known| *known == key).unwrap()],
        (Some("image"), _) => vec!["image", "kernel", "initrd", "disk"],
        (Some(key), _) => vec![key],
    }
}

#[test]
fn a_part_that_is_lost_costs_itself() {
    let mut tried = 0;
    for (host, name, vm) in vms() {
        let whole: Value = serde_json::from_slice(&file(host, name, "launch.json")).unwrap();
        let mut all = Vec::new();
        places(&whole, "", &mut all);
        for place in &all {
            let odd = [json!({ "odd": [] }), json!(-1), json!("\u{1b}"), json!([{}]), Value::Null];
            let records = odd.map(|odd| with(&whole, place, odd)).into_iter();
            let records = records.chain([without(&whole, place), with(&whole, place, json!({}))]);
            for record in records {
                let read: LaunchRecord = parse(record.to_string().as_bytes()).unwrap();
                let found = differences(read.vm.get(), &vm);
                for pending in &found {
                    // An empty vm is one of which no key is known.
                    let fits = keys(place).contains(&pending.key.as_str()) || place == "/vm";
                    assert!(fits, "{name}: {record} differs in {pending}");
                }
                let kept =
                    |field: &str| place.strip_prefix('/').and_then(|at| at.split('/').next()) == Some(field);
                assert!(kept("pid") || read.pid.get().is_some(), "{name}: {record}");
                assert!(kept("start_time") || read.start_time.get().is_some(), "{name}: {record}");
                assert!(kept("birthplace") || read.birthplace.get().is_some(), "{name}: {record}");
                assert!(kept("agent") || read.agent.get().is_some(), "{name}: {record}");
                tried += 1;
            }
        }
        // What a later version adds, anywhere.
        let mut more = whole.clone();
        for place in all.iter().map(String::as_str).chain([""]) {
            if let Some(object) = more.pointer_mut(place).unwrap().as_object_mut()
                // An image is one of two things.
                && place != "/vm/image"
            {
                object.insert("later".into(), json!({ "version": 7 }));
            }
        }
        more["version"] = json!(2);
        let read: LaunchRecord = parse(more.to_string().as_bytes()).unwrap();
        assert_eq!(differences(read.vm.get(), &vm), [], "{name}");
        assert_eq!(read.vm.into_option().unwrap().vm(), Ok(vm), "{name}");
    }
    assert!(tried > 500, "{tried}");
}

/// A VM isn't started as another one than was asked for.
#[test]
fn a_vm_that_is_not_known_whole_isnt_guessed() {
    for (host, name, vm) in vms() {
        let whole: Value = serde_json::from_slice(&file(host, name, "vm.json")).unwrap();
        let mut all = Vec::new();
        places(&whole, "", &mut all);
        for place in &all {
            for record in [with(&whole, place, json!({ "odd": 7 })), without(&whole, place)] {
                let read: VmRecord = parse(record.to_string().as_bytes()).unwrap();
                let Ok(read) = read.vm() else { continue };
                // What only its supervisor cares for, and names for people.
                let read =
                    Vm { autostart: vm.autostart, restart: vm.restart, supervisor: vm.supervisor, ..read };
                let mut same = vm.clone();
                if place == "/port/altname" {
                    same.port.altname = None;
                }
                // Versions before these knew neither.
                if place == "/volumes" && record.get("volumes").is_none() {
                    same.volumes = Vec::new();
                }
                assert_eq!(read, same, "{name}: {place}");
            }
        }
    }
}
