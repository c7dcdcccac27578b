//! Guests that don't go on as they should: status, audit and `vm list` say
//! what, since when, and what to do. With a real guest, and a disk that is full.

use crate::support::commands::{done, json, refused, run, write};
use crate::support::lab::Lab;
use crate::support::processes::{signal, until};
use hostctl::testbed::Options;
use rustix::process::Signal;
use serde_json::Value;

fn guest(lab: &Lab) -> Value {
    json(lab, &["vm", "list"])[0].clone()
}

fn state(lab: &Lab) -> String {
    guest(lab)["state"].as_str().unwrap().into()
}

fn trouble(lab: &Lab) -> String {
    guest(lab)["trouble"]["what"].as_str().unwrap_or_default().into()
}

/// What the audit finds about the VM.
fn found(lab: &Lab) -> Vec<(String, String)> {
    let audit = json(lab, &["audit", "--fail-on", "critical"]);
    let findings = audit["findings"].as_array().unwrap().iter().filter(|one| one["object"] == "VM one");
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_string();
    findings.map(|one| (text(one, "found"), text(one, "remedy"))).collect()
}

fn up(lab: &Lab) {
    done(lab, &["vm", "up", "one", "--timeout", "300"]);
}

#[test]
fn a_guest_whose_disk_is_full_says_so_and_goes_on() {
    let lab = Lab::new(Options::default()).with_images();
    // The lab has a mount namespace of its own.
    let disks = lab.root_dir().join("disks");
    std::fs::create_dir(&disks).unwrap();
    let tmpfs = disks.display().to_string();
    lab.output("mount", &["-t", "tmpfs", "-o", "size=4m,mode=0755", "small", &tmpfs]);
    let volume = disks.join("a.img");
    std::fs::File::create(&volume).unwrap().set_len(32 << 20).unwrap();
    write(
        &lab,
        &format!(
            "[networks.one]\ncidr = \"10.1.0.0/24\"\n[vms.one]\nnetwork = \"one\"\nimage = \"probe\"\n\
             memory = \"128M\"\naccel = \"tcg\"\nvolumes = [{{ path = {volume:?}, format = \"raw\" }}]\n"
        ),
    );
    done(&lab, &["apply"]);
    up(&lab);
    assert_eq!(trouble(&lab), "");
    // Zeroes take no room.
    let fill = "(yes | head -c 16777216 >/dev/vda; sync; echo written) >/tmp/dd 2>&1 &";
    done(&lab, &["vm", "exec", "one", "--", "/bin/sh", "-c", fill]);
    let full = format!("paused: no room is left for volumes[0] {}", volume.display());
    until("it is held", || state(&lab) == full);
    let said = done(&lab, &["status"]);
    assert!(said.contains(&full) && said.contains("hostctl vm resume one"), "{said}");
    let since = guest(&lab)["trouble"]["since"].as_u64().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(since <= now && now - since < 120);
    let findings = found(&lab);
    assert!(
        findings.iter().any(|(found, remedy)| found.starts_with(&full) && remedy.contains("make room")),
        "{findings:?}"
    );
    refused(&lab, &["vm", "resume", "one"], 1, "one is still paused: no room is left");

    // A supervisor that comes later sees it too.
    let supervisor = json(&lab, &["vm", "show", "one"])["status"]["supervisor_pid"].as_u64().unwrap();
    signal(supervisor, Signal::KILL);
    until("it is seen", || trouble(&lab).starts_with("runs without a supervisor"));
    assert!(found(&lab).iter().any(|(found, _)| found.starts_with("runs without a supervisor")));
    done(&lab, &["apply"]);
    until("the next one says it", || state(&lab) == full);

    // Room, and it goes on by itself; nothing that it wrote is lost.
    lab.output("mount", &["-o", "remount,size=64m", &tmpfs]);
    until("it goes on", || trouble(&lab).is_empty());
    until("all is written", || {
        run(&lab, &["vm", "exec", "one", "--", "/bin/cat", "/tmp/dd"]).1.contains("written")
    });
    assert_eq!(done(&lab, &["vm", "resume", "one"]).split(':').next(), Some("one isn't paused"));
    done(&lab, &["down"]);
    lab.output("umount", &[&tmpfs]);
}

#[test]
fn a_guest_that_crashes_again_and_again_or_hangs_is_told_of() {
    let lab = Lab::new(Options::default()).with_images();
    write(
        &lab,
        "[networks.one]\ncidr = \"10.1.0.0/24\"\n[vms.one]\nnetwork = \"one\"\nimage = \"probe\"\n\
         memory = \"128M\"\naccel = \"tcg\"\n",
    );
    done(&lab, &["apply"]);
    up(&lab);
    let pid = || guest(&lab)["pid"].as_u64();

    // QEMU hangs.
    let first = pid().unwrap();
    signal(first, Signal::STOP);
    until("it is seen", || trouble(&lab) == "QEMU doesn't answer on its machine protocol");
    assert!(found(&lab)[0].1.contains("hostctl vm restart one"));
    signal(first, Signal::CONT);
    until("it answers", || trouble(&lab).is_empty());

    // Its supervisor hangs.
    let supervisor = json(&lab, &["vm", "show", "one"])["status"]["supervisor_pid"].as_u64().unwrap();
    signal(supervisor, Signal::STOP);
    until("it is seen", || trouble(&lab) == "its supervisor doesn't answer");
    signal(supervisor, Signal::CONT);
    until("it answers", || trouble(&lab).is_empty());

    // It crashes, and crashes.
    let mut last = 0;
    for _ in 0..3 {
        until("it runs", || pid().is_some_and(|pid| pid != last));
        last = pid().unwrap();
        signal(last, Signal::KILL);
    }
    until("it is seen", || trouble(&lab).starts_with("crashed 3 times in a row"));
    assert!(trouble(&lab).contains("killed by signal 9"), "{}", trouble(&lab));
    assert!(found(&lab).iter().any(|(found, remedy)| {
        found.starts_with("crashed 3 times in a row")
            && found.contains(", since 2")
            && remedy.contains("hostctl vm logs one")
    }));
    done(&lab, &["down"]);
}
