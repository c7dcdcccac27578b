//! `apply --firewall-only`: what a host is like before its network is up, and
//! after somebody flushed its rules.

use std::fs;
use std::time::Duration;

use crate::support::lab::Lab;
use crate::support::spec_parts::{idle_vms, network, network4, tailnet};
use hostctl::testbed::{Connection, Options, Service, address};

const SECOND: Duration = Duration::from_secs(1);

const SPEC: &str =
    concat!(tailnet!(), network!("a" 1), "tailscale = true\n", network4!("b" 2), idle_vms!("a1" in "a"),);

const SWITCHES: [&str; 5] = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/uplink0/forwarding",
    "net/ipv4/conf/tailscale0/forwarding",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/uplink0/accept_ra",
];

fn switches(lab: &Lab) -> Vec<String> {
    SWITCHES.iter().map(|key| lab.world.hypervisor.sysctl_get(key).unwrap()).collect()
}

/// Runs the program on a spec: exit code, standard output, standard error.
fn run(lab: &Lab, arguments: &[&str], spec: &str) -> (Option<i32>, String, String) {
    let file = lab.root_dir().join("host.toml");
    fs::write(&file, spec).unwrap();
    let output = lab.hostctl(&[arguments, &[file.to_str().unwrap()]].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn firewall_only(lab: &Lab, spec: &str) -> String {
    let (code, stdout, stderr) = run(lab, &["apply", "--firewall-only"], spec);
    assert_eq!(code, Some(0), "{stderr}");
    stdout
}

fn apply(lab: &Lab, spec: &str) -> String {
    let (code, stdout, stderr) = run(lab, &["apply"], spec);
    assert_eq!(code, Some(0), "{stderr}");
    stdout
}

fn set(lab: &Lab, name: &str) -> Vec<String> {
    let text = lab.output("nft", &["list", "set", "inet", "hostctl", name]);
    let elements = text.split_once("elements = {").map_or("", |(_, rest)| rest.split('}').next().unwrap());
    let names = elements.split(',').map(|name| name.trim().trim_matches('"').to_string());
    let mut names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    names.sort();
    names
}

/// Takes the default routes away, as before the network is up; gives them back
/// when it is called.
fn unplugged(lab: &Lab) -> impl Fn() {
    let routes = [
        ("-4", lab.output("ip", &["-4", "route", "show", "default"])),
        ("-6", lab.output("ip", &["-6", "route", "show", "default"])),
    ];
    for (family, _) in &routes {
        lab.output("ip", &[*family, "route", "del", "default"]);
    }
    move || {
        for (family, route) in &routes {
            let words: Vec<&str> = route.split_whitespace().take_while(|word| *word != "proto").collect();
            let words: Vec<&str> = words.into_iter().take(5).collect();
            lab.output("ip", &[&[*family, "route", "add"], words.as_slice()].concat());
        }
    }
}

#[test]
fn at_boot_it_loads_the_rules_and_turns_nothing_on() {
    let lab = Lab::new(Options::default());
    lab.world.hypervisor.sysctl_set("net/ipv6/conf/uplink0/accept_ra", "1").unwrap();
    let plug_in = unplugged(&lab);
    let before = switches(&lab);
    let links = lab.output("ip", &["-br", "link"]);
    assert_eq!(firewall_only(&lab, SPEC), "done: 2 steps\n");
    assert_eq!(firewall_only(&lab, SPEC), "nothing to do\n");
    assert_eq!(lab.output("ip", &["-br", "link"]), links);
    assert_eq!(switches(&lab), before);
    let tables = lab.output("nft", &["list", "tables"]);
    assert_eq!(tables, "table bridge hostctl\ntable inet hostctl\n");
    assert_eq!(set(&lab, "bridges"), ["br-a", "br-b"]);
    for turned_on in ["opened", "closed", "uplinks"] {
        assert_eq!(set(&lab, turned_on), [""; 0], "{turned_on}");
    }
    assert!(!lab.host.root.state().join("generations").exists());

    // Then the network comes up, and the rest is a difference of elements.
    plug_in();
    let (code, _, steps) = run(&lab, &["apply"], SPEC);
    assert_eq!(code, Some(0), "{steps}");
    assert!(!steps.contains("hostctl render"), "{steps}");
    assert_eq!(switches(&lab), ["0", "1", "1", "1", "2"]);
    assert_eq!(set(&lab, "opened"), ["tailscale0", "uplink0"]);
    assert_eq!(set(&lab, "closed"), ["ipv6"]);
    assert_eq!(lab.status().drift, Vec::<String>::new());
    assert_eq!(firewall_only(&lab, SPEC), "nothing to do\n");
    lab.down();
    assert_eq!(switches(&lab), before);
    assert_eq!(lab.output("nft", &["list", "tables"]), "");
}

#[test]
fn what_the_operator_turned_on_meanwhile_is_never_turned_off() {
    let lab = Lab::new(Options::default());
    firewall_only(&lab, SPEC);
    lab.world.hypervisor.sysctl_set("net/ipv4/conf/uplink0/forwarding", "1").unwrap();
    lab.world.hypervisor.sysctl_set("net/ipv6/conf/all/forwarding", "1").unwrap();
    let before = switches(&lab);
    apply(&lab, SPEC);
    assert_eq!(set(&lab, "opened"), ["tailscale0"]);
    assert_eq!(set(&lab, "closed"), [""; 0]);
    lab.down();
    assert_eq!(switches(&lab), before);
}

#[test]
fn after_a_flush_it_restores_the_rules_and_what_they_remember() {
    let lab = Lab::new(Options::default());
    let before = switches(&lab);
    apply(&lab, SPEC);
    let rules = lab.output("nft", &["list", "ruleset"]);
    for _ in 0..2 {
        lab.output("nft", &["flush", "ruleset"]);
        assert_eq!(firewall_only(&lab, SPEC), "done: 2 steps\n");
        let counted =
            |text: &str| text.split_whitespace().filter(|word| word.parse::<u64>().is_err()).count();
        let loaded = lab.output("nft", &["list", "ruleset"]);
        assert_eq!(counted(&loaded), counted(&rules));
        assert_eq!(set(&lab, "opened"), ["tailscale0", "uplink0"]);
    }
    assert_eq!(lab.status().drift, Vec::<String>::new());
    lab.down();
    assert_eq!(switches(&lab), before);
}

#[test]
fn an_edited_spec_is_enforced_before_its_links_are() {
    let lab = Lab::new(Options::default());
    apply(&lab, SPEC);
    let a1 = lab.guest(SPEC, "a1");
    let mut out = Connection::open(a1.netns(), (address::FAR, 80).into(), SECOND).unwrap();
    let mut tailnet = Connection::open(&lab.world.laptop, (a1.v4, 80).into(), SECOND).unwrap();
    let edited = SPEC.replace("tailscale = true", "").replace("10.2.0.0/24", "10.7.0.0/24");
    firewall_only(&lab, &edited);
    assert!(!tailnet.still_alive(SECOND), "the tailnet may not come in any more");
    assert!(out.still_alive(SECOND));
    assert!(lab.output("ip", &["-br", "address"]).contains("10.2.0.1/24"), "links are left alone");
    assert_eq!(lab.status().generation, Some(1));
    apply(&lab, &edited);
    assert!(lab.status().drift.is_empty());
    assert!(out.still_alive(SECOND));
}

#[test]
fn an_operators_connection_survives_it() {
    let lab = Lab::new(Options::default());
    let ssh = (address::UPLINK, 22).into();
    let _sshd = Service::tcp(&lab.world.hypervisor, "sshd", "[::]:22".parse().unwrap()).unwrap();
    let mut before = Connection::open(&lab.world.internet, ssh, SECOND).unwrap();
    firewall_only(&lab, SPEC);
    assert!(before.still_alive(SECOND));
    Connection::open(&lab.world.internet, ssh, SECOND).unwrap();
    // Also where the spec is refused, and there is nothing to fall back on.
    lab.down();
    let (code, _, _) = run(&lab, &["apply", "--firewall-only"], "[networks.a]\n");
    assert_eq!(code, Some(3));
    assert!(before.still_alive(SECOND));
    Connection::open(&lab.world.internet, ssh, SECOND).unwrap();
    // A host that shuts itself keeps the port that it opens.
    let full = "[host]\nfirewall = \"full\"\nallow_input = [{ port = 22, protocol = \"tcp\" }]\n";
    firewall_only(&lab, &format!("{full}{SPEC}"));
    assert!(before.still_alive(SECOND));
    Connection::open(&lab.world.internet, ssh, SECOND).unwrap();
}

#[test]
fn a_refused_spec_leaves_the_last_generations_firewall() {
    let lab = Lab::new(Options::default());
    let broken = SPEC.replace("10.2.0.0/24", "10.1.0.0/25");
    // Before anything was applied, there is nothing to guard.
    let (code, _, stderr) = run(&lab, &["apply", "--firewall-only"], &broken);
    assert_eq!(code, Some(3), "{stderr}");
    let nothing =
        "note: There is no firewall (nothing was applied yet), and no network of hostctl's is up.\n";
    assert!(stderr.starts_with(nothing) && stderr.contains("host.toml:8:8: error: 10.1.0.0/25"), "{stderr}");

    apply(&lab, SPEC);
    let elements = set(&lab, "bridges");
    lab.output("nft", &["flush", "ruleset"]);
    let (code, _, stderr) = run(&lab, &["apply", "--firewall-only"], &broken);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("note: The firewall is that of generation 1.\n"), "{stderr}");
    assert_eq!(set(&lab, "bridges"), elements);
    assert_eq!(lab.status().drift, Vec::<String>::new());
    let log = fs::read_to_string(lab.host.root.state().join("hostctl.log")).unwrap();
    assert!(log.contains("apply --firewall-only: failed: "), "{log}");
}

#[test]
fn without_any_firewall_to_load_the_bridges_are_shut() {
    let lab = Lab::new(Options::default());
    let broken = "[networks.a]\n";
    apply(&lab, SPEC);
    fs::write(lab.host.root.state().join("generations/1.json"), "{").unwrap();
    // While the rules are there they guard the host.
    let (code, _, stderr) = run(&lab, &["apply", "--firewall-only"], broken);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.starts_with("note: The firewall is as it was (generation 1 can't be read "), "{stderr}");
    let up = || lab.output("ip", &["-br", "link", "show", "up", "type", "bridge"]).lines().count();
    assert_eq!(up(), 2);
    lab.output("nft", &["flush", "ruleset"]);
    let (code, _, stderr) = run(&lab, &["apply", "--firewall-only"], broken);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("so hostctl's bridges were shut down (2)"), "{stderr}");
    assert_eq!(up(), 0);
    // The next apply of a right spec opens them again.
    apply(&lab, SPEC);
    assert_eq!(up(), 2);
    assert_eq!(lab.status().drift, Vec::<String>::new());
}

