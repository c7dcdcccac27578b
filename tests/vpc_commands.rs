//! The commands that edit the spec: a VPC tool's demo, refusals, many networks.

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::commands::typed;
use crate::support::lab::{Lab, named_namespace};
use hostctl::firewall::nft;
use hostctl::host::{HostError, Step, Watch};
use hostctl::spec::{Name, SpecEdit, Subnet, SubnetKind};
use hostctl::testbed::{Options, Probe, probe, usual_services};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the program, which has to fail and to leave everything as it is.
fn refused(lab: &Lab, line: &str, code: i32) -> String {
    let before = state(lab);
    let output: Output = lab.hostctl(&line.split_whitespace().collect::<Vec<_>>());
    let problem = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}: {problem}");
    assert_eq!(state(lab), before, "{line}");
    problem
}

fn drop_in(lab: &Lab) -> Option<String> {
    fs::read_to_string(lab.root_dir().join("var/lib/hostctl/host.d/commands.json")).ok()
}

/// Hostctl's tables, without what rules fill.
fn firewall(lab: &Lab) -> String {
    format!("{:?}", lab.world.hypervisor.run(|| nft::observe().unwrap()))
}

fn without_state(line: &str) -> String {
    let words = line.split_whitespace().enumerate().filter(|(position, _)| *position != 1);
    words.map(|(_, word)| format!("{word} ")).chain(["\n".into()]).collect()
}

/// All that a command could change.
fn state(lab: &Lab) -> [String; 5] {
    [
        drop_in(lab).unwrap_or_default(),
        // Without whether somebody is there, which shows after a while.
        lab.output("ip", &["-br", "address"]).lines().map(without_state).collect(),
        lab.output("ip", &["netns", "list"]),
        firewall(lab),
        lab.output("ip", &["route"]).replace(" linkdown", ""),
    ]
}

fn reaches(from: &str, to: &str) -> bool {
    let to: IpAddr = to.parse().unwrap();
    probe(&named_namespace(from), Probe::Icmp(to), SECOND).is_allowed()
}

fn program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/bash\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Nothing of hostctl's is left.
fn assert_clean(lab: &Lab) {
    assert_eq!(lab.output("ip", &["netns", "list"]), "");
    let links = lab.output("ip", &["-br", "link"]);
    assert!(!links.contains("br-") && !links.contains("ns-"), "{links}");
    let rules = firewall(lab);
    assert!(!rules.contains("br-"), "{rules}");
    for set in ["net4", "guest4", "gateway4", "public4"] {
        assert!(!rules.contains(&format!("\"{set}\": {{\"")), "{set}: {rules}");
    }
    assert_eq!(drop_in(lab), None);
}

