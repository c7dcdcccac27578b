//! Other programs' rules beside hostctl's: what the audit says of them is what
//! happens to packets, and its remedy helps.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::lab::{Guest, Lab};
use crate::support::spec_parts::{idle_vms, network, peering, tailnet};
use hostctl::firewall::{Severity, nft_foreign};
use hostctl::host::{Finding, Kind};
use hostctl::prove::unknown_rules;
use hostctl::testbed::{Netns, Options, Probe, address, probe_all_within};

const SPEC: &str = concat!(
    tailnet!(),
    network!("a" 1),
    "tailscale = true\n",
    network!("b" 2),
    network!("c" 3),
    peering!("a" and "b"),
    idle_vms!("a1" in "a", "a2" in "a", "b1" in "b", "c1" in "c"),
);

fn tcp(from: &Netns, to: IpAddr) -> (Netns, Probe) {
    (from.clone(), Probe::Tcp((to, 80).into()))
}

struct Scene {
    lab: Lab,
    guests: [Guest; 4],
}

/// What the spec allows, with whether packets really pass, in this order; and
/// what it doesn't.
const ALLOWED: [&str; 7] =
    ["a1→internet", "a1→internet6", "a1→a2", "a1→b1", "a1→gateway", "laptop→a1", "host→a1"];
const DENIED: [&str; 3] = ["a1→c1", "a1→c1, IPv6", "c1→b1"];

impl Scene {
    fn new() -> Self {
        let lab = Lab::new(Options::default());
        lab.apply(SPEC);
        let guests = ["a1", "a2", "b1", "c1"].map(|name| lab.guest(SPEC, name));
        Self { lab, guests }
    }

    /// Loads a ruleset as its program would.
    fn load(&self, name: &str) {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(name);
        self.lab.output("nft", &["-f", file.to_str().unwrap()]);
    }

    /// Restores what `iptables-save` printed with that program.
    fn restore(&self, program: &str, file: &str) {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(file);
        self.lab.output(program, &["--noflush", file.to_str().unwrap()]);
    }

    fn nft(&self, text: &str) {
        self.lab.output("nft", &[text]);
    }

    /// The names of what is allowed that doesn't pass.
    fn blocked(&self) -> Vec<&'static str> {
        let [a1, a2, b1, _] = &self.guests;
        let world = &self.lab.world;
        let probes = [
            tcp(a1.netns(), address::FAR.into()),
            tcp(a1.netns(), address::FAR6.into()),
            tcp(a1.netns(), a2.v4),
            tcp(a1.netns(), b1.v4),
            (a1.netns().clone(), Probe::Icmp("10.1.0.1".parse().unwrap())),
            tcp(&world.laptop, a1.v4),
            tcp(&world.hypervisor, a1.v4),
        ];
        let verdicts = probe_all_within(&probes, Duration::from_millis(2500));
        ALLOWED
            .iter()
            .zip(verdicts)
            .filter(|(_, verdict)| !verdict.is_allowed())
            .map(|(name, _)| *name)
            .collect()
    }

    /// As [`Scene::blocked`] once neighbours have been found again: who wasn't a
    /// moment ago isn't asked for at once (RFC 4861, 7.2.2).
    fn still_blocked(&self) -> Vec<&'static str> {
        let mut blocked = self.blocked();
        for _ in 0..4 {
            if blocked.is_empty() {
                break;
            }
            blocked = self.blocked();
        }
        blocked
    }

    /// Nothing allowed is blocked, and what isn't allowed stays so.
    fn passes(&self) {
        assert_eq!(self.still_blocked(), [""; 0]);
        let [a1, _, b1, c1] = &self.guests;
        let denied = [tcp(a1.netns(), c1.v4), tcp(a1.netns(), c1.v6.unwrap()), tcp(c1.netns(), b1.v4)];
        for (name, verdict) in DENIED.iter().zip(probe_all_within(&denied, Duration::from_secs(1))) {
            assert!(!verdict.is_allowed(), "{name} is open: {verdict:?}");
        }
    }

    fn foreign(&self) -> Vec<Finding> {
        let findings = self.lab.audit().findings;
        assert!(findings.iter().all(|one| one.kind != Kind::Drift), "{findings:#?}");
        let file = "/etc/nftables.conf";
        findings
            .into_iter()
            .filter(|one| one.kind == Kind::Foreign && !one.object.starts_with(file))
            .collect()
    }

    /// Those that matter.
    fn warnings(&self) -> Vec<Finding> {
        self.foreign().into_iter().filter(|finding| finding.severity >= Severity::Warning).collect()
    }

    /// Runs the commands of the findings' remedies; a shell would take them
    /// apart as this does.
    fn remedy(&self, findings: &[Finding]) {
        for command in findings.iter().flat_map(|finding| &finding.commands) {
            let words: Vec<&str> = command.split(' ').collect();
            self.lab.output(words[0], &words[1..]);
        }
    }

    /// Loads `file`: that much is blocked, the audit says so of these objects,
    /// and after its remedies nothing is blocked and nothing found.
    fn blocks(&self, file: &str, blocked: &[&str], objects: &[&str], setting: &str) {
        self.load(file);
        assert_eq!(self.blocked(), blocked, "{file}");
        let findings = self.warnings();
        let named: Vec<&str> = findings.iter().map(|finding| finding.object.as_str()).collect();
        assert_eq!(named, objects, "{file}: {findings:#?}");
        for finding in &findings {
            assert_eq!(finding.severity, Severity::Warning, "{finding:?}");
            assert!(finding.remedy.contains(setting), "{finding:?}");
        }
        self.remedy(&findings);
        self.passes();
        assert_eq!(self.warnings(), [], "{file}, after the remedy");
    }

    /// Loads `file`: nothing is blocked, and the audit says nothing.
    fn harmless(&self, file: &str) {
        self.load(file);
        self.passes();
        assert_eq!(self.foreign(), [], "{file}");
    }
}

