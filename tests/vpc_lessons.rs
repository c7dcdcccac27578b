//! What the author of a VPC tool ran into ("What I Learned Building VPC Control"), and what he wished for.

use std::process::Output;

use crate::support::commands::typed;
use crate::support::lab::Lab;
use hostctl::testbed::Options;
use serde_json::Value;

fn hostctl(lab: &Lab, line: &str) -> Output {
    lab.hostctl(&line.split_whitespace().collect::<Vec<_>>())
}

fn refused(lab: &Lab, line: &str) -> String {
    let output = hostctl(lab, line);
    assert!(!output.status.success(), "{line}");
    String::from_utf8(output.stderr).unwrap()
}

fn vpc() -> Lab {
    let lab = Lab::new(Options::default());
    typed(&lab, "vpc create --name demo-vpc --cidr 10.0.0.0/16");
    typed(&lab, "subnet add --vpc demo-vpc --name public --cidr 10.0.1.0/24 --type public");
    typed(&lab, "subnet add --vpc demo-vpc --name private --cidr 10.0.2.0/24 --type private");
    lab
}

#[test]
fn problem_1_subnets_talk_to_each_other() {
    let lab = vpc();
    assert!(typed(&lab, "test all").ends_with("2 tests, all as the spec says\n"));
}

/// `veth-demo-vpc-public` was too long a name.
#[test]
fn problem_2_long_names_become_short_interfaces() {
    let lab = Lab::new(Options::default());
    typed(&lab, "vpc create --name a-network-with-a-long-name --cidr 10.0.0.0/16");
    typed(
        &lab,
        "subnet add --vpc a-network-with-a-long-name --name and-a-long-subnet --cidr 10.0.1.0/24 --type public",
    );
    let links: Value = serde_json::from_str(&lab.output("ip", &["-json", "link"])).unwrap();
    let ours: Vec<&Value> =
        links.as_array().unwrap().iter().filter(|link| link["group"] == "26735").collect();
    assert_eq!(ours.len(), 2, "{links}");
    for link in ours {
        assert!(link["ifname"].as_str().unwrap().len() <= 15, "{link}");
        assert!(link["altnames"][0].as_str().unwrap().contains("a-network-with-a-long-name"), "{link}");
    }
    assert_eq!(
        lab.output("ip", &["netns", "list"]).split(' ').next(),
        Some("a-network-with-a-long-name-and-a-long-subnet")
    );
}

/// The HTTP servers wouldn't die.
#[test]
fn problem_3_deleting_a_vpc_ends_what_runs_in_it() {
    let lab = vpc();
    typed(&lab, "deploy webserver --vpc demo-vpc --subnet public --port 8080");
    let deaf = ["app", "run", "--vpc", "demo-vpc", "--subnet", "private", "--name", "deaf", "--"];
    let deaf = [&deaf[..], &["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"]].concat();
    assert!(lab.hostctl(&deaf).status.success());
    let pids = |namespace: &str| lab.output("ip", &["netns", "pids", namespace]);
    assert!(!pids("demo-vpc-public").is_empty() && !pids("demo-vpc-private").is_empty());
    let running: Vec<u32> = [pids("demo-vpc-public"), pids("demo-vpc-private")]
        .concat()
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    typed(&lab, "vpc delete --name demo-vpc");
    assert_eq!(lab.output("ip", &["netns", "list"]), "");
    for pid in running {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("State:\tZ"), "{pid} lives on: {status}");
    }
}

/// Forwarding was off.
#[test]
fn problem_4_nat_works_without_further_settings() {
    let lab = vpc();
    let forwarding =
        |name: &str| lab.world.hypervisor.sysctl_get(&format!("net/ipv4/conf/{name}/forwarding")).unwrap();
    typed(&lab, "nat enable --vpc demo-vpc --interface uplink0");
    assert_eq!(forwarding("uplink0"), "1");
    let ping = ["netns", "exec", "demo-vpc-public", "ping", "-c", "1", "203.0.113.1"];
    lab.output("ip", &ping);
    typed(&lab, "cleanup");
    assert_eq!(forwarding("uplink0"), "0", "as it was found");
}

#[test]
fn wish_1_errors_say_what_is_wrong_and_what_would_be_right() {
    let lab = vpc();
    for (line, parts) in [
        ("subnet add --vpc demo-vcp --name x --cidr 10.0.3.0/24 --type public", ["demo-vcp", "demo-vpc"]),
        (
            "subnet add --vpc demo-vpc --name x --cidr 10.0.1.128/25 --type public",
            ["10.0.1.128/25", "10.0.1.0/24"],
        ),
        (
            "subnet add --vpc demo-vpc --name x --cidr 10.9.0.0/24 --type public",
            ["10.9.0.0/24", "10.0.0.0/16"],
        ),
        (
            "subnet add --vpc demo-vpc --name x --cidr 10.0.3.7/24 --type public",
            ["10.0.3.7/24", "10.0.3.0/24"],
        ),
        ("vpc create --name demo-vpc --cidr 10.7.0.0/16", ["demo-vpc", "already"]),
        ("nat enable --vpc demo-vpc --interface eth9", ["eth9", "no interface"]),
    ] {
        let problem = refused(&lab, line);
        for part in parts {
            assert!(problem.contains(part), "{line}: {problem}");
        }
    }
}

#[test]
fn wish_2_a_dry_run_shows_the_commands_and_runs_none() {
    let lab = vpc();
    let before = lab.output("ip", &["-br", "address"]);
    for line in [
        "subnet add --vpc demo-vpc --name third --cidr 10.0.3.0/24 --type public --dry-run",
        "vpc delete --name demo-vpc --dry-run",
        "cleanup --dry-run",
    ] {
        let shown = typed(&lab, line);
        assert!(shown.contains("ip ") && shown.contains("nft "), "{line}: {shown}");
        assert_eq!(lab.output("ip", &["-br", "address"]), before, "{line}");
    }
}

#[test]
fn wish_3_status_shows_health() {
    let lab = vpc();
    typed(&lab, "deploy webserver --vpc demo-vpc --subnet public --port 8080");
    let healthy = typed(&lab, "status");
    for part in ["demo-vpc", "br-demo-vpc", "demo-vpc-public", "demo-vpc-private", "running", "no drift"] {
        assert!(healthy.contains(part), "{part}: {healthy}");
    }
    lab.output("ip", &["link", "set", "br-demo-vpc", "down"]);
    lab.output("ip", &["-n", "demo-vpc-public", "route", "del", "default"]);
    let ill = typed(&lab, "status");
    assert!(
        ill.contains("ip link set br-demo-vpc up") && ill.contains("ip -n demo-vpc-public route add"),
        "{ill}"
    );
    assert!(!hostctl(&lab, "test all").status.success(), "and packets show it");
}

#[test]
fn wish_4_preferences_are_in_a_file() {
    let lab = Lab::new(Options::default());
    let etc = lab.root_dir().join("etc/hostctl");
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::write(
        etc.join("host.toml"),
        "[host]\nuplink = \"uplink0\"\n[networks.mine]\ncidr = \"10.8.0.0/16\"\n",
    )
    .unwrap();
    typed(&lab, "apply");
    typed(&lab, "vpc create --name other --cidr 10.9.0.0/16");
    let problem = refused(&lab, "vpc delete --name mine");
    assert!(problem.contains("host.toml:3"), "what a file says is changed there: {problem}");
    let shown = typed(&lab, "spec show");
    assert!(shown.contains("host.toml") && shown.contains("commands.json"), "{shown}");
}
