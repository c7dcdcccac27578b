//! A guest that runs is started again with consent only; what waits for that
//! is shown by key. By the program alone, with a real guest.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::commands::{done, json, refused, write};
use crate::support::lab::Lab;
use hostctl::testbed::Options;
use serde_json::Value;

const SPEC: &str = r#"
[networks.one]
cidr = "10.1.0.0/24"
[vms.one]
network = "one"
image = "mine"
memory = "128M"
accel = "tcg"
"#;

/// With an image of its own, a copy of the probe's.
fn lab() -> Lab {
    let lab = Lab::new(Options::default());
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/images/probe");
    assert!(from.join("image.json").exists(), "{} is missing: run make image", from.display());
    let to = lab.host.root.images().join("mine");
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    lab
}

fn guest(lab: &Lab) -> Value {
    json(lab, &["vm", "list"])[0].clone()
}

fn pid(lab: &Lab) -> u64 {
    guest(lab)["pid"].as_u64().unwrap()
}

fn pending(lab: &Lab) -> Vec<String> {
    let pending = guest(lab)["pending"].clone();
    pending.as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap().to_string()).collect()
}

fn up(lab: &Lab) {
    done(lab, &["vm", "up", "one", "--timeout", "300"]);
}

fn probe(lab: &Lab, target: &str) -> String {
    done(lab, &["vm", "exec", "one", "--", "/bin/probe", target])
}

#[test]
fn a_running_guest_is_started_again_with_consent_only() {
    let lab = lab();
    write(&lab, SPEC);
    done(&lab, &["apply"]);
    up(&lab);
    let first = pid(&lab);
    assert_eq!(pending(&lab), Vec::<String>::new());

    // What needs a new start waits, and is told wherever one looks.
    let edited = SPEC.replace("128M", "144M") + "cmdline = \"quiet\"\n";
    write(&lab, &edited);
    let plan = done(&lab, &["plan"]);
    assert!(plan.starts_with("nothing to do\n"), "{plan}");
    let told = "one: memory 128M -> 144M; cmdline \"\" -> \"quiet\"";
    assert!(plan.contains(&format!("{told} (hostctl vm restart one)")), "{plan}");
    assert_eq!(json(&lab, &["plan"])["pending"][0]["pending"][0]["key"], "memory");
    let applied = done(&lab, &["apply"]);
    assert!(applied.contains("note: waits for its next start: one: memory 128M -> 144M"), "{applied}");
    assert_eq!((pid(&lab), pending(&lab)), (first, vec!["memory".to_string(), "cmdline".into()]));
    for arguments in [&["vm", "list"][..], &["status"]] {
        assert!(done(&lab, arguments).contains(told), "{arguments:?}");
    }
    assert!(done(&lab, &["vm", "show", "one"]).contains("memory 128M -> 144M"));
    let audit = json(&lab, &["audit", "--fail-on", "critical"]);
    let findings = audit["findings"].as_array().unwrap();
    let told = |one: &&Value| one["object"] == "VM one" && one["severity"] == "info";
    assert!(findings.iter().any(|one| told(&one)), "{audit}");
    assert!(done(&lab, &["status"]).contains("no drift"));

    // What confines it doesn't wait: it has another address, of which it will
    // hear at its next start.
    assert!(probe(&lab, "icmp/10.1.0.1").contains("allowed"));
    write(&lab, &(edited.clone() + "address = \"10.1.0.9\"\n"));
    done(&lab, &["apply"]);
    assert!(probe(&lab, "icmp/10.1.0.1").contains("dropped"));
    assert_eq!(
        (pid(&lab), pending(&lab)),
        (first, vec!["address".into(), "memory".into(), "cmdline".into()])
    );

    // Back, and nothing waits.
    write(&lab, &(SPEC.to_string() + "address = \"10.1.0.2\"\n"));
    done(&lab, &["apply"]);
    assert!(probe(&lab, "icmp/10.1.0.1").contains("allowed"));
    assert_eq!((pid(&lab), pending(&lab)), (first, Vec::new()));

    // A file that is replaced under its name.
    let image = lab.host.root.images().join("mine");
    let described: Value = serde_json::from_slice(&fs::read(image.join("image.json")).unwrap()).unwrap();
    // The unpacked one is started.
    let initrd = image.join(described["uncompressed"]["initrd"].as_str().unwrap());
    fs::copy(&initrd, image.join("new")).unwrap();
    fs::rename(image.join("new"), &initrd).unwrap();
    assert_eq!(pending(&lab), ["initrd"]);
    assert!(done(&lab, &["plan"]).contains("(replaced)"));

    // With consent.
    write(&lab, &edited);
    refused(&lab, &["apply", "--restart=two"], 1, "there is no VM two in the spec");
    assert_eq!(pid(&lab), first);
    let text = done(&lab, &["apply", "--restart=one"]);
    assert!(text.contains("hostctl vm down one    # restart: memory, cmdline, initrd"), "{text}");
    up(&lab);
    let second = pid(&lab);
    assert_ne!(second, first);
    assert_eq!(pending(&lab), Vec::<String>::new());
    assert_eq!(done(&lab, &["apply", "--restart"]), "nothing to do\n");
    assert_eq!(pid(&lab), second);

    // The next start is also one after a crash.
    write(&lab, SPEC);
    done(&lab, &["apply"]);
    assert_eq!(pending(&lab), ["memory", "cmdline"]);
    let process = rustix::process::Pid::from_raw(i32::try_from(second).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    let begun = Instant::now();
    while guest(&lab)["pid"].as_u64().is_none_or(|pid| pid == second) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it isn't started again");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(pending(&lab), Vec::<String>::new());

    // An image that isn't there would keep it from being started after a crash.
    write(&lab, &SPEC.replace("\"mine\"", "\"nowhere\""));
    refused(&lab, &["apply"], 1, "nowhere");
    write(&lab, SPEC);

    // What an earlier version wrote in a way that isn't understood is no reason
    // to stop it.
    up(&lab);
    let third = pid(&lab);
    let path = lab.host.root.vm("one").join("launch.json");
    let mut launched: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    launched["vm"]["memory"] = "a lot".into();
    fs::write(&path, launched.to_string()).unwrap();
    assert!(done(&lab, &["plan"]).starts_with("nothing to do\n"));
    assert_eq!((pid(&lab), pending(&lab)), (third, vec!["memory".to_string()]));
    assert!(done(&lab, &["plan"]).contains("one: memory not known -> 128M"));
    done(&lab, &["vm", "restart", "one", "--timeout", "5"]);
    assert_ne!(pid(&lab), third);
    assert_eq!(pending(&lab), Vec::<String>::new());
    done(&lab, &["down"]);
}
