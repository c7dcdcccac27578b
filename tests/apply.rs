//! Apply, apply again, edit, drift, down: what the kernel has after each.

use std::time::Duration;

use crate::support::lab::Lab;
use crate::support::processes::until;
use crate::support::spec_parts::{idle_vms, network, network4, tailnet};
use hostctl::host::{Host, HostError, Step, Watch};
use hostctl::testbed::{Connection, Options, Probe, address, probe};

const SECOND: Duration = Duration::from_secs(1);

const TWO: &str = concat!(
    tailnet!(),
    network!("a" 1),
    "tailscale = true\n",
    network4!("b" 2),
    idle_vms!("a1" in "a", "b1" in "b"),
);

const THIRD: &str = concat!(
    network4!("a-network-with-a-long-name" 3),
    idle_vms!("a-vm-with-a-long-name" in "a-network-with-a-long-name"),
);

fn three() -> String {
    format!("{TWO}{THIRD}")
}

/// Everything of the host's that hostctl could have touched.
fn snapshot(lab: &Lab) -> String {
    // An address has its route once it is known to be nobody else's (RFC 4862, 5.4).
    until("no address is tentative", || lab.output("ip", &["-6", "address", "show", "tentative"]).is_empty());
    let sysctls = [
        "net/ipv4/ip_forward",
        "net/ipv4/conf/uplink0/forwarding",
        "net/ipv4/conf/tailscale0/forwarding",
        "net/ipv6/conf/all/forwarding",
        "net/ipv6/conf/uplink0/accept_ra",
        "net/ipv6/conf/uplink0/forwarding",
    ];
    let sysctls = sysctls.map(|key| format!("{key}={}", lab.world.hypervisor.sysctl_get(key).unwrap()));
    let commands: [(&str, &[&str]); 5] = [
        ("ip", &["-br", "link"]),
        ("ip", &["-br", "address"]),
        ("ip", &["route", "show", "table", "all"]),
        ("ip", &["-6", "route"]),
        ("nft", &["-a", "list", "ruleset"]),
    ];
    let outputs = commands.map(|(program, arguments)| lab.output(program, arguments));
    let text = format!("{}\n{}", sysctls.join("\n"), outputs.join("\n"));
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn applying_again_changes_nothing_and_an_edit_only_what_differs() {
    let lab = Lab::new(Options::default());
    let first = lab.apply(TWO);
    assert!(first.steps.len() > 20 && first.generation == Some(1), "{first:?}");
    assert!(matches!(first.steps[0], Step::LoadFirewall { .. }), "the firewall comes first");
    let handles = || lab.output("nft", &["-a", "list", "table", "inet", "hostctl"]);
    let before = handles();
    let again = lab.apply(TWO);
    assert_eq!((again.steps.len(), again.generation), (0, Some(1)));
    assert_eq!(handles(), before);

    // One network more: its links and elements, and nothing else's.
    for command in lab.commands(&three()) {
        let about = ["long-name", "br-a-net-", "vm-a-vm-", "10.3.0", "conntrack"];
        assert!(about.iter().any(|word| command.contains(word)), "{command}");
        assert!(!command.contains("br-b") && !command.contains("vm-b1"), "{command}");
    }
    assert_eq!(lab.apply(&three()).generation, Some(2));
    let altname = lab.output("ip", &["-d", "link", "show", "br-a-network-with-a-long-name"]);
    assert!(altname.contains("alias hostctl:network:a-network-with-a-long-name"), "{altname}");
    assert!(lab.status().drift.is_empty());

    // And one less, with everything of it.
    lab.apply(TWO);
    let links = lab.output("ip", &["-br", "link"]);
    assert!(!links.contains("a-netw") && links.contains("br-b"), "{links}");
    assert!(!handles().contains("10.3.0"), "{}", handles());
    assert_eq!(lab.apply(TWO).steps, []);
}

#[test]
fn down_removes_all_of_it_and_only_it() {
    let lab = Lab::new(Options::default());
    lab.world.hypervisor.sysctl_set("net/ipv6/conf/uplink0/accept_ra", "1").unwrap();
    lab.output("nft", &["add table inet other { chain c { type filter hook forward priority 5; ip saddr 192.0.2.1 drop; }; }"]);
    lab.output("ip", &["link", "add", "br-mine", "type", "bridge"]);
    let before = snapshot(&lab);
    lab.apply(&three());
    assert_ne!(snapshot(&lab), before);
    assert_eq!(lab.world.hypervisor.sysctl_get("net/ipv6/conf/uplink0/accept_ra").unwrap(), "2");
    lab.down();
    same(&snapshot(&lab), &before);
    assert_eq!(lab.down().steps, []);
    // What was taken down is what a failed apply returns to.
    let error = lab.try_apply(TWO, &mut FailAt(9)).unwrap_err().to_string();
    assert!(error.contains("back at generation 2"), "{error}");
    assert_eq!(lab.status().networks.len(), 0);
    assert!(!lab.output("ip", &["-br", "link"]).contains("br-a"));
    lab.down();
    same(&snapshot(&lab), &before);

    // Also when nobody remembers anything.
    lab.apply(&three());
    std::fs::remove_dir_all(lab.host.root.state()).unwrap();
    std::fs::remove_dir_all(lab.host.root.run()).unwrap();
    lab.down();
    same(&snapshot(&lab), &before);
}

/// As `assert_eq!`, naming the lines that differ.
fn same(found: &str, wanted: &str) {
    let (found, wanted): (Vec<&str>, Vec<&str>) = (found.lines().collect(), wanted.lines().collect());
    let more: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).collect();
    let less: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).collect();
    assert!(more.is_empty() && less.is_empty(), "more: {more:#?}\nless: {less:#?}");
}