const THROUGH: [&str; 5] = ["a1→internet", "a1→internet6", "a1→a2", "a1→b1", "laptop→a1"];

#[test]
fn dockers_policy_drops_guests_packets() {
    let scene = Scene::new();
    assert_eq!((scene.blocked(), scene.foreign()), (vec![], vec![]));
    let objects = ["chains ip filter FORWARD, ip6 filter FORWARD (Docker)"];
    scene.blocks("docker.nft", &THROUGH, &objects, "ip-forward-no-drop");
    assert!(scene.lab.output("nft", &["list", "chain", "ip", "filter", "DOCKER-USER"]).contains("br-a"));
    // What it says of single containers is nothing to guests.
    assert_eq!(scene.foreign(), []);
}

#[test]
fn dockers_isolation_of_its_own_bridges_is_no_hazard() {
    Scene::new().harmless("docker_isolation.nft");
}

/// Its table can't be changed by anybody else since 2.0, so that its own
/// program's commands are the remedy; what they load is recorded.
#[test]
fn firewalld_rejects_what_is_in_no_zone() {
    for version in ["1", "2"] {
        let scene = Scene::new();
        scene.load(&format!("firewalld_{version}.nft"));
        // Its default zone forwards to its own interfaces.
        assert_eq!(scene.blocked(), ["a1→a2", "a1→b1", "laptop→a1"]);
        let findings = scene.foreign();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert!(findings[0].object.ends_with("(firewalld)"), "{findings:#?}");
        let wanted = [
            "firewall-cmd --permanent --new-zone=hostctl",
            "firewall-cmd --permanent --zone=hostctl --set-target=ACCEPT",
            "firewall-cmd --permanent --zone=hostctl --change-interface=br-a",
            "firewall-cmd --permanent --zone=hostctl --change-interface=br-b",
            "firewall-cmd --permanent --zone=hostctl --change-interface=br-c",
            "firewall-cmd --permanent --new-policy=to-hostctl",
            "firewall-cmd --permanent --policy=to-hostctl --set-target=ACCEPT",
            "firewall-cmd --permanent --policy=to-hostctl --add-ingress-zone=ANY",
            "firewall-cmd --permanent --policy=to-hostctl --add-egress-zone=hostctl",
            "firewall-cmd --reload",
        ];
        assert_eq!(findings[0].commands, wanted, "{findings:#?}");
        scene.nft("delete table inet firewalld");
        scene.load(&format!("firewalld_{version}_remedied.nft"));
        scene.passes();
        assert_eq!(scene.foreign(), [], "firewalld {version}, after the commands");
    }
}

