//! `hostctl audit --watch`: what somebody changes is told of, and with
//! `--repair` put back.

use std::time::{Duration, Instant};

use crate::support::lab::Lab;
use crate::support::running_hostctl::{RunningHostctl, SOON};
use crate::support::spec_parts::{idle_vms, namespace, network, wide_network};
use hostctl::host::Events;
use hostctl::testbed::Options;
use serde_json::Value;

const SPEC: &str = concat!(
    network!("a" 1),
    wide_network!("prod" 20),
    namespace!("public" "prod" / "web" "10.20.1.0/24"),
    idle_vms!("a1" in "a"),
);

/// The program, watching the lab's host.
struct Watching(RunningHostctl);

impl Watching {
    /// Starts it with a poll so rare that only events can be the cause.
    fn start(lab: &Lab, more: &[&str]) -> Self {
        let watching = RunningHostctl::start(lab, &[&["audit", "--watch"], more].concat());
        let first = watching.event("watching");
        assert_eq!(first["generation"], 1, "{first}");
        Self(watching)
    }

    fn drift(&self, event: &str, object: &str) -> Value {
        self.0.until(|news| news["event"] == event && news["finding"]["object"] == object)
    }
}

const MEDDLE: [(&str, &str, &str); 7] = [
    ("element", "nft delete element bridge hostctl ports { vm-a1 }", "element of set bridge hostctl ports"),
    ("port", "bridge link set dev vm-a1 isolated off", "isolation of vm-a1"),
    ("address", "ip address del 10.1.0.1/24 dev br-a", "address 10.1.0.1/24 of br-a"),
    ("setting", "sysctl -qw net.ipv4.conf.br-a.forwarding=0", "sysctl net/ipv4/conf/br-a/forwarding"),
    ("route", "ip -n prod-web route del default", "route to 0.0.0.0/0 in namespace prod-web"),
    ("table", "nft delete table bridge hostctl", "table bridge hostctl"),
    ("ruleset", "nft flush ruleset", "table inet hostctl"),
];

#[test]
fn what_changes_is_told_of_and_again_when_it_is_gone() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let watching = Watching::start(&lab, &["--interval", "10min"]);
    for (what, command, object) in MEDDLE {
        let began = Instant::now();
        lab.run_line(command);
        let news = watching.drift("appeared", object);
        println!("{what}: told of after {:?}", began.elapsed());
        assert_eq!(news["finding"]["kind"], "drift");
        assert!(news["at"].as_str().unwrap().ends_with('Z'), "{news}");
        lab.apply(SPEC);
        watching.drift("vanished", object);
    }
    // An apply that is under way is nobody's drift, and its result is what the
    // next audit compares with.
    let wider = format!("{SPEC}\n[networks.new]\ncidr = \"10.9.0.0/24\"\n");
    lab.apply(&wider);
    lab.run_line("ip link set br-new down");
    let news = watching.0.until(|news| news["finding"]["kind"] == "drift");
    assert_eq!((&news["event"], &news["finding"]["object"]), (&"appeared".into(), &"state of br-new".into()));
}

#[test]
fn what_the_kernel_doesnt_tell_of_is_found_by_the_next_look() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let watching = Watching::start(&lab, &["--interval", "1s"]);
    for (command, object) in [
        (
            "sysctl -qw net.ipv4.conf.br-a.accept_source_route=1",
            "sysctl net/ipv4/conf/br-a/accept_source_route",
        ),
        ("ip neigh del proxy fd00:0:0:1::2 dev br-a", "proxy entry fd00:0:0:1::2 of br-a"),
    ] {
        lab.run_line(command);
        watching.drift("appeared", object);
    }
}

#[test]
fn with_repair_it_is_put_back() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let watching = Watching::start(&lab, &["--repair", "--interval", "10min"]);
    // One after the other is no fight yet.
    for (what, command, object) in [MEDDLE[1], MEDDLE[6]] {
        let began = Instant::now();
        lab.run_line(command);
        watching.drift("appeared", object);
        watching.0.until(|news| news["event"] == "repaired" && news["steps"].as_u64() > Some(0));
        println!("{what}: put back after {:?}", began.elapsed());
        watching.drift("vanished", object);
        assert_eq!(lab.status().drift, Vec::<String>::new());
    }
    assert_eq!(lab.status().generation, Some(1), "a repair is no new generation");
}

/// A program that takes down what hostctl sets up is answered ever later.
#[test]
fn a_fight_is_bounded_and_said() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let watching = Watching::start(&lab, &["--repair", "--interval", "10min"]);
    let object = "state of br-a";
    for round in 1..=3 {
        lab.run_line("ip link set br-a down");
        watching.drift("appeared", object);
        watching.0.until(|news| news["event"] == "repaired");
        if round < 3 {
            watching.drift("vanished", object);
        }
    }
    let paused = watching.0.until(|news| news["event"] == "paused");
    assert_eq!((paused["repairs"].as_u64(), paused["seconds"].as_u64()), (Some(3), Some(1)), "{paused}");
}

/// The kernel drops what nobody reads in time, and says only that it did.
#[test]
fn an_overrun_is_a_change_too() {
    let lab = Lab::new(Options::default());
    let (host, lab) = (&lab.world.hypervisor, &lab);
    let (overruns, quiet) = host
        .block_on(|| async move {
            let mut events = Events::open().unwrap();
            events.shrink().unwrap();
            for number in 0..64 {
                lab.output("nft", &[&format!("add table ip t{number}")]);
            }
            let mut changes = 0;
            while tokio::time::timeout(Duration::from_millis(500), events.changed()).await.is_ok() {
                changes += 1;
                assert!(changes < 1000, "a socket that overran once must not be ready for ever");
            }
            // And it hears of the next change as before.
            let overruns = events.overruns();
            lab.output("ip", &["link", "set", "lo", "down"]);
            let next = tokio::time::timeout(SOON, events.changed()).await;
            (overruns, next.is_ok())
        })
        .unwrap();
    assert!(overruns > 0 && quiet, "{overruns} overruns");
}