#[test]
fn it_waits_for_another_hostctl() {
    let lab = Lab::new(Options::default());
    let lock = hostctl::host::Lock::take(&lab.host.root, "apply").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| firewall_only(&lab, SPEC));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!waiting.is_finished());
        drop(lock);
        assert_eq!(waiting.join().unwrap(), "done: 2 steps\n");
    });
}

/// The sets' elements name the networks that the loaded firewall knows.
fn networks(lab: &Lab) -> Vec<String> {
    set(lab, "bridges")
}

#[test]
fn what_nobody_confirmed_isnt_loaded_at_boot() {
    let lab = Lab::new(Options::default());
    apply(&lab, SPEC);
    let wider = format!("{SPEC}[networks.c]\ncidr = \"10.3.0.0/24\"\n");
    let (code, _, stderr) = run(&lab, &["apply", "--confirm", "1h"], &wider);
    assert_eq!(code, Some(0), "{stderr}");
    // While it may still be confirmed, it is what the host is, and nothing else is built on it.
    lab.output("nft", &["flush", "ruleset"]);
    firewall_only(&lab, &format!("{wider}[networks.d]\ncidr = \"10.4.0.0/24\"\n"));
    assert_eq!(networks(&lab), ["br-a", "br-b", "br-c"]);
    // Another boot.
    let path = lab.host.root.state().join("unconfirmed.json");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(&path, fs::read_to_string(&path).unwrap().replace(boot.trim(), "another")).unwrap();
    for _ in 0..2 {
        lab.output("nft", &["flush", "ruleset"]);
        firewall_only(&lab, &wider);
        assert_eq!(networks(&lab), ["br-a", "br-b"]);
    }
}