#[test]
fn libvirts_rules_are_about_its_own_bridges() {
    let scene = Scene::new();
    scene.harmless("libvirt_iptables.nft");
    scene.harmless("libvirt.nft");
}

#[test]
fn the_nixos_firewall_filters_forwarding() {
    let scene = Scene::new();
    let objects = ["chain inet nixos-fw forward (the NixOS firewall)"];
    scene.blocks("nixos.nft", &THROUGH, &objects, "networking.firewall.extraForwardRules");
}

/// As ufw loads them by iptables-nft: with matches of iptables' own, of which
/// nft's JSON has but the names.
#[test]
fn ufw_denies_routed_packets() {
    let scene = Scene::new();
    scene.restore("iptables-nft-restore", "ufw.v4.rules");
    scene.restore("ip6tables-nft-restore", "ufw.v6.rules");
    assert_eq!(scene.blocked(), THROUGH);
    let findings = scene.foreign();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].object, "chains ip filter FORWARD, ip6 filter FORWARD (ufw)");
    let wanted = ["a", "b", "c"].map(|name| format!("ufw route allow in on br-{name}"));
    // The tailnet speaks to the guests of one network.
    let back = ["ufw route allow out on br-a".to_string()];
    assert_eq!(findings[0].commands, [&wanted[..], &back[..]].concat(), "{findings:#?}");
    scene.restore("iptables-nft-restore", "ufw_remedied.v4.rules");
    scene.restore("ip6tables-nft-restore", "ufw_remedied.v6.rules");
    scene.passes();
    assert_eq!(scene.foreign(), []);
}

/// nft shows nothing of these.
#[test]
fn what_iptables_legacy_drops_is_found() {
    let scene = Scene::new();
    let run = |command: &str| {
        let words: Vec<&str> = command.split(' ').collect();
        scene.lab.output(words[0], &words[1..])
    };
    run("iptables-legacy -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
    assert_eq!((scene.blocked(), scene.foreign()), (vec![], vec![]), "it accepts all");
    run("iptables-legacy -P FORWARD DROP");
    assert_eq!(scene.blocked(), ["a1→internet", "a1→a2", "a1→b1", "laptop→a1"]);
    let findings = scene.foreign();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].object, "chain ip filter FORWARD (iptables-legacy)");
    assert!(
        findings[0].commands.contains(&"iptables-legacy -I FORWARD -o br-a -j ACCEPT".into()),
        "{findings:#?}"
    );
    scene.remedy(&findings);
    scene.passes();
    assert_eq!(scene.foreign(), []);
    // A rule that has no translation is named with the command to look at it.
    run("ip6tables-legacy -A FORWARD -m recent --name x --set -j DROP");
    let findings = scene.foreign();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].found.contains("-A FORWARD -m recent"), "{findings:#?}");
    assert!(findings[0].commands.contains(&"ip6tables-legacy -S FORWARD".into()), "{findings:#?}");
}

/// Tailscale takes only the tailnet's own addresses for itself.
#[test]
fn tailscales_rules_hide_the_tailnets_addresses_and_drop_its_prefix() {
    let scene = Scene::new();
    scene.load("tailscale.nft");
    assert_eq!(scene.blocked(), [""; 0]);
    let findings = scene.foreign();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].severity, Severity::Info, "{findings:#?}");
    assert!(findings[0].found.contains("may hide the sender of: the tailnet to guests of a"), "{findings:?}");
    drop(scene);

    // A host whose spec doesn't name the tailnet, with a network of its prefix.
    let spec = r#"
        [networks.t]
        cidr = "100.64.9.0/24"
        [vms.t1]
        network = "t"
        image = "probe"
        autostart = false
    "#;
    let lab = Lab::new(Options { tailnet: false, ..Options::default() });
    lab.apply(spec);
    let guest = lab.guest(spec, "t1");
    let ping = || {
        let probe = (guest.netns().clone(), Probe::Icmp("100.64.9.1".parse().unwrap()));
        probe_all_within(&[probe], Duration::from_secs(2))[0].is_allowed()
    };
    assert!(ping());
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/tailscale.nft");
    lab.output("nft", &["-f", file.to_str().unwrap()]);
    assert!(!ping());
    let findings = lab.audit().findings;
    let drops = findings.iter().find(|finding| finding.severity == Severity::Warning).unwrap();
    assert!(drops.object.ends_with("of chain ip filter ts-input (Tailscale)"), "{findings:#?}");
    assert!(drops.remedy.contains("another prefix than the tailnet's"), "{drops:?}");
}

