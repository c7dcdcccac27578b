//! The units under a real systemd: they do their work within the settings that
//! confine them, and what happens to one leaves the others' guests alone.

use std::time::Duration;

use crate::support::spec_parts::{namespace, subnet, wide_network};
use crate::support::systemd_host::Systemd;
use hostctl::firewall::probe_guard;
use hostctl::testbed::http_get;
use serde_json::Value;

const SPEC: &str = concat!(
    wide_network!("prod" 20 "fd00:0:0:20::/64"),
    namespace!("public" "prod" / "web" "10.20.1.0/24" "fd00:0:0:20:1::/80"),
    subnet!("public" "prod" / "vms" "10.20.2.0/24"),
    r#"[apps.hello]
network = "prod"
subnet = "web"
webserver = { port = 80, greeting = "hello from prod" }
[vms.one]
network = "prod"
subnet = "vms"
image = "probe"
memory = "128M"
accel = "tcg"
supervisor = "unit"
"#
);

fn guest(systemd: &Systemd) -> (String, u64) {
    let list: Value = serde_json::from_str(&systemd.hostctl(&["--json", "vm", "list"])).unwrap();
    let guest = &list.as_array().unwrap()[0];
    (guest["state"].as_str().unwrap().into(), guest["pid"].as_u64().unwrap_or(0))
}

fn tables(systemd: &Systemd) -> String {
    systemd.lab.output("nft", &["list", "tables"])
}

const BOTH: &str = "table bridge hostctl\ntable inet hostctl\n";