#[test]
fn drift_is_shown_and_repaired() {
    let lab = Lab::new(Options::default());
    lab.apply(TWO);
    let meddle: [(&str, &[&str], &str); 9] = [
        ("nft", &["insert rule inet hostctl forward accept"], "hostctl render | nft -f -"),
        (
            "nft",
            &["delete element bridge hostctl ports { vm-a1 }"],
            "nft add element bridge hostctl ports '{ vm-a1 }'",
        ),
        ("nft", &["delete table bridge hostctl"], "hostctl render | nft -f -"),
        ("ip", &["link", "del", "vm-a1"], "ip tuntap add vm-a1"),
        ("ip", &["address", "del", "10.1.0.1/24", "dev", "br-a"], "ip address add 10.1.0.1/24 dev br-a"),
        ("ip", &["address", "add", "192.0.2.1/24", "dev", "br-b"], "ip address del 192.0.2.1/24 dev br-b"),
        ("ip", &["link", "set", "vm-b1", "master", "br-a"], "ip link set vm-b1 master br-b"),
        (
            "bridge",
            &["link", "set", "dev", "vm-a1", "learning", "on"],
            "bridge link set dev vm-a1 learning off flood off",
        ),
        ("ip", &["link", "set", "br-b", "down"], "ip link set br-b up"),
    ];
    for (program, arguments, remedy) in meddle {
        lab.output(program, arguments);
        let drift = lab.status().drift;
        assert!(drift.iter().any(|step| step.contains(remedy)), "{arguments:?}: {drift:?}");
        lab.apply(TWO);
        assert_eq!(lab.status().drift, Vec::<String>::new(), "{arguments:?}");
    }
    lab.world.hypervisor.sysctl_set("net/ipv4/conf/br-a/send_redirects", "1").unwrap();
    assert_eq!(lab.status().drift, ["sysctl -w net/ipv4/conf/br-a/send_redirects=0"]);
    lab.apply(TWO);
    assert_eq!(lab.status().drift, Vec::<String>::new());
}