/// Rules without a program's name.
#[test]
fn rules_about_guests_are_found_whatever_table_they_are_in() {
    let scene = Scene::new();
    let [a1, _, b1, _] = &scene.guests;
    // The address and the bridge, under a policy that accepts.
    scene.nft("table ip t { chain c { type filter hook forward priority 5; ip saddr 10.1.0.0/24 oifname uplink0 drop; }; }");
    assert_eq!(scene.blocked(), ["a1→internet"]);
    let findings = scene.warnings();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].found.contains("guests of a to the internet"), "{findings:?}");
    scene.remedy(&findings);
    assert_eq!((scene.blocked(), scene.warnings()), (vec![], vec![]));
    scene.nft("delete table ip t");

    // A rule that can't be judged is named.
    scene.nft("table inet t { chain c { type filter hook forward priority 5; meta length 1000 drop; }; }");
    let findings = scene.foreign();
    assert_eq!((findings.len(), findings[0].severity), (1, Severity::Info), "{findings:#?}");
    assert!(
        findings[0].object.starts_with("rule ") && findings[0].object.contains("chain inet t c"),
        "{findings:?}"
    );
    scene.nft("delete table inet t");

    // Masquerading between guests hides who speaks.
    scene.nft(
        "table ip t { chain c { type nat hook postrouting priority 90; ip saddr 10.0.0.0/8 masquerade; }; }",
    );
    let seen = || {
        scene.blocked();
        b1.peers(80).last().unwrap().ip()
    };
    assert_ne!(seen(), a1.v4);
    let findings = scene.warnings();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].found.contains("hides the sender of"), "{findings:?}");
    scene.remedy(&findings);
    assert_eq!((scene.blocked(), scene.warnings()), (vec![], vec![]));
    assert_eq!(seen(), a1.v4);
    scene.nft("delete table ip t");
}

#[test]
fn what_else_happens_to_guests_packets_is_found() {
    let scene = Scene::new();
    // Untracked packets aren't masqueraded.
    scene.nft("table ip t { chain c { type filter hook prerouting priority raw; iifname br-a notrack; }; }");
    assert!(scene.blocked().contains(&"a1→internet"));
    let findings = scene.warnings();
    assert!(findings.len() == 1 && findings[0].found.contains("keeps from being tracked"), "{findings:#?}");
    scene.remedy(&findings);
    assert_eq!((scene.blocked(), scene.warnings()), (vec![], vec![]));
    scene.nft("delete table ip t");

    // A redirection takes what was meant for somebody else.
    scene.nft("table ip t { chain c { type nat hook prerouting priority dstnat; iifname br-a ip daddr 203.0.113.0/24 dnat to 198.51.100.77; }; }");
    assert!(scene.blocked().contains(&"a1→internet"));
    let findings = scene.foreign();
    assert!(findings.len() == 1 && findings[0].found.contains("may send elsewhere"), "{findings:#?}");
    scene.nft("delete table ip t");
}

#[test]
fn what_happens_to_frames_is_found() {
    let scene = Scene::new();
    // Frames at a guest's port, before any bridge.
    scene.nft("table netdev t { chain c { type filter hook ingress device vm-a1 priority 0; drop; }; }");
    assert!(scene.blocked().contains(&"a1→gateway"));
    let findings = scene.warnings();
    assert!(findings.len() == 1 && findings[0].found.contains("frames from vm-a1"), "{findings:#?}");
    scene.nft("delete table netdev t");
    scene.nft(
        "table netdev t { chain c { type filter hook ingress device vm-a1 priority 0; dup to uplink0; }; }",
    );
    let findings = scene.warnings();
    assert!(findings.len() == 1 && findings[0].severity == Severity::Critical, "{findings:#?}");
    scene.nft("delete table netdev t");
    scene.nft("table bridge t { chain c { type filter hook input priority 5; iifname vm-a1 drop; }; }");
    assert!(scene.blocked().contains(&"a1→gateway"));
    let findings = scene.warnings();
    assert!(findings.len() == 1 && findings[0].found.contains("frames from vm-a1"), "{findings:#?}");
    scene.remedy(&findings);
    assert_eq!((scene.still_blocked(), scene.warnings()), (vec![], vec![]));
    scene.nft("delete table bridge t");
}

