//! What an audit says of each thing that somebody changes.

use crate::support::lab;
use crate::support::lab::Lab;
use crate::support::spec_parts::{idle_vms, namespace, network, network4, wide_network};
use hostctl::firewall::Severity;
use hostctl::host::{Finding, Kind};
use hostctl::testbed::{Options, Probe, probe};

const SPEC: &str = concat!(
    network!("a" 1),
    network4!("b" 2),
    wide_network!("prod" 20),
    namespace!("public" "prod" / "web" "10.20.1.0/24"),
    idle_vms!("a1" in "a", "b1" in "b"),
);

fn drift(lab: &Lab) -> Vec<Finding> {
    lab.audit().findings.into_iter().filter(|finding| finding.kind != Kind::Foreign).collect()
}

/// Does something to the host; the audit has to name that object with that
/// severity, and nothing else of another; then it is put back.
fn meddle(lab: &Lab, command: &str, severity: Severity, object: &str, found: &str) {
    lab.run_line(command);
    let findings = drift(lab);
    let named = findings.iter().find(|finding| finding.object == object);
    let named = named.unwrap_or_else(|| panic!("{command}: no {object} in {findings:#?}"));
    assert_eq!((named.severity, named.kind), (severity, Kind::Drift), "{command}: {named:?}");
    assert!(named.found.contains(found), "{command}: {named:?}");
    assert!(findings.len() <= 2, "{command}: {findings:#?}");
    lab.apply(SPEC);
    assert_eq!(drift(lab), [], "after {command}");
}

use Severity::{Critical, Warning};

#[test]
fn the_firewalls_drift_is_named_object_by_object() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let pairs = "element of set inet hostctl pairs";
    meddle(&lab, "nft add element inet hostctl pairs { br-a . br-b }", Critical, pairs, "br-a . br-b");
    meddle(&lab, "nft delete element inet hostctl pairs { br-a . br-a }", Warning, pairs, "not there");
    let ports = "element of set bridge hostctl ports";
    meddle(&lab, "nft delete element bridge hostctl ports { vm-a1 }", Critical, ports, "not there");
    let forward = "rule in chain inet hostctl forward";
    meddle(&lab, "nft insert rule inet hostctl forward accept", Critical, forward, "accept");
    meddle(&lab, "nft insert rule inet hostctl forward drop", Warning, forward, "drop");
    meddle(
        &lab,
        "nft add rule inet hostctl input counter accept",
        Critical,
        "rule in chain inet hostctl input",
        "accept",
    );
    meddle(&lab, "nft delete table bridge hostctl", Critical, "table bridge hostctl", "not there");
    let policy = "chain inet hostctl forward";
    meddle(&lab, "nft add chain inet hostctl forward { policy drop ; }", Critical, policy, "policy drop");
    meddle(&lab, "nft add chain inet hostctl theirs", Warning, "chain inet hostctl theirs", "there");
}

/// A dormant table judges nothing; nft 1.0.6 can't list it as JSON.
#[test]
fn a_table_that_was_put_to_sleep_is_found_and_replaced() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let (a1, b1) = (lab.guest(SPEC, "a1"), lab.guest(SPEC, "b1"));
    let open = || {
        probe(a1.netns(), Probe::Tcp((b1.v4, 80).into()), std::time::Duration::from_millis(700)).is_allowed()
    };
    assert!(!open());
    lab.run_line("nft add table inet hostctl { flags dormant ; }");
    // What it doesn't judge is kept apart by routes; and where those are gone too:
    assert!(!open());
    lab.run_line("ip rule del pref 2673");
    assert!(open(), "a dormant table keeps nobody apart");
    lab.run_line("ip rule add pref 2673 lookup 26735");
    let findings = drift(&lab);
    assert_eq!(
        (findings[0].severity, findings[0].object.as_str()),
        (Critical, "table inet hostctl"),
        "{findings:#?}"
    );
    lab.apply(SPEC);
    assert_eq!(drift(&lab), []);
    assert!(!open());
    lab.down();
    assert_eq!(lab.world.hypervisor.sysctl_get("net/ipv4/conf/uplink0/forwarding").unwrap(), "0");
}