#[test]
fn what_others_made_is_in_the_way_and_stays() {
    let lab = Lab::new(Options::default());
    lab.output("ip", &["link", "add", "br-a", "type", "bridge"]);
    lab.output("ip", &["link", "add", "theirs", "type", "bridge"]);
    lab.output("ip", &["address", "add", "10.2.0.77/16", "dev", "theirs"]);
    let before = snapshot(&lab);
    let Err(HostError::Conflicts(conflicts)) = lab.plan(TWO) else { panic!("they are in the way") };
    let conflicts: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
    assert_eq!(
        conflicts,
        [
            "there is already a link br-a (bridge) that hostctl didn't make: rename it, or the network or VM",
            "network 10.2.0.0/24 overlaps 10.2.0.77/16 of theirs: the host could no longer reach one of the two",
        ]
    );
    assert!(lab.try_apply(TWO, &mut hostctl::host::Silent).is_err());
    assert_eq!(snapshot(&lab), before);
    let missing = lab.plan("[host]\nuplink = \"eth7\"\n[networks.c]\ncidr = \"10.9.0.0/24\"").unwrap_err();
    assert!(missing.to_string().contains("there is no interface eth7"), "{missing}");
}

#[test]
fn flows_survive_an_unrelated_apply_and_end_with_their_permission() {
    let lab = Lab::new(Options::default());
    lab.apply(TWO);
    let (a1, b1) = (lab.guest(TWO, "a1"), lab.guest(TWO, "b1"));
    let far = (address::FAR, 80).into();
    let mut of_a = Connection::open(a1.netns(), far, SECOND).unwrap();
    let mut of_b = Connection::open(b1.netns(), far, SECOND).unwrap();
    let mut from_laptop = Connection::open(&lab.world.laptop, (a1.v4, 80).into(), SECOND).unwrap();
    let mut from_host = Connection::open(&lab.world.hypervisor, (b1.v4, 80).into(), SECOND).unwrap();
    lab.apply(&three());
    for flow in [&mut of_a, &mut of_b, &mut from_laptop, &mut from_host] {
        assert!(flow.still_alive(SECOND));
    }
    // Network a becomes private, and the tailnet may no longer come in.
    let narrowed = TWO.replace(
        "tailscale = true",
        "[networks.a.subnets.only]\ncidr = \"10.1.0.0/24\"\ncidr6 = \"fd00:0:0:1::/64\"\ntype = \"private\"",
    );
    lab.apply(&narrowed);
    assert!(!of_a.still_alive(SECOND));
    assert!(!from_laptop.still_alive(SECOND));
    assert!(of_b.still_alive(SECOND));
    assert!(from_host.still_alive(SECOND));
    let entries = lab.output("conntrack", &["-L", "-s", "10.1.0.2"]);
    assert!(!entries.contains("203.0.113.1"), "{entries}");
}

/// Fails before the step with that number, as if it had failed.
struct FailAt(usize);

impl Watch for FailAt {
    fn before(&mut self, number: usize, _: usize, _: &Step) -> Result<(), HostError> {
        if number == self.0 { Err(HostError::Interrupted) } else { Ok(()) }
    }
}

/// No guest can reach another network or the host, whatever is there of links
/// and rules. Ports that aren't there yet can't be probed, and need not be.
fn assert_closed(lab: &Lab, spec: &str, at: usize) {
    let links = lab.output("ip", &["-br", "link"]);
    if !(links.contains("vm-a1 ") && links.contains("vm-b1 ")) {
        return;
    }
    let up = |name: &str| lab.output("ip", &["link", "show", name]).contains("UP");
    let attached = |name: &str| lab.output("ip", &["link", "show", name]).contains("master br-");
    if !["vm-a1", "vm-b1"].iter().all(|name| up(name) && attached(name)) {
        return;
    }
    let (a1, b1) = (lab.guest(spec, "a1"), lab.guest(spec, "b1"));
    let short = Duration::from_millis(150);
    for target in [b1.v4, address::UPLINK.into(), "10.2.0.1".parse().unwrap()] {
        let verdict = probe(a1.netns(), Probe::Icmp(target), short);
        assert!(!verdict.is_allowed(), "after a failure at step {at}: {target} {verdict:?}");
    }
}