#[test]
fn what_accepts_or_sleeps_is_no_hazard() {
    let scene = Scene::new();
    // What accepts opens nothing: hostctl's table goes on judging.
    scene.nft("table inet t { chain c { type filter hook forward priority -300; accept; }; chain i { type filter hook input priority -300; accept; }; }");
    scene.passes();
    assert_eq!(scene.foreign(), []);
    // And what sleeps does nothing, though nft can't list it as JSON.
    scene.nft("table ip sleeps { chain c { type filter hook forward priority 5; policy drop; }; }");
    scene.nft("add table ip sleeps { flags dormant; }");
    assert_eq!((scene.blocked(), scene.foreign()), (vec![], vec![]));
}

/// What a sample of packets doesn't show: one guest, one protocol. Each is a
/// warning with such a packet, and its remedy lets it pass.
#[test]
fn what_happens_to_few_packets_is_found() {
    let scene = Scene::new();
    let [a1, a2, ..] = &scene.guests;
    let found = |table: &str, blocked: &[&str], shown: &[&str]| {
        scene.nft(table);
        let got = scene.still_blocked();
        assert_eq!(got, blocked, "{table}");
        let findings = scene.warnings();
        assert_eq!(findings.len(), 1, "{table}: {findings:#?}");
        for text in shown {
            assert!(findings[0].found.contains(text), "{table}: {text}: {findings:#?}");
        }
        findings
    };
    // One guest.
    let table = format!(
        "table ip t {{ chain c {{ type filter hook forward priority 5; ip saddr {} drop; }}; }}",
        a1.v4
    );
    let blocked = ["a1→internet", "a1→a2", "a1→b1", "laptop→a1"];
    let findings = found(&table, &blocked, &["for example IPv4 from br-a", &format!("source {}", a1.v4)]);
    scene.remedy(&findings);
    assert_eq!((scene.still_blocked(), scene.warnings()), (vec![], vec![]));
    scene.nft("delete table ip t");
    // An address that nobody has is nobody's.
    scene.nft("table ip t { chain c { type filter hook forward priority 5; ip saddr 10.1.0.200 drop; }; }");
    assert_eq!((scene.blocked(), scene.foreign()), (vec![], vec![]));
    scene.nft("delete table ip t");

    // One protocol: TCP passes.
    scene.nft("table inet t { chain c { type filter hook forward priority 5; meta l4proto udp drop; }; }");
    assert_eq!(scene.blocked(), [""; 0]);
    let udp = |to: &Guest| (a1.netns().clone(), Probe::Udp((to.v4, 7).into()));
    assert!(!probe_all_within(&[udp(a2)], Duration::from_secs(1))[0].is_allowed());
    let findings = scene.warnings();
    assert!(findings.len() == 1 && findings[0].found.contains("UDP, port 443"), "{findings:#?}");
    scene.remedy(&findings);
    assert_eq!(scene.warnings(), []);
    scene.nft("delete table inet t");
    assert!(probe_all_within(&[udp(a2)], Duration::from_secs(2))[0].is_allowed());

    // What sets marks anew takes hostctl's away, which none of these is routed by.
    scene
        .nft("table ip t { chain c { type filter hook prerouting priority -150; meta mark set ct mark; }; }");
    assert_eq!((scene.still_blocked(), scene.foreign()), (vec![], vec![]));
    scene.nft("delete table ip t");
}

