//! An apply that nobody confirms is taken back: by its watchdog, and where
//! that is gone, by the next command.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use crate::support::commands::{code, done, json, killed_at, links, refused, run, write};
use crate::support::lab::Lab;
use crate::support::processes::until;
use hostctl::testbed::{Connection, Options, Service, address};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const OLD: &str = "[networks.a]\ncidr = \"10.1.0.0/24\"\n";
const NEW: &str = "[networks.a]\ncidr = \"10.1.0.0/24\"\n[networks.b]\ncidr = \"10.2.0.0/24\"\n";
const OTHER: &str = "[networks.a]\ncidr = \"10.1.0.0/24\"\n[networks.c]\ncidr = \"10.3.0.0/24\"\n";

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(60);

/// What is written down of it: `waiting`, `rejected` or nothing.
fn record(lab: &Lab) -> String {
    let text = fs::read_to_string(lab.host.root.state().join("unconfirmed.json")).unwrap_or_default();
    let parsed: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    parsed.and_then(|value| Some(value.as_object()?.keys().next()?.clone())).unwrap_or_default()
}

fn watchdog(lab: &Lab) -> Option<Pid> {
    let text = fs::read_to_string(lab.host.root.run().join("confirm/lock")).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

/// Kills the watchdog and waits until it is gone.
fn kill_watchdog(lab: &Lab) {
    let pid = watchdog(lab).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    until("killed", || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")));
}

/// A host whose generation 2 waits for a confirmation.
fn unconfirmed() -> Lab {
    let lab = Lab::of_ipv4();
    write(&lab, OLD);
    done(&lab, &["apply"]);
    write(&lab, NEW);
    done(&lab, &["apply", "--confirm", "1h"]);
    lab
}

#[test]
fn an_operator_who_cut_their_own_session_gets_the_host_back() {
    let lab = Lab::new(Options::default());
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 22);
    let _sshd = Service::tcp(&lab.world.hypervisor, "sshd", any).unwrap();
    write(&lab, OLD);
    done(&lab, &["apply"]);
    let targets = [(address::UPLINK, 22).into(), (address::UPLINK6, 22).into()];
    let open = |target: SocketAddr| Connection::open(&lab.world.internet, target, SHORT);
    let mut sessions = targets.map(|target| open(target).unwrap());
    assert!(sessions.iter_mut().all(|session| session.still_alive(SHORT)));

    // SSH isn't among what is open: the session is cut, and so is everything
    // that was started from it.
    let closed = "[host]\nfirewall = \"full\"\nallow_input = [{ port = 443, protocol = \"tcp\" }]\n";
    write(&lab, &format!("{closed}{OLD}"));
    let root = lab.root_dir();
    let (output, group) = lab.world.hypervisor.run(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
        command.arg("--root-dir").arg(root).args(["apply", "--confirm", "6s"]).process_group(0);
        let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        (child.wait_with_output().unwrap(), group)
    });
    assert!(kill_process_group(group, Signal::KILL).is_err(), "nobody is left of the session");
    let (code, text) = code(output);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("generation 2 is unconfirmed, reverts in 6 s to generation 1"), "{text}");
    for session in &mut sessions {
        assert!(!session.still_alive(SHORT));
    }
    assert!(targets.iter().all(|target| open(*target).is_err()));
    assert_eq!(record(&lab), "waiting", "it was probed in time");
    let status = done(&lab, &["status"]);
    assert!(status.contains("generation 2 is unconfirmed, reverts in "), "{status}");
    let list = done(&lab, &["generations"]);
    assert!(list.contains("current, unconfirmed, reverts in "), "{list}");

    until("returned", || record(&lab) == "rejected");
    // The same connection goes on, and new ones are let in.
    for session in &mut sessions {
        assert!(session.still_alive(LONG));
    }
    assert!(targets.iter().all(|target| open(*target).is_ok()));
    let list = json(&lab, &["generations"]);
    assert_eq!(list[2]["command"], "generation 2 wasn't confirmed");
    assert_eq!((&list[2]["from"], &list[2]["current"]), (&1.into(), &true.into()));
    assert!(lab.status().drift.is_empty());
    until("ended", || watchdog(&lab).is_none());
}