/// Runs a script in the hypervisor's namespace. `sudo`, which isn't
/// everywhere, is a program that keeps what ran and how it ended.
fn demo(lab: &Lab) -> Vec<(i32, String)> {
    let (bin, log) = (lab.root_dir().join("bin"), lab.root_dir().join("log"));
    fs::create_dir(&bin).unwrap();
    let hostctl = env!("CARGO_BIN_EXE_hostctl");
    program(
        &bin.join("hostctl"),
        &format!("exec '{hostctl}' --root-dir {} \"$@\"", lab.root_dir().display()),
    );
    let keep =
        format!("out=$(\"$@\" 2>&1); code=$?; echo \"== $code $*\n$out\" >>{}; exit $code", log.display());
    program(&bin.join("sudo"), &keep);
    fs::copy(data("test-policy.json"), lab.root_dir().join("test-policy.json")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    lab.world.hypervisor.run(|| {
        let mut bash = Command::new("bash");
        bash.arg(data("vpc-demo.sh"))
            .env("PATH", path)
            .env("ROOT", lab.root_dir())
            .current_dir(lab.root_dir());
        bash.output().unwrap()
    });
    let log = fs::read_to_string(log).unwrap();
    let entries = log.split("== ").skip(1).map(|entry| {
        let (code, rest) = entry.split_once(' ').unwrap();
        (code.parse().unwrap(), rest.to_string())
    });
    entries.collect()
}

#[test]
fn the_demo_of_a_vpc_tool_runs_as_it_says() {
    let lab = Lab::new(Options::default());
    let ran = demo(&lab);
    let one = |start: &str| {
        let found: Vec<_> = ran.iter().filter(|(_, text)| text.starts_with(start)).collect();
        assert!(!found.is_empty(), "{start}: {ran:#?}");
        found
    };
    for (code, text) in one("hostctl") {
        assert_eq!(*code, 0, "{text}");
    }
    assert_eq!(one("hostctl").len(), 14);
    let ping = |from: &str, to: &str| one(&format!("{from} ping -c {to}"))[0];
    let (public, private) = ("ip netns exec vpc1-public", "timeout 3 ip netns exec vpc1-private");
    // Test 1: the same VPC.
    assert_eq!(ping(public, "3 10.0.2.2").0, 0, "{ran:#?}");
    // Test 2: NAT for the public subnet only.
    assert_eq!(ping(public, "3 203.0.113.1").0, 0, "{ran:#?}");
    assert_ne!(ping(private, "2 203.0.113.1").0, 0, "{ran:#?}");
    // Test 3: isolation.
    assert_ne!(ping(&format!("timeout 3 {public}"), "2 172.16.1.2").0, 0, "{ran:#?}");
    // Test 4: peering.
    assert_eq!(ping(public, "3 172.16.1.2").0, 0, "{ran:#?}");
    let routes = &one(&format!("{public} ip route"))[0].1;
    assert!(routes.contains("172.16.0.0/16 via 10.0.0.1 "), "{routes}");
    // Test 5: a web server, before and after a policy that allows its port.
    let served = one("curl -s --max-time 5 http://10.0.1.2:8080");
    assert_eq!(served.len(), 2);
    for (code, page) in served {
        assert!(*code == 0 && page.contains("Hello from subnet public of vpc1"), "{page}");
    }
    assert_eq!(one("curl -s --max-time 2 http://10.0.1.2:22")[0].0, 28, "denied: nothing answers");
    let log = &one("tail")[0].1;
    assert!(log.contains("network vpc1 (10.0.0.0/16) created: done: "), "{log}");
    assert!(log.contains("vpc1 and vpc2 peered: done: "), "{log}");
    let list = &one("hostctl vpc list")[0].1;
    assert!(list.contains("vpc1") && list.contains("vpc2"), "{list}");
    assert_clean(&lab);
}

#[test]
fn what_cannot_be_is_refused_and_nothing_changes() {
    let lab = Lab::new(Options::default());
    let etc = lab.root_dir().join("etc/hostctl");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("host.toml"), "# mine\n[networks.mine]\ncidr = \"10.9.0.0/16\"\n").unwrap();
    typed(&lab, "vpc create --name vpc1 --cidr 10.0.0.0/16");
    typed(&lab, "subnet add --vpc vpc1 --name web --cidr 10.0.1.0/24 --type public");
    typed(&lab, "vpc create --name vpc2 --cidr 10.1.0.0/16");
    typed(&lab, "peer create --vpc1 vpc1 --vpc2 vpc2");
    typed(&lab, "peer create --vpc1 mine --vpc2 vpc2");
    fs::copy(data("test-policy.json"), lab.root_dir().join("other.json")).unwrap();
    let policy = lab.root_dir().join("other.json");
    let policy = policy.display();
    for (line, code, wanted) in [
        ("vpc create --name vpc1 --cidr 10.3.0.0/16", 3, "there is already a network vpc1, at "),
        ("vpc create --name mine --cidr 10.3.0.0/16", 3, "etc/hostctl/host.toml:2"),
        ("vpc create --name vpc3 --cidr 10.0.128.0/17", 3, "commands.json (not written):"),
        ("vpc create --name v/3 --cidr 10.3.0.0/16", 2, "v/3"),
        ("vpc create --name vpc3 --cidr 10.3.0.1/16", 2, "10.3.0.0/16"),
        ("subnet add --vpc vpc1 --name web --cidr 10.0.2.0/24 --type public", 3, "already a subnet web"),
        ("subnet add --vpc vpc1 --name db --cidr 10.0.1.128/25 --type public", 3, "overlap"),
        ("subnet add --vpc vpc1 --name db --cidr 10.2.1.0/24 --type public", 3, "10.0.0.0/16"),
        ("subnet add --vpc vpc11 --name db --cidr 10.0.2.0/24 --type public", 3, "did you mean vpc1?"),
        (
            "subnet add --vpc mine --name db --cidr 10.9.2.0/24 --type public",
            3,
            "the network mine is defined in",
        ),
        (
            "subnet add --vpc vpc1 --name db --cidr 10.0.2.0/24 --type secret",
            2,
            "[possible values: public, private]",
        ),
        ("subnet delete --vpc vpc1 --name weeb", 3, "did you mean web?"),
        ("nat enable --vpc mine --interface uplink0", 3, "edit it there"),
        ("nat enable --vpc zzz --interface uplink0", 3, "there is mine, vpc1, vpc2"),
        ("peer create --vpc1 vpc2 --vpc2 vpc2", 3, "with itself"),
        ("peer delete --vpc1 vpc1 --vpc2 mine", 3, "aren't peered"),
        ("vpc delete --name mine", 3, "host.toml:2"),
        ("vpc delete --name vpc2", 3, "--force deletes the peering too"),
        ("firewall remove --vpc vpc1 --subnet web", 3, "no policy of its own"),
        ("firewall apply --vpc vpc1 --subnet web --policy nowhere.json", 3, "nowhere.json"),
        ("vpc exec --vpc vpc1 --subnet db -- true", 3, "there is no subnet db"),
        ("vpc show --name vcp2", 3, "did you mean vpc2?"),
    ] {
        let problem = refused(&lab, line, code);
        assert!(problem.contains(wanted), "{line}: {problem}");
    }
    // A policy says which subnet it is for.
    let wrong = lab.root_dir().join("wrong.json");
    fs::write(&wrong, "{\"subnet\": \"10.0.9.0/24\", \"ingress\": []}").unwrap();
    let line = format!("firewall apply --vpc vpc1 --subnet web --policy {}", wrong.display());
    assert!(refused(&lab, &line, 3).contains("10.0.9.0/24"));
    typed(&lab, &format!("firewall apply --vpc vpc1 --subnet web --policy {policy}"));
    let deleted = typed(&lab, "vpc delete --name vpc2 --force");
    assert!(deleted.contains("the peering of vpc1 and vpc2, the peering of mine and vpc2"), "{deleted}");
    typed(&lab, "vpc delete --name vpc1");
    assert_eq!(drop_in(&lab), None);
    assert!(typed(&lab, "spec show").contains("host.toml:2\n[networks.mine]"));
    let spec: Value = serde_json::from_str(&typed(&lab, "--json spec show")).unwrap();
    assert_eq!(spec["spec"]["networks"]["mine"]["cidr"], "10.9.0.0/16");
    assert!(spec["origins"]["networks.mine"].as_str().unwrap().ends_with("etc/hostctl/host.toml:2"));
}