/// Deleted, and made again by hand without one rule and with one element more.
#[test]
fn a_table_that_somebody_made_again_is_compared_object_by_object() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let text = lab.output("nft", &["list", "table", "inet", "hostctl"]);
    let rule = "oifname @bridges goto drop_forward comment \"no other network\"";
    let again = text.replacen(rule, "", 1);
    assert_ne!(text, again);
    let file = lab.root_dir().join("again.nft");
    std::fs::write(&file, again).unwrap();
    lab.run_line("nft delete table inet hostctl");
    lab.run_line(&format!("nft -f {}", file.display()));
    lab.run_line("nft add element inet hostctl guest4 { br-a . 10.1.0.99 }");
    let findings = drift(&lab);
    let words: Vec<_> = findings
        .iter()
        .map(|one| (one.severity, one.object.as_str(), one.found.as_str(), one.expected.as_str()))
        .collect();
    assert_eq!(
        words,
        [
            (Critical, "element of set inet hostctl guest4", "br-a . 10.1.0.99", "nothing"),
            (
                Critical,
                "rule in chain inet hostctl from_guest",
                "not there",
                "oifname @bridges goto drop_forward (no other network)"
            ),
        ]
    );
    // What it says to do by hand does it.
    let command = findings[0].commands[0].replace('\'', "");
    lab.run_line(&command);
    assert_eq!(drift(&lab).len(), 1);
}

#[test]
fn links_drift_is_named_object_by_object() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    meddle(&lab, "bridge link set dev vm-a1 isolated off", Critical, "isolation of vm-a1", "off");
    meddle(&lab, "bridge link set dev vm-a1 learning on", Warning, "learning of vm-a1", "on");
    meddle(&lab, "bridge link set dev vm-a1 flood on", Warning, "flooding of vm-a1", "on");
    meddle(&lab, "ip link set vm-b1 master br-a", Critical, "bridge of vm-b1", "br-a");
    meddle(&lab, "ip link set vm-b1 nomaster", Warning, "bridge of vm-b1", "none");
    meddle(&lab, "ip link del vm-a1", Warning, "TAP vm-a1", "not there");
    meddle(&lab, "ip link set br-b down", Warning, "state of br-b", "down");
    let neighbour = "neighbour 10.1.0.2 of br-a";
    meddle(&lab, "ip neigh del 10.1.0.2 dev br-a", Warning, neighbour, "not there");
    let other = "ip neigh replace 10.1.0.2 lladdr 02:00:00:00:00:99 dev br-a nud permanent";
    meddle(&lab, other, Critical, neighbour, "02:00:00:00:00:99");
    // A guess that the kernel made itself, in its place.
    let asked = "ip neigh replace 10.1.0.2 lladdr 02:00:00:00:00:99 dev br-a nud stale";
    meddle(&lab, asked, Warning, neighbour, "not there");
    let nobodys = "ip neigh add fd00:0:0:1::99 lladdr 02:00:00:00:00:99 dev br-a nud permanent";
    meddle(&lab, nobodys, Critical, "neighbour fd00:0:0:1::99 of br-a", "02:00:00:00:00:99");
    meddle(&lab, "ip address del 10.1.0.1/24 dev br-a", Warning, "address 10.1.0.1/24 of br-a", "not there");
    meddle(&lab, "ip address add 192.0.2.1/24 dev br-b", Warning, "address 192.0.2.1/24 of br-b", "there");
    meddle(
        &lab,
        "ip neigh del proxy fd00:0:0:1::2 dev br-a",
        Warning,
        "proxy entry fd00:0:0:1::2 of br-a",
        "not there",
    );
    let fdb = "bridge fdb add 02:00:00:00:00:77 dev vm-a1 master static";
    meddle(&lab, fdb, Critical, "forwarding entry 02:00:00:00:00:77 of vm-a1", "there");
    meddle(
        &lab,
        "sysctl -qw net.ipv4.conf.br-a.accept_source_route=1",
        Critical,
        "sysctl net/ipv4/conf/br-a/accept_source_route",
        "1",
    );
    meddle(
        &lab,
        "sysctl -qw net.ipv4.conf.br-a.forwarding=0",
        Warning,
        "sysctl net/ipv4/conf/br-a/forwarding",
        "0",
    );
}