#[test]
fn what_is_confirmed_stays() {
    let lab = Lab::of_ipv4();
    refused(&lab, &["confirm"], 1, "nothing to confirm");
    write(&lab, OLD);
    done(&lab, &["apply"]);
    // Nothing that changes nothing has to be confirmed.
    assert_eq!(done(&lab, &["apply", "--confirm", "1h"]), "nothing to do\n");
    assert_eq!(record(&lab), "");
    write(&lab, NEW);
    done(&lab, &["apply", "--confirm", "1h"]);
    assert_eq!(done(&lab, &["confirm"]), "generation 2 is confirmed\n");
    until("ended", || watchdog(&lab).is_none());
    assert!(links(&lab).contains("br-b"));
    assert_eq!(json(&lab, &["status"])["unconfirmed"], serde_json::Value::Null);
    assert_eq!(done(&lab, &["apply"]), "nothing to do\n");
    for time in ["0s", "2days", "soon"] {
        assert_eq!(run(&lab, &["apply", "--confirm", time]).0, 2);
    }
}

#[test]
fn nothing_is_built_on_what_is_unconfirmed() {
    let lab = unconfirmed();
    let first = watchdog(&lab);
    refused(&lab, &["apply"], 4, "generation 2 isn't confirmed yet");
    refused(&lab, &["vpc", "create", "--name", "d", "--cidr", "10.4.0.0/24"], 4, "hostctl confirm keeps it");
    // Another try takes its place, and returns to what was confirmed.
    write(&lab, OTHER);
    let told = done(&lab, &["apply", "--confirm", "1h"]);
    assert!(told.contains("generation 3 is unconfirmed, reverts in 3600 s to generation 1"), "{told}");
    assert_eq!(watchdog(&lab), first, "one watchdog is enough");
    let planned = done(&lab, &["rollback", "--dry-run"]);
    assert!(planned.contains("to generation 1") && planned.contains("ip link del br-c"), "{planned}");
    done(&lab, &["rollback"]);
    let now = links(&lab);
    assert!(!now.contains("br-b") && !now.contains("br-c"), "{now}");
    until("ended", || watchdog(&lab).is_none());

    // What was taken back isn't applied again by whoever comes next.
    refused(&lab, &["confirm"], 1, "too late");
    refused(&lab, &["apply"], 5, "the spec is that of generation 3, which wasn't confirmed");
    refused(&lab, &["vpc", "create", "--name", "d", "--cidr", "10.4.0.0/24"], 5, "wasn't confirmed");
    assert!(done(&lab, &["status"]).contains("wasn't confirmed: the host stays as it was"));
    // Another spec is; and so is the same, with somebody there.
    write(&lab, NEW);
    done(&lab, &["apply"]);
    assert_eq!(record(&lab), "");
    write(&lab, OTHER);
    done(&lab, &["apply", "--confirm", "1h"]);
    done(&lab, &["confirm"]);
    assert!(links(&lab).contains("br-c"));
}

#[test]
fn a_watchdog_that_is_killed_is_missed() {
    let lab = unconfirmed();
    kill_watchdog(&lab);
    let status = done(&lab, &["status"]);
    assert!(status.contains("no process waits for the confirmation any more"), "{status}");
    // Another try has one again.
    done(&lab, &["apply", "--confirm", "1s"]);
    kill_watchdog(&lab);
    assert!(links(&lab).contains("br-b"));
    until("over", || json(&lab, &["status"])["unconfirmed"]["seconds"] == 0);
    let status = done(&lab, &["status"]);
    assert!(status.contains("the time is over: hostctl apply returns"), "{status}");
    refused(&lab, &["confirm"], 1, "too late");
    assert!(links(&lab).contains("br-b"));
    refused(&lab, &["apply"], 5, "generation 2, which wasn't confirmed");
    assert!(!links(&lab).contains("br-b"));
    assert!(lab.status().drift.is_empty());
    // A spec that is mended in the meantime is applied then and there.
    write(&lab, NEW);
    done(&lab, &["apply", "--confirm", "1s"]);
    kill_watchdog(&lab);
    write(&lab, OTHER);
    until("over", || json(&lab, &["status"])["unconfirmed"]["seconds"] == 0);
    done(&lab, &["apply"]);
    let now = links(&lab);
    assert!(!now.contains("br-b") && now.contains("br-c"), "{now}");
}