#[test]
fn peers_of_peers_are_strangers_and_flows_end_with_their_peering() {
    let lab = Lab::new(Options::default());
    for number in 1..=3 {
        typed(&lab, &format!("vpc create --name v{number} --cidr 10.{number}.0.0/16"));
        typed(
            &lab,
            &format!("subnet add --vpc v{number} --name app --cidr 10.{number}.1.0/24 --type public"),
        );
    }
    let reached = |from: usize, to: usize| reaches(&format!("v{from}-app"), &format!("10.{to}.1.2"));
    assert!(!reached(1, 2) && !reached(2, 3));
    typed(&lab, "peer create --vpc1 v1 --vpc2 v2");
    typed(&lab, "peer create --vpc1 v3 --vpc2 v2");
    assert!(reached(1, 2) && reached(2, 1) && reached(2, 3) && reached(3, 2));
    assert!(!reached(1, 3) && !reached(3, 1));
    let list = typed(&lab, "peer list");
    assert_eq!(list.lines().count(), 3, "{list}");
    // Named the other way round.
    typed(&lab, "peer delete --vpc1 v2 --vpc2 v1");
    assert!(!reached(1, 2) && reached(2, 3));
    let routes = typed(&lab, "vpc exec --vpc v1 --subnet app -- ip route");
    assert!(routes.contains("default via 10.1.0.1") && !routes.contains("10.2.0.0/16"), "{routes}");
    let code = lab.hostctl(&["vpc", "exec", "--vpc", "v1", "--subnet", "app", "--", "sh", "-c", "exit 7"]);
    assert_eq!(code.status.code(), Some(7));
    typed(&lab, "subnet delete --vpc v1 --name app");
    assert!(!lab.output("ip", &["netns", "list"]).contains("v1-app"));
    for number in 1..=3 {
        typed(&lab, &format!("vpc delete --name v{number}"));
    }
    assert_clean(&lab);
}