const TUNSETOWNER: u64 = 0x4004_54cc;
const TUNSETGROUP: u64 = 0x4004_54ce;

/// As whoever holds the TAP could.
#[allow(unsafe_code)]
fn give_away(lab: &Lab, name: &str, ioctls: &[u64], uid: u32) {
    use nix::libc;
    use std::os::fd::AsRawFd;
    let done = lab.world.hypervisor.run(|| {
        let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        let mut request = [0_u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        // IFF_TAP, IFF_NO_PI
        request[16..18].copy_from_slice(&0x1002_u16.to_ne_bytes());
        // SAFETY: the first takes a `struct ifreq`, the others a number.
        unsafe {
            libc::ioctl(tun.as_raw_fd(), 0x4004_54ca, request.as_mut_ptr()) == 0
                && ioctls.iter().all(|number| libc::ioctl(tun.as_raw_fd(), *number as _, u64::from(uid)) == 0)
        }
    });
    assert!(done, "{}", std::io::Error::last_os_error());
}

/// What a QEMU that the guest has taken over would do to its TAP, did its
/// filter not refuse it.
#[test]
fn a_tap_that_was_turned_against_a_neighbour_is_named_with_the_culprit() {
    let lab = Lab::new(Options::default());
    let spec = &format!("{SPEC}[vms.a2]\nnetwork = \"a\"\nimage = \"probe\"\nautostart = false\n");
    lab.apply(spec);
    let (_, topology) = lab::compile(spec);
    let (victim, culprit) = (topology.vm("a2").unwrap(), topology.vm("a1").unwrap());
    let text = |finding: &Finding| format!("{}: {}", finding.object, finding.found);

    // While nobody holds it everything is put right.
    let uid = victim.uid;
    give_away(&lab, "vm-a1", &[TUNSETOWNER, TUNSETGROUP], uid);
    let found = drift(&lab);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().all(|one| one.severity == Critical && one.found.contains("the user of VM a2")));
    assert_eq!(lab.commands(spec), ["ip link del vm-a1 && ip tuntap add vm-a1 mode tap user 0"]);
    lab.apply(spec);
    assert_eq!(drift(&lab), []);
    assert!(lab.commands(spec).is_empty());

    // Its MAC also while a guest is on it, which goes on.
    give_away(&lab, "vm-a1", &[TUNSETOWNER], uid);
    let (a1, a2) = (lab.guest(spec, "a1"), lab.guest(spec, "a2"));
    let second = std::time::Duration::from_secs(1);
    let reaches = || probe(a1.netns(), Probe::Tcp((a2.v4, 80).into()), second).is_allowed();
    assert!(reaches());
    lab.run_line(&format!("ip link set vm-a1 address {}", victim.port.mac));
    let found = drift(&lab);
    // Its entry in the bridge's table is gone with it.
    let [mac, owner, entry] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!(entry.object, format!("forwarding entry {} of vm-a2", victim.port.mac));
    assert_eq!(mac.object, "MAC of vm-a1");
    assert!(mac.found.contains("that of VM a2, whose frames it then gets"), "{mac:?}");
    let who = format!("the QEMU of VM a1, user {}", culprit.uid);
    assert!([mac, owner].iter().all(|one| one.found.contains(&who)), "{found:#?}");
    assert!(text(owner).starts_with(&format!("owner of vm-a1: {uid}, the user of VM a2")), "{owner:?}");
    assert!(owner.remedy.starts_with("hostctl vm down a1 && hostctl apply"), "{owner:?}");
    // Nothing but its holder's end helps against the rest.
    lab.apply(spec);
    assert_eq!(drift(&lab), std::slice::from_ref(owner));
    assert!(reaches());
    // The other way about, for the order in which things are put right.
    lab.run_line(&format!("ip link set vm-a2 address {}", culprit.port.mac));
    lab.apply(spec);
    assert_eq!(drift(&lab), std::slice::from_ref(owner));
    assert!(reaches());
    drop(a1);
    lab.apply(spec);
    assert_eq!(drift(&lab), []);
}