/// Docker comes after hostctl: it finds IPv6 forwarded, and turns IPv4 on for
/// the whole host.
#[test]
fn what_another_program_came_to_rely_on_is_left_to_it() {
    let lab = Lab::new(Options::default());
    apply(&lab, SPEC);
    assert_eq!(
        (set(&lab, "opened"), set(&lab, "closed")),
        (vec!["tailscale0".into(), "uplink0".into()], vec!["ipv6".into()])
    );
    for command in [
        "link add docker0 type bridge",
        "link set docker0 up",
        "address add 172.17.0.1/16 dev docker0",
        "address add fd00:d::1/64 dev docker0 nodad",
    ] {
        lab.output("ip", &command.split(' ').collect::<Vec<_>>());
    }
    lab.world.hypervisor.sysctl_set("net/ipv4/ip_forward", "1").unwrap();
    let audit = lab.audit();
    for family in ["IPv4", "IPv6"] {
        let object = format!("forwarding of {family}");
        let finding = audit.findings.iter().find(|finding| finding.object == object);
        assert!(finding.unwrap().found.contains("docker0"), "{finding:?}");
    }
    // From the next apply on nothing of it is dropped any more.
    apply(&lab, SPEC);
    assert_eq!((set(&lab, "opened"), set(&lab, "closed")), (vec![], vec![]));
    assert_eq!(lab.status().drift, Vec::<String>::new());
    assert!(!lab.audit().findings.iter().any(|finding| finding.object.starts_with("forwarding of")));
    let full = format!("[host]\nfirewall = \"full\"\n{SPEC}");
    apply(&lab, &full);
    let audit = lab.audit();
    assert!(audit.findings.iter().any(|finding| finding.object == "bridge docker0"), "{audit:#?}");
    let before = switches(&lab);
    lab.down();
    assert_eq!(switches(&lab)[..4], before[..4], "it stays on for the other");
}

/// Also where no apply came between.
#[test]
fn down_leaves_forwarding_on_for_who_came_later() {
    let lab = Lab::new(Options::default());
    // One that was there before did without.
    for command in
        ["link add virbr0 type bridge", "link set virbr0 up", "address add fd00:e::1/64 dev virbr0 nodad"]
    {
        lab.output("ip", &command.split(' ').collect::<Vec<_>>());
    }
    let before = switches(&lab);
    apply(&lab, SPEC);
    assert_eq!(set(&lab, "closed"), ["ipv6"]);
    lab.down();
    assert_eq!(switches(&lab), before);
    apply(&lab, SPEC);
    for command in
        ["link add docker0 type bridge", "link set docker0 up", "address add fd00:d::1/64 dev docker0 nodad"]
    {
        lab.output("ip", &command.split(' ').collect::<Vec<_>>());
    }
    lab.down();
    assert_eq!(lab.world.hypervisor.sysctl_get("net/ipv6/conf/all/forwarding").unwrap(), "1");
    assert_eq!(lab.world.hypervisor.sysctl_get("net/ipv4/conf/uplink0/forwarding").unwrap(), "0");
}