#[test]
fn nat_and_policies_come_and_go() {
    let lab = Lab::new(Options::default());
    typed(&lab, "vpc create --name vpc1 --cidr 10.0.0.0/16 --cidr6 fd00:0:0:100::/56");
    typed(
        &lab,
        "subnet add --vpc vpc1 --name public --cidr 10.0.1.0/24 --cidr6 fd00:0:0:100::/64 --type public",
    );
    assert!(!reaches("vpc1-public", "203.0.113.1"));
    typed(&lab, "nat enable --vpc vpc1 --interface uplink0");
    assert!(reaches("vpc1-public", "203.0.113.1"));
    let listed: Value = serde_json::from_str(&typed(&lab, "--json vpc list")).unwrap();
    assert_eq!((&listed[0]["nat"], &listed[0]["subnets"]), (&"uplink0".into(), &1.into()));
    typed(&lab, "nat disable --vpc vpc1");
    assert!(!reaches("vpc1-public", "203.0.113.1"));

    let _services = usual_services(&named_namespace("vpc1-public"), "web").unwrap();
    let open =
        || probe(&lab.world.hypervisor, Probe::Tcp("10.0.1.2:80".parse().unwrap()), SECOND).is_allowed();
    assert!(open());
    // Where no path has a space, as a clone's may.
    let policy = lab.root_dir().join("policy.json");
    fs::copy(data("test-policy.json"), &policy).unwrap();
    let line = format!("firewall apply --vpc vpc1 --subnet public --policy {}", policy.display());
    let before = state(&lab);
    let planned = typed(&lab, &format!("{line} --dry-run"));
    assert!(planned.contains("nft"), "{planned}");
    assert_eq!(state(&lab), before);
    typed(&lab, &line);
    let shown = typed(&lab, "firewall show --vpc vpc1 --subnet public");
    assert_eq!(
        shown,
        "vpc1-public: vpc1-public\ningress:\n    100 deny tcp 22 from anybody\n    100 allow tcp 8080 from anybody\n        deny everything else\negress: open\n"
    );
    let subnets: Value = serde_json::from_str(&typed(&lab, "--json subnet list --vpc vpc1")).unwrap();
    assert_eq!(subnets[0]["policy"][0], "vpc1-public");
    typed(&lab, "firewall remove --vpc vpc1 --subnet public");
    assert!(typed(&lab, "firewall show --vpc vpc1 --subnet public").starts_with("no policy acts"));
    assert!(open());
    for line in [
        "vpc create --name vpc2 --cidr 10.1.0.0/16 --dry-run",
        "subnet delete --vpc vpc1 --name public --dry-run",
        "nat enable --vpc vpc1 --interface uplink0 --dry-run",
        "vpc delete --name vpc1 --dry-run",
    ] {
        let before = state(&lab);
        assert_ne!(typed(&lab, line), "nothing to do\n", "{line}");
        assert_eq!(state(&lab), before, "{line}");
    }
    typed(&lab, "vpc delete --name vpc1");
    assert_clean(&lab);
}