#[test]
fn namespaces_drift_is_named_object_by_object() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let route = "route to 0.0.0.0/0 in namespace prod-web";
    meddle(&lab, "ip -n prod-web route del default", Warning, route, "not there");
    meddle(
        &lab,
        "ip -n prod-web route add 192.0.2.0/24 via 10.20.0.1 dev eth0 onlink",
        Warning,
        "route to 192.0.2.0/24 in namespace prod-web",
        "via 10.20.0.1",
    );
    meddle(&lab, "ip -n prod-web link set lo down", Warning, "state of lo in namespace prod-web", "down");
    meddle(&lab, "ip -n prod-web link del eth0", Warning, "link ns-prod-web", "not there");
}

#[test]
fn the_command_says_it_to_programs_and_repairs() {
    let lab = Lab::new(Options::default());
    let nothing = lab.hostctl(&["audit", "--json", "--fail-on", "info"]);
    assert_eq!(nothing.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("nothing was ever applied"));
    lab.apply(SPEC);
    let clean = lab.hostctl(&["audit"]);
    assert_eq!(clean.status.code(), Some(0), "{}", String::from_utf8_lossy(&clean.stdout));

    lab.run_line("ip address del 10.1.0.1/24 dev br-a");
    let json = lab.hostctl(&["audit", "--json"]);
    assert_eq!(json.status.code(), Some(6));
    let parsed: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let finding = &parsed["findings"][0];
    for (key, value) in [
        ("severity", "warning"),
        ("kind", "drift"),
        ("object", "address 10.1.0.1/24 of br-a"),
        ("found", "not there"),
        ("expected", "there"),
        ("remedy", "hostctl audit --repair"),
    ] {
        assert_eq!(finding[key], value, "{finding}");
    }
    assert_eq!(finding["commands"][0], "ip address add 10.1.0.1/24 dev br-a");
    assert_eq!(lab.hostctl(&["audit", "--fail-on", "critical"]).status.code(), Some(0));
    lab.run_line("bridge link set dev vm-a1 isolated off");
    assert_eq!(lab.hostctl(&["audit", "--fail-on", "critical"]).status.code(), Some(6));
    let table = String::from_utf8(lab.hostctl(&["audit"]).stdout).unwrap();
    assert!(table.contains("\ncritical  isolation of vm-a1\n          found:    off\n"), "{table}");

    let repaired = lab.hostctl(&["audit", "--repair"]);
    assert_eq!(repaired.status.code(), Some(0), "{}", String::from_utf8_lossy(&repaired.stderr));
    assert_eq!(drift(&lab), []);
    assert_eq!(lab.status().generation, Some(1), "a repair is no new generation");
}

/// The kernel makes them with the bridge's address; hostctl has no step for
/// them.
#[test]
fn routes_to_guests_that_go_elsewhere_are_named() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let routes = || -> Vec<(String, String, String)> {
        let findings = lab.audit().findings.into_iter().filter(|one| one.object.starts_with("route to "));
        findings.map(|one| (one.object, one.found, one.commands[0].clone())).collect()
    };
    assert_eq!(routes(), []);
    for (meddle, object, found) in [
        ("ip route del 10.1.0.0/24 dev br-a", "route to 10.1.0.0/24", "not there"),
        ("ip -6 route del fd00:0:0:1::/64 dev br-a", "route to fd00:0:0:1::/64", "not there"),
        ("ip route add 10.1.0.2/32 via 198.51.100.1 dev uplink0", "route to 10.1.0.2/32", "by uplink0"),
    ] {
        lab.run_line(meddle);
        let named = routes();
        assert!(named.len() == 1 && named[0].0 == object && named[0].1 == found, "{meddle}: {named:?}");
        lab.run_line(&named[0].2);
        assert_eq!(routes(), [], "after {}", named[0].2);
    }
}