#[test]
fn a_first_apply_that_fails_anywhere_is_closed_and_repaired_by_the_next() {
    let lab = Lab::new(Options::default());
    let total = lab.plan(TWO).unwrap().len();
    assert!(total > 20, "{total}");
    for at in 1..=total {
        let error = lab.try_apply(TWO, &mut FailAt(at)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("step {at} of {total} failed")), "{error}");
        assert!(error.contains("no earlier generation"), "{error}");
        // Nothing is forwarded that the firewall doesn't judge.
        let forwarding = lab.world.hypervisor.sysctl_get("net/ipv4/conf/uplink0/forwarding").unwrap();
        let tables = lab.output("nft", &["list", "tables"]);
        assert!(forwarding == "0" || tables.contains("inet hostctl"), "step {at}: {tables}");
        assert_eq!(
            lab.output("ip", &["-br", "link"]).contains("br-a"),
            at > 3 && tables.contains("bridge hostctl"),
            "step {at}"
        );
        assert_closed(&lab, TWO, at);
        lab.apply(TWO);
        assert_eq!(lab.plan(TWO).unwrap(), [], "after a failure at step {at}");
        lab.down();
        // As if this host had never been another.
        std::fs::remove_dir_all(lab.host.root.state()).unwrap();
    }
}

#[test]
fn an_edit_that_fails_anywhere_is_rolled_back() {
    let lab = Lab::new(Options::default());
    lab.apply(TWO);
    let edited = three().replace("10.2.0.0/24", "10.7.0.0/24");
    let total = lab.plan(&edited).unwrap().len();
    for at in 1..=total {
        let error = lab.try_apply(&edited, &mut FailAt(at)).unwrap_err().to_string();
        assert!(error.contains("back at generation 1"), "{error}");
        assert_eq!(lab.plan(TWO).unwrap(), [], "after a failure at step {at}");
        if at % 8 == 0 {
            assert_closed(&lab, TWO, at);
        }
    }
    assert_eq!(lab.apply(&edited).generation, Some(2));
}

#[test]
fn two_applies_at_once_are_one_after_the_other() {
    struct Hold<'a>(&'a Lab, bool);
    impl Watch for Hold<'_> {
        fn before(&mut self, _: usize, _: usize, _: &Step) -> Result<(), HostError> {
            if !self.1 {
                self.1 = true;
                let second = self.0.hostctl(&["down"]);
                let message = String::from_utf8(second.stderr).unwrap();
                assert_eq!(second.status.code(), Some(4), "{message}");
                assert!(message.contains("the host is being changed by hostctl apply, pid "), "{message}");
            }
            Ok(())
        }
    }
    let lab = Lab::new(Options::default());
    lab.try_apply(TWO, &mut Hold(&lab, false)).unwrap();
    assert!(lab.status().drift.is_empty());
}