/// What the engine doesn't know of the kept rules, by chain and number: what a
/// limit lets pass is nobody's to know, what iptables' `hl` and some types of its
/// `icmp6` match nft has no words for, and of TCP's flags only those of first
/// packets are known. All of it may match or not.
const NOT_KNOWN: [&str; 16] = [
    "nixos.nft: inet nixos-fw input: tcp flags (3)",
    "ufw.v4.rules: ip filter ufw-after-logging-forward: limit (1)",
    "ufw.v4.rules: ip filter ufw-after-logging-input: limit (1)",
    "ufw.v4.rules: ip filter ufw-logging-allow: limit (1)",
    "ufw.v4.rules: ip filter ufw-logging-deny: limit (1 2)",
    "ufw.v4.rules: ip filter ufw-not-local: limit (4)",
    "ufw.v4.rules: ip filter ufw-user-limit: limit (1)",
    "ufw.v6.rules: ip6 filter ufw6-after-logging-forward: limit (1)",
    "ufw.v6.rules: ip6 filter ufw6-after-logging-input: limit (1)",
    "ufw.v6.rules: ip6 filter ufw6-before-input: xt match icmp6 (18 19 20 21 27 28 29 30)",
    "ufw.v6.rules: ip6 filter ufw6-before-input: xt match icmp6, xt match hl (16 17 22 23 24 25 26)",
    "ufw.v6.rules: ip6 filter ufw6-before-output: xt match icmp6 (16 17 18 19)",
    "ufw.v6.rules: ip6 filter ufw6-before-output: xt match icmp6, xt match hl (14 15 20 21 22 23 24)",
    "ufw.v6.rules: ip6 filter ufw6-logging-allow: limit (1)",
    "ufw.v6.rules: ip6 filter ufw6-logging-deny: limit (1 2)",
    "ufw.v6.rules: ip6 filter ufw6-user-limit: limit (1)",
];

/// Rules of other programs, as they load them, and those of which the engine
/// doesn't know all.
#[test]
fn what_isnt_known_of_the_kept_rules_is_named() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/foreign");
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let (mut count, mut unknown) = (0, BTreeMap::<String, Vec<String>>::new());
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_string();
        let (program, first) = match () {
            () if name.ends_with(".nft") => ("nft", "-f"),
            () if name.contains(".v6.") => ("ip6tables-nft-restore", "--noflush"),
            () => ("iptables-nft-restore", "--noflush"),
        };
        let listing = Netns::new().unwrap().run(|| {
            let load = |file: &Path| {
                let done = Command::new(program).arg(first).arg(file).status().unwrap();
                assert!(done.success(), "{}", file.display());
            };
            // ufw's remedies are added to what it has loaded.
            if let Some(family) = name.strip_prefix("ufw_remedied.") {
                load(&directory.join(format!("ufw.{family}")));
            }
            load(&file);
            nft_foreign::observe().unwrap().listing()
        });
        let (rules, these) = unknown_rules(&listing);
        assert!(rules > 5, "{name}: {rules}");
        count += rules;
        for (place, what) in these {
            let (chain, number) = place.rsplit_once(' ').unwrap();
            let why = format!("{}: {chain}: {}", name.replace("_remedied", ""), what.join(", "));
            let numbers = unknown.entry(why).or_default();
            if !numbers.iter().any(|other| other == number) {
                numbers.push(number.into());
            }
        }
    }
    let unknown: Vec<String> =
        unknown.into_iter().map(|(why, numbers)| format!("{why} ({})", numbers.join(" "))).collect();
    assert_eq!((count, unknown), (729, NOT_KNOWN.map(String::from).into()));
}

/// As Amazon's and others' programs do, but with hostctl's bits.
#[test]
fn who_writes_hostctls_bits_of_flows_marks_is_named() {
    let scene = Scene::new();
    let mark = |bits: &str| {
        let rule = ["-t", "mangle", "-A", "FORWARD", "-j", "CONNMARK", "--set-xmark", bits];
        scene.lab.output("iptables-nft", &rule);
    };
    mark("0x80/0x80");
    let marks = |findings: &[Finding]| -> Vec<String> {
        findings
            .iter()
            .filter(|one| one.found.contains("flows' marks"))
            .map(|one| one.remedy.clone())
            .collect()
    };
    assert_eq!(marks(&scene.foreign()), Vec::<String>::new());
    mark("0x10000000/0x10000000");
    let found = marks(&scene.warnings());
    let [remedy] = found.as_slice() else { panic!("{found:?}") };
    let (_, mask) = remedy.rsplit_once("[host] ").unwrap();
    scene.lab.apply(&format!("[host]\n{mask}\n{SPEC}"));
    assert_eq!(marks(&scene.foreign()), Vec::<String>::new(), "{mask}");
}