#[test]
fn a_host_boots_is_edited_and_upgraded_by_its_units() {
    let systemd = match Systemd::new() {
        Ok(systemd) => systemd,
        Err(reason) => return eprintln!("skipped: a systemd of the test's own can't be had: {reason}"),
    };
    systemd.write_spec(SPEC);
    let before = systemd.lab.output("ip", &["-br", "link"]);

    // Boot: the firewall alone, then the rest, then the guest.
    systemd.does(&["start", "hostctl-firewall.service"]);
    assert_eq!(tables(&systemd), BOTH);
    assert_eq!(systemd.lab.output("ip", &["-br", "link"]), before);
    systemd.does(&["start", "hostctl.service"]);
    assert!(systemd.log().contains("left to their units: systemctl start hostctl-vm@one.service"));
    // The namespace that the unit made is everybody's.
    let address = systemd.lab.output("ip", &["netns", "exec", "prod-web", "ip", "-br", "address"]);
    assert!(address.contains("10.20.1.2/24"), "{address}");
    let hello = || {
        let page = http_get(
            &systemd.lab.world.hypervisor,
            "10.20.1.2:80".parse().unwrap(),
            "/",
            Duration::from_secs(5),
        );
        page.is_ok_and(|page| page.contains("hello from prod"))
    };
    systemd.until("the app serves", hello);
    systemd.does(&["start", "hostctl-vm@one.service"]);
    assert_eq!(systemd.show("hostctl-vm@one.service", "ActiveState"), "active");
    systemd.until("the guest is ready", || guest(&systemd).0 == "ready");
    let (_, pid) = guest(&systemd);
    systemd.until("systemd knows", || systemd.show("hostctl-vm@one.service", "StatusText") == "ready");

    // Whatever nftables.service does, the rules are there: nobody takes them, also
    // while their holder is away.
    let held = probe_guard().is_ok();
    if held {
        let holder = systemd.show("hostctl-hold.service", "MainPID");
        systemd.does(&["kill", "--signal", "KILL", "--kill-who", "main", "hostctl-hold.service"]);
        systemd.lab.output("nft", &["flush", "ruleset"]);
        assert_eq!(tables(&systemd), BOTH);
        systemd.until("there is another holder", || {
            let now = systemd.show("hostctl-hold.service", "MainPID");
            now != "0" && now != holder && systemd.show("hostctl-hold.service", "ActiveState") == "active"
        });
        systemd.lab.output("nft", &["flush", "ruleset"]);
        assert_eq!(tables(&systemd), BOTH);
        assert!(systemd.hostctl(&["status"]).contains("flush by others: held"));
    } else {
        eprintln!("not shown here, where tables can't be held: that they stay");
    }
    systemd.does(&["start", "nftables.service"]);
    for verb in ["reload", "restart", "stop"] {
        let drift = || systemd.lab.status().drift;
        systemd.until("the rules are there", || drift().is_empty());
        systemd.does(&[verb, "nftables.service"]);
        systemd.until(&format!("the rules are back after {verb}"), || {
            tables(&systemd) == BOTH && drift().is_empty()
        });
    }

    // What opens the host is said.
    systemd.does(&["start", "hostctl-audit.service"]);
    systemd.until("the audit looked", || systemd.show("hostctl-audit.service", "SubState") == "running");
    systemd.lab.output("bridge", &["link", "set", "dev", "vm-one", "isolated", "off"]);
    systemd.until("the audit saw it", || systemd.log().contains("critical"));
    systemd.does(&["stop", "hostctl-audit.service"]);
    systemd.does(&["restart", "hostctl-firewall.service"]);
    systemd.does(&["reload", "hostctl.service"]);
    assert!(systemd.lab.status().drift.is_empty());

    // Supervisors come and go, guest and app stay.
    systemd.does(&["kill", "--signal", "KILL", "--kill-who", "main", "hostctl-vm@one.service"]);
    systemd.until("the next supervisor has it", || {
        systemd.show("hostctl-vm@one.service", "NRestarts") == "1" && guest(&systemd) == ("ready".into(), pid)
    });
    for arguments in [
        ["restart", "hostctl.service"],
        ["restart", "hostctl-firewall.service"],
        ["reload", "hostctl.service"],
    ] {
        systemd.does(&arguments);
        assert_eq!(guest(&systemd), ("ready".to_string(), pid), "{arguments:?}");
        assert!(hello(), "{arguments:?}");
    }
    assert_eq!(systemd.show("hostctl-vm@one.service", "ActiveState"), "active");

    // Another machine: it goes on as it is until somebody lets it be started again.
    systemd.write_spec(&SPEC.replace("128M", "144M"));
    systemd.does(&["reload", "hostctl.service"]);
    assert_eq!(guest(&systemd), ("ready".to_string(), pid));
    assert!(systemd.log().contains("(systemctl restart hostctl-vm@one.service)"));
    systemd.does(&["restart", "hostctl-vm@one.service"]);
    systemd.until("the guest is ready", || guest(&systemd).0 == "ready");
    let (_, again) = guest(&systemd);
    assert_ne!(again, pid);
    let pid = again;
    // By apply it is stopped, and its unit starts it.
    systemd.write_spec(SPEC);
    systemd.hostctl(&["apply", "--restart"]);
    systemd.until("the unit is down", || systemd.show("hostctl-vm@one.service", "ActiveState") == "inactive");
    assert_eq!(guest(&systemd), ("stopped".to_string(), 0));
    let up = systemd.lab.hostctl(&["vm", "up", "one"]);
    let error = String::from_utf8_lossy(&up.stderr);
    assert!(error.contains("one is its unit's to start: systemctl start hostctl-vm@one.service"), "{error}");
    systemd.does(&["start", "hostctl-vm@one.service"]);
    assert_ne!(guest(&systemd).1, pid);
    assert_eq!(systemd.show("hostctl-vm@one.service", "NRestarts"), "0");
    systemd.hostctl(&["vm", "down", "one", "--timeout", "0"]);
    systemd.until("the unit is down", || systemd.show("hostctl-vm@one.service", "ActiveState") == "inactive");
    assert_eq!(systemd.show("hostctl-vm@one.service", "Result"), "success");
    assert_eq!(guest(&systemd), ("stopped".to_string(), 0));

    // Units that stop leave the host guarded.
    systemd.does(&["stop", "hostctl.service", "hostctl-firewall.service"]);
    assert_eq!(tables(&systemd), BOTH);
    assert!(hello());
}
