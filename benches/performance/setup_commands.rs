//! How long do the nine commands take that set up two networks with subnets,
//! NAT, a peering and a policy? The baselines: the same nine by a Python
//! program that starts `ip` and `iptables` (`vpcctl/vpcctl.py`), and the bare
//! `ip` and `iptables` commands of that program as one shell script. And does
//! it matter how many networks there are already?

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::harness::host::Host;
use super::harness::program::Program;
use super::harness::{Aim, Extent, Report, Table, in_turn, seconds, specs};

const ROUNDS: usize = 9;
const EXISTING: [usize; 3] = [0, 2, 200];

const POLICY: &str = r#"{"subnet": "172.16.1.0/24", "ingress": [
    {"port": 8080, "protocol": "tcp", "action": "allow"}, {"port": 22, "protocol": "tcp", "action": "deny"}]}"#;

const COMMANDS: [&str; 9] = [
    "vpc create --name vpc1 --cidr 172.16.0.0/16",
    "subnet add --vpc vpc1 --name public --cidr 172.16.1.0/24 --type public",
    "subnet add --vpc vpc1 --name private --cidr 172.16.2.0/24 --type private",
    "nat enable --vpc vpc1 --interface uplink0",
    "vpc create --name vpc2 --cidr 172.17.0.0/16",
    "subnet add --vpc vpc2 --name public --cidr 172.17.1.0/24 --type public",
    "nat enable --vpc vpc2 --interface uplink0",
    "peer create --vpc1 vpc1 --vpc2 vpc2",
    "firewall apply --vpc vpc1 --subnet public --policy POLICY",
];

/// Who sets up, and on what.
enum Contestant {
    Hostctl(Host),
    Python,
    Script(String),
}

pub fn ask(extent: &Extent) -> Report {
    let script = record();
    let processes = script.lines().count();
    let mut contestants: Vec<Contestant> = EXISTING
        .iter()
        .map(|existing| Contestant::Hostctl(host_of(extent.amount(*existing, *existing.min(&3)))))
        .collect();
    contestants.extend([Contestant::Python, Contestant::Script(script)]);
    let times = in_turn(extent.rounds(ROUNDS), &mut contestants, set_up);
    let [empty, few, many, python, script] = times.as_slice() else { unreachable!() };
    let header = ["nine set-up commands", "time", "over hostctl on an empty host"];
    let mut table =
        Table::new(&format!("In brackets the middle half of {} rounds.", extent.rounds(ROUNDS)), &header);
    for (name, time) in [
        ("hostctl, empty host".to_string(), empty),
        ("hostctl, 2 networks there already".into(), few),
        ("hostctl, 200 networks there already".into(), many),
        (format!("the Python program and its {processes} processes"), python),
        (format!("those {processes} processes alone, as a shell script"), script),
    ] {
        table.row([name, time.text(seconds), time.over(empty).to_string()]);
    }
    let starts = nft_starts();
    let most = starts.iter().max().copied().unwrap_or_default();
    let counts = starts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (faster, growth, bare) = (python.over(empty), many.over(few), script.over(empty));
    Report {
        aims: vec![
            Aim::new(
                "at least 10 times faster than the Python program",
                faster.to_string(),
                faster.median() >= 10.0,
            ),
            Aim::new(
                "at least 3 times faster than its bare commands",
                bare.to_string(),
                bare.median() >= 3.0,
            ),
            Aim::new(
                "at 200 networks at most 1.3 times as long as at 2",
                growth.to_string(),
                growth.median() <= 1.3,
            ),
            Aim::new("one start of `nft` a command", format!("{counts} (the nine in order)"), most <= 1),
        ],
        tables: vec![table],
        plots: Vec::new(),
    }
}

/// A host with so many networks, each with a subnet in a namespace.
fn host_of(networks: usize) -> Host {
    let host = Host::new();
    host.file("policy.json", POLICY);
    let mut spec = specs::spec(networks, 0);
    for index in 0..networks {
        let (name, high, low) = (specs::network(index), index >> 8, index & 255);
        writeln!(spec, "[networks.{name}.subnets.web]\ncidr = \"10.{high}.{low}.0/25\"\ntype = \"public\"\nnamespace = true")
            .unwrap();
    }
    fs::create_dir_all(host.path().join("etc/hostctl")).unwrap();
    host.file("etc/hostctl/host.toml", &spec);
    host.hostctl_output(&["apply"]);
    host
}

fn words(command: &str, host: &Host) -> Vec<String> {
    let policy = host.path().join("policy.json");
    command.replace("POLICY", policy.to_str().unwrap()).split(' ').map(Into::into).collect()
}

/// The nine commands by the Python program, on a new host.
fn python(host: &Host, environment: &[(&str, &str)]) -> f64 {
    host.file("policy.json", POLICY);
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/performance/vpcctl/vpcctl.py");
    let run = |command: &&str| {
        let start = ["/usr/bin/python3", program].map(String::from);
        let mut program = Program::new(start.into_iter().chain(words(command, host)));
        program = program.env("VPCCTL_STATE", host.path().to_str().unwrap());
        for (key, value) in environment {
            program = program.env(key, value);
        }
        program.must(host).seconds
    };
    COMMANDS.iter().map(run).sum()
}

/// The commands that the Python program runs.
fn record() -> String {
    let host = Host::new();
    let file = host.path().join("commands");
    python(&host, &[("VPCCTL_RECORD", file.to_str().unwrap())]);
    fs::read_to_string(file).unwrap()
}

fn set_up(contestant: &mut Contestant) -> f64 {
    match contestant {
        Contestant::Hostctl(host) => {
            let run = |command: &&str| {
                let words = words(command, host);
                host.hostctl(&words.iter().map(String::as_str).collect::<Vec<_>>()).must(host).seconds
            };
            let seconds = COMMANDS.iter().map(run).sum();
            take_down(host);
            seconds
        }
        Contestant::Python => python(&Host::new(), &[]),
        Contestant::Script(script) => {
            let host = Host::new();
            let file = host.file("script", script);
            Program::new(["sh", "-e", file.to_str().unwrap()]).must(&host).seconds
        }
    }
}

fn take_down(host: &Host) {
    for name in ["vpc1", "vpc2"] {
        host.hostctl_output(&["vpc", "delete", "--name", name, "--force"]);
    }
}

/// How often each of the nine commands starts nft: a program of that name,
/// found first, keeps count.
fn nft_starts() -> Vec<usize> {
    let host = host_of(2);
    let count = host.path().join("count");
    fs::create_dir(host.path().join("bin")).unwrap();
    let script = format!("#!/bin/sh\necho start >>{}\nexec /usr/sbin/nft \"$@\"\n", count.display());
    let nft = host.file("bin/nft", &script);
    fs::set_permissions(nft, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", host.path().join("bin").display(), std::env::var("PATH").unwrap());
    let starts = COMMANDS.iter().map(|command| {
        fs::write(&count, "").unwrap();
        let words = words(command, &host);
        let program = host.hostctl(&words.iter().map(String::as_str).collect::<Vec<_>>());
        program.env("PATH", &path).must(&host);
        fs::read_to_string(&count).unwrap().lines().count()
    });
    starts.collect()
}