#[test]
fn a_failed_apply_takes_the_drop_in_back() {
    let lab = Lab::new(Options::default());
    typed(&lab, "vpc create --name vpc1 --cidr 10.0.0.0/16");
    typed(&lab, "subnet add --vpc vpc1 --name a --cidr 10.0.1.0/24 --type public");
    // A foreign namespace and a foreign bridge are in the way.
    lab.output("ip", &["netns", "add", "vpc1-b"]);
    lab.output("ip", &["link", "add", "br-vpc2", "type", "bridge"]);
    let problem = refused(&lab, "subnet add --vpc vpc1 --name b --cidr 10.0.2.0/24 --type public", 1);
    assert!(problem.contains("vpc1-b"), "{problem}");
    let problem = refused(&lab, "vpc create --name vpc2 --cidr 10.1.0.0/16", 1);
    assert!(problem.contains("br-vpc2"), "{problem}");
    // Somebody else is at it.
    fs::create_dir_all(lab.root_dir().join("run/hostctl")).unwrap();
    let lock = hostctl::host::Lock::take(&lab.host.root, "apply").unwrap();
    let problem = refused(&lab, "vpc create --name vpc3 --cidr 10.1.0.0/16", 4);
    assert!(problem.contains("being changed by hostctl apply"), "{problem}");
    drop(lock);
    // What was applied from a file that isn't the host's own would go.
    let file = lab.root_dir().join("other.toml");
    fs::write(&file, "[networks.other]\ncidr = \"10.7.0.0/16\"\n").unwrap();
    typed(&lab, &format!("apply {}", file.display()));
    let problem = refused(&lab, "vpc create --name vpc3 --cidr 10.1.0.0/16", 3);
    assert!(problem.contains("the host has the network other, which no file"), "{problem}");
    typed(&lab, "apply");
    typed(&lab, "vpc create --name vpc3 --cidr 10.1.0.0/16");
}

/// Ends an apply before a step.
struct Before(usize);

impl Watch for Before {
    fn before(&mut self, number: usize, _: usize, _: &Step) -> Result<(), HostError> {
        if number < self.0 { Ok(()) } else { Err(HostError::Interrupted) }
    }
}

#[test]
fn a_failed_step_takes_host_and_drop_in_back() {
    let lab = Lab::new(Options::default());
    typed(&lab, "vpc create --name vpc1 --cidr 10.0.0.0/16");
    typed(&lab, "subnet add --vpc vpc1 --name a --cidr 10.0.1.0/24 --type public");
    let before = state(&lab);
    let change = SpecEdit::AddSubnet {
        network: "vpc1".into(),
        name: Name::new("b").unwrap(),
        subnet: Box::new(Subnet {
            cidr: "10.0.2.0/24".parse().unwrap(),
            cidr6: None,
            kind: SubnetKind::Private,
            policy: None,
            namespace: true,
            address: None,
            address6: None,
            limits: hostctl::spec::LimitOverrides::default(),
        }),
    };
    let total = typed(&lab, "subnet add --vpc vpc1 --name b --cidr 10.0.2.0/24 --type private --dry-run")
        .lines()
        .count();
    assert!(total > 5);
    for step in 1..=5 {
        let (host, change) = (&lab.host, &change);
        let failed =
            lab.world.hypervisor.block_on(|| async move { host.edit(change, &mut Before(step)).await });
        let error = failed.unwrap().unwrap_err().to_string();
        assert!(error.contains("The host is back at generation 2."), "{error}");
        assert_eq!(state(&lab), before, "before step {step}");
    }
    assert_eq!(typed(&lab, "apply"), "nothing to do\n");
}

