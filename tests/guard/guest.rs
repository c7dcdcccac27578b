//! A real guest with a header: its bytes come and go whole over both families,
//! and what it has is told.

use std::time::Instant;

use hostctl::testbed::Options;
use serde_json::Value;

use crate::support::commands::{done, json, write};
use crate::support::lab::Lab;
use crate::support::spec_parts::network;

const SPEC: &str = concat!(
    network!("prod" 20),
    "[vms.fast]\nnetwork = \"prod\"\nimage = \"probe\"\nmemory = \"128M\"\naccel = \"tcg\"\n",
    "[vms.plain]\nnetwork = \"prod\"\nimage = \"probe\"\nmemory = \"128M\"\naccel = \"tcg\"\noffload = false\n",
);

#[test]
fn bytes_of_a_real_guest_come_and_go_whole_by_both_families() {
    let lab = Lab::new(Options::default()).with_images();
    write(&lab, SPEC);
    done(&lab, &["apply"]);
    for name in ["fast", "plain"] {
        done(&lab, &["vm", "up", name]);
    }
    let offload = |name: &str| json(&lab, &["vm", "show", name])["status"]["card"]["offload"].clone();
    assert_eq!([offload("fast"), offload("plain")], [Value::Bool(true), Value::Bool(false)]);
    let shown = done(&lab, &["vm", "show", "fast"]);
    assert!(shown.contains("offload    on (a guard judges what the guest asks for)"), "{shown}");
    assert!(done(&lab, &["vm", "show", "plain"]).contains("offload    off (the host spec says so)"));
    for (name, header) in [("fast", true), ("plain", false)] {
        let link = lab.output("ip", &["-d", "link", "show", &format!("vm-{name}")]);
        assert_eq!(link.contains("vnet_hdr on"), header, "{link}");
    }
    assert_eq!(done(&lab, &["apply"]), "nothing to do\n");

    for (server, client, addresses) in [
        ("fast", "plain", ["10.20.0.2", "fd00:0:0:20::2"]),
        ("plain", "fast", ["10.20.0.3", "fd00:0:0:20::3"]),
    ] {
        addresses.into_iter().for_each(|address| transfer(&lab, server, client, address));
    }
    // Nothing of it was refused by the guard.
    let counted = lab.run_line("tc -s qdisc show dev vm-fast clsact");
    assert!(counted.contains("dropped 0,"), "{counted}");
    assert!(!lab.audit().has_drift(), "{:?}", lab.audit().findings);
    // What it was started with is said where the spec says something else now.
    write(&lab, &SPEC.replace("[vms.fast]\n", "[vms.fast]\noffload = false\n"));
    done(&lab, &["apply"]);
    let pending = json(&lab, &["vm", "show", "fast"])["pending"].clone();
    assert_eq!(pending[0]["key"], "offload", "{pending}");
    done(&lab, &["vm", "restart", "fast"]);
    assert_eq!(offload("fast"), Value::Bool(false));
}

/// Sends 6 MiB from one guest to another by busybox, and compares the sums.
fn transfer(lab: &Lab, server: &str, client: &str, to: &str) {
    let begun = Instant::now();
    // A listener whose input ends would end the connection.
    let listen = "rm -f /run/sum /run/open; mkfifo /run/open; \
                  { nc -l -p 9000 0<>/run/open | md5sum > /run/part; mv /run/part /run/sum; } >/dev/null 2>&1 & sleep 1";
    done(lab, &["vm", "exec", server, "--", "sh", "-c", listen]);
    let send = format!(
        "dd if=/dev/urandom of=/run/all bs=65536 count=96 2>/dev/null; nc {to} 9000 < /run/all; md5sum < /run/all"
    );
    let sent = done(lab, &["vm", "exec", client, "--", "sh", "-c", &send]);
    let wait = "while ! [ -s /run/sum ]; do sleep 1; done; cat /run/sum";
    let received = done(lab, &["vm", "exec", server, "--", "sh", "-c", wait]);
    assert_eq!(received, sent, "{client} -> {server} {to}");
    eprintln!("{client} -> {server} {to}: {:?}", begun.elapsed());
}