#[test]
fn a_reboot_is_nobodys_confirmation() {
    let lab = unconfirmed();
    kill_watchdog(&lab);
    // Nothing is left but what lies on the disk, and it is another boot.
    for name in ["br-a", "br-b"] {
        lab.output("ip", &["link", "del", name]);
    }
    lab.output("nft", &["flush", "ruleset"]);
    fs::remove_dir_all(lab.host.root.run()).unwrap();
    let path = lab.host.root.state().join("unconfirmed.json");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(boot.trim()));
    fs::write(&path, text.replace(boot.trim(), "another")).unwrap();
    assert!(done(&lab, &["status"]).contains("reverts in 0 s to generation 1"));
    // What boots the host applies what was confirmed, now and the next time;
    // the firewall too, which comes before the rest.
    done(&lab, &["apply", "--firewall-only"]);
    let rules = lab.output("nft", &["list", "ruleset"]);
    assert!(rules.contains("br-a") && !rules.contains("br-b"), "{rules}");
    refused(&lab, &["apply"], 5, "generation 2, which wasn't confirmed");
    for _ in 0..2 {
        let now = links(&lab);
        assert!(now.contains("br-a") && !now.contains("br-b"), "{now}");
        assert!(lab.status().drift.is_empty());
        lab.output("ip", &["link", "del", "br-a"]);
        lab.output("nft", &["flush", "ruleset"]);
        done(&lab, &["apply", "--firewall-only"]);
        let rules = lab.output("nft", &["list", "ruleset"]);
        assert!(rules.contains("br-a") && !rules.contains("br-b"), "{rules}");
        refused(&lab, &["apply"], 5, "generation 2, which wasn't confirmed");
    }
}

#[test]
fn a_first_apply_that_nobody_confirms_leaves_nothing() {
    let lab = Lab::of_ipv4();
    write(&lab, NEW);
    let told = done(&lab, &["apply", "--confirm", "1s"]);
    assert!(told.contains("to what it was before hostctl"), "{told}");
    until("returned", || record(&lab) == "rejected");
    let rules = lab.output("nft", &["list", "ruleset"]);
    assert!(!links(&lab).contains("br-") && !rules.contains("hostctl"), "{rules}");
    refused(&lab, &["apply"], 5, "wasn't confirmed");
    assert!(!links(&lab).contains("br-"));
}

#[test]
fn an_apply_that_dies_before_it_can_be_confirmed_is_taken_back_at_once() {
    let lab = Lab::of_ipv4();
    write(&lab, OLD);
    done(&lab, &["apply"]);
    write(&lab, NEW);
    let mut killed = 0;
    for point in (3..).step_by(7) {
        let output = killed_at(&lab, point, &["apply", "--confirm", "1h"]);
        let (code, text) = code(output);
        if code.is_some() {
            break;
        }
        assert!(text.contains("killed at"), "{text}");
        if record(&lab).is_empty() {
            continue;
        }
        if lab.status().unconfirmed.is_some_and(|waiting| waiting.generation.is_some()) {
            // It was applied, and only its last words are missing.
            break;
        }
        killed += 1;
        until("returned", || record(&lab) == "rejected");
        assert!(!links(&lab).contains("br-b"), "{text}");
        assert!(lab.status().drift.is_empty(), "{text}");
    }
    assert!(killed > 2, "{killed}");
    done(&lab, &["confirm"]);
    assert!(links(&lab).contains("br-b"));
}