#[test]
fn forty_networks_with_five_subnets_each() {
    let lab = Lab::new(Options::default());
    let mut spec = String::new();
    for number in 0..40 {
        writeln!(spec, "[networks.n{number}]\ncidr = \"10.{number}.0.0/16\"").unwrap();
        for subnet in 0..5 {
            let kind = if subnet < 3 { "public" } else { "private" };
            writeln!(
                spec,
                "[networks.n{number}.subnets.s{subnet}]\ncidr = \"10.{number}.{subnet}.0/24\"\n\
                 type = \"{kind}\"\nnamespace = true"
            )
            .unwrap();
        }
    }
    spec.push_str("[[peerings]]\nbetween = [\"n3\", \"n4\"]\n");
    let begun = Instant::now();
    let steps = lab.apply(&spec).steps.len();
    eprintln!("40 networks, 200 namespaces: {steps} steps in {:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(lab.apply(&spec).steps, []);
    eprintln!("again: {:?}", begun.elapsed());
    for (from, to, allowed) in [
        ("n0-s0", "10.0.4.2", true),
        ("n39-s4", "10.39.0.2", true),
        ("n0-s0", "203.0.113.1", true),
        ("n39-s2", "203.0.113.1", true),
        ("n39-s3", "203.0.113.1", false),
        ("n0-s0", "10.1.0.2", false),
        ("n39-s0", "10.0.0.2", false),
        ("n3-s4", "10.4.4.2", true),
        ("n4-s0", "10.5.0.2", false),
    ] {
        assert_eq!(reaches(from, to), allowed, "{from} {to}");
    }
    let begun = Instant::now();
    lab.apply("");
    eprintln!("removed: {:?}", begun.elapsed());
    lab.down();
    assert_clean(&lab);
}

#[test]
fn connectivity_is_measured_and_held_against_the_spec() {
    let lab = Lab::new(Options::default());
    for line in [
        "vpc create --name a --cidr 10.1.0.0/16 --cidr6 fd00:0:0:10::/60",
        "subnet add --vpc a --name x --cidr 10.1.1.0/24 --cidr6 fd00:0:0:11::/64 --type public",
        "subnet add --vpc a --name y --cidr 10.1.2.0/24 --cidr6 fd00:0:0:12::/64 --type private",
        "vpc create --name b --cidr 10.2.0.0/16",
        "subnet add --vpc b --name x --cidr 10.2.1.0/24 --type public",
        "deploy webserver --vpc b --subnet x --port 8080",
    ] {
        typed(&lab, line);
    }
    let all = typed(&lab, "test all");
    assert!(all.ends_with("8 tests, all as the spec says\n"), "{all}");
    assert_eq!(all.matches("not reached: dropped").count(), 4, "{all}");
    typed(&lab, "test connectivity --vpc a --from-subnet x --to-subnet y");
    let tcp = "test connectivity --vpc a --from-subnet x --to-vpc b --to-subnet x --port 8080 --protocol tcp";
    assert!(typed(&lab, tcp).contains("not reached"));
    typed(&lab, "peer create --vpc1 a --vpc2 b");
    assert!(typed(&lab, tcp).contains("reached: allowed"));
    // Somebody else's firewall drops what the spec allows: that is a difference.
    lab.output("nft", &["add table inet theirs { chain f { type filter hook forward priority 9; ip daddr 10.2.1.2 drop; }; }"]);
    let output = lab.hostctl(&tcp.split(' ').collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1));
    let different = text(&output.stderr);
    assert!(different.contains("1 of 1 tests differ from the spec"), "{different}");
}

#[test]
fn apps_run_are_listed_and_stop() {
    let lab = Lab::new(Options::default());
    for line in [
        "vpc create --name a --cidr 10.1.0.0/16",
        "subnet add --vpc a --name x --cidr 10.1.1.0/24 --type public",
        "app run --vpc a --subnet x --name talker --restart always -- /bin/sh -c echo\u{a0}hello;sleep\u{a0}3600",
    ] {
        let words: Vec<String> = line.split(' ').map(|word| word.replace('\u{a0}', " ")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = lab.hostctl(&words);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    }
    let list = typed(&lab, "app list");
    assert!(list.contains("talker") && list.contains("a-x"), "{list}");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !typed(&lab, "app logs talker").contains("hello") {
        assert!(std::time::Instant::now() < deadline, "nothing was logged");
    }
    let shown = typed(&lab, "spec show");
    assert!(shown.contains("talker"), "{shown}");
    let status: Value = serde_json::from_str(&typed(&lab, "--json status")).unwrap();
    assert_eq!(status["namespaces"][0]["name"], "a-x");
    assert_eq!(status["namespaces"][0]["up"], true);
    assert_eq!(status["apps"][0]["state"], "running");
    assert_eq!(status["networks"][0]["nat"], serde_json::json!([]));
    let table = typed(&lab, "status");
    assert!(table.contains("a-x") && table.contains("talker"), "{table}");
    typed(&lab, "app stop talker");
    assert!(!typed(&lab, "app list").contains("talker"));
    assert!(refused(&lab, "app stop talker", 3).contains("there is no app talker"));
    typed(&lab, "cleanup");
    assert_clean(&lab);
}