#[test]
fn forwarding_is_turned_on_for_guests_alone() {
    // The host doesn't forward; hostctl's guests must not change that for others.
    let lab = Lab::new(Options::default());
    lab.apply(TWO);
    let by_the_host = |netns: &hostctl::testbed::Netns, to: &str, via: std::net::IpAddr, dev: &str| {
        let to: ipnet::IpNet = to.parse().unwrap();
        netns
            .links(async |links| links.add_route(hostctl::testbed::Route { to, via: Some(via), dev }).await)
            .unwrap();
    };
    by_the_host(&lab.world.internet, "100.64.0.0/10", address::UPLINK.into(), "eth0");
    by_the_host(&lab.world.internet, "fd7a:115c:a1e0::/48", address::UPLINK6.into(), "eth0");
    by_the_host(&lab.world.laptop, "198.51.100.0/24", address::TAILSCALE.into(), "tailnet0");
    by_the_host(&lab.world.laptop, "203.0.113.0/24", address::TAILSCALE.into(), "tailnet0");
    by_the_host(&lab.world.laptop, "2001:db8:51::/64", address::TAILSCALE6.into(), "tailnet0");
    for target in [address::LAPTOP.into(), address::LAPTOP6.into()] {
        let verdict = probe(&lab.world.internet, Probe::Icmp(target), SECOND);
        assert!(!verdict.is_allowed(), "the internet reaches the tailnet through the host: {verdict:?}");
    }
    let verdict = probe(&lab.world.laptop, Probe::Icmp(address::FAR.into()), SECOND);
    assert!(!verdict.is_allowed(), "{verdict:?}");

    // A host that did forward goes on doing so.
    lab.down();
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        lab.world.hypervisor.sysctl_set(key, "1").unwrap();
    }
    lab.apply(TWO);
    for target in [address::LAPTOP.into(), address::LAPTOP6.into()] {
        let verdict = probe(&lab.world.internet, Probe::Icmp(target), SECOND);
        assert!(verdict.is_allowed(), "{target}: {verdict:?}");
    }
    lab.down();
    assert_eq!(lab.world.hypervisor.sysctl_get("net/ipv4/ip_forward").unwrap(), "1");
}

#[test]
fn without_root_nothing_is_tried() {
    let host = Host { root: hostctl::root_dir::RootDir::new("/nowhere"), program: "hostctl".into() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = std::thread::scope(|scope| {
        let attempt = scope.spawn(|| {
            // This thread alone becomes nobody (the raw system call, as threads have users of their own).
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
            runtime.block_on(host.plan(&hostctl::topology::Topology::empty())).unwrap_err()
        });
        attempt.join().unwrap()
    });
    assert!(matches!(error, HostError::NotRoot), "{error}");
}

#[test]
fn a_flushed_firewall_is_repaired_and_forwarding_still_taken_back() {
    let lab = Lab::new(Options::default());
    lab.apply(TWO);
    let before = lab.output("nft", &["list", "set", "inet", "hostctl", "opened"]);
    assert!(before.contains("uplink0"), "{before}");
    lab.output("nft", &["flush", "ruleset"]);
    assert!(!lab.status().drift.is_empty());
    lab.apply(TWO);
    assert_eq!(lab.output("nft", &["list", "set", "inet", "hostctl", "opened"]), before);
    lab.output("nft", &["flush", "ruleset"]);
    lab.down();
    for key in ["net/ipv4/conf/uplink0/forwarding", "net/ipv6/conf/all/forwarding"] {
        assert_eq!(lab.world.hypervisor.sysctl_get(key).unwrap(), "0", "{key}");
    }
    assert_eq!(lab.status().drift, Vec::<String>::new());
}

#[test]
fn a_host_without_an_uplink_is_told_so() {
    let lab = Lab::new(Options::default());
    lab.output("ip", &["route", "del", "default"]);
    lab.output("ip", &["-6", "route", "del", "default"]);
    let outcome = lab.apply(TWO);
    assert!(outcome.notes[0].contains("no interface holds a default route"), "{:?}", outcome.notes);
}

#[test]
fn a_network_loses_its_ipv6_and_gets_it_back() {
    let lab = Lab::new(Options::default());
    lab.apply(TWO);
    let without = TWO.replace("cidr6 = \"fd00:0:0:1::/64\"\n", "");
    for spec in [without.as_str(), TWO, &without] {
        lab.apply(spec);
        let addresses = lab.output("ip", &["-6", "address", "show", "dev", "br-a"]);
        assert_eq!(addresses.contains("fd00:0:0:1::1/64"), spec == TWO, "{addresses}");
        assert!(lab.plan(spec).unwrap().is_empty(), "{:?}", lab.commands(spec));
    }
}
