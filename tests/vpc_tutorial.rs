//! The test scenarios of the VPC tutorial ("Building Your Own VPC on Linux from Scratch"), each by the commands that it would have
//! typed, with real packets.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::support::commands::typed;
use crate::support::lab::{Lab, named_namespace};
use hostctl::testbed::{Options, Probe, Service, probe, usual_services};

const SECOND: Duration = Duration::from_secs(1);

/// A server on the internet (RFC 5737), where the tutorial has 8.8.8.8.
const INTERNET: &str = "203.0.113.1";

fn run(lab: &Lab, lines: &[&str]) {
    for line in lines {
        typed(lab, line);
    }
}

fn pings(from: &str, to: &str) -> bool {
    probe(&named_namespace(from), Probe::Icmp(to.parse::<IpAddr>().unwrap()), SECOND).is_allowed()
}

fn connects(from: &str, to: &str) -> bool {
    probe(&named_namespace(from), Probe::Tcp(to.parse::<SocketAddr>().unwrap()), SECOND).is_allowed()
}

/// The tutorial's VPC and its neighbour.
fn two_vpcs() -> Lab {
    let lab = Lab::new(Options::default());
    run(
        &lab,
        &[
            "vpc create --name my-vpc --cidr 10.0.0.0/16",
            "subnet add --vpc my-vpc --name public --cidr 10.0.1.0/24 --type public",
            "subnet add --vpc my-vpc --name private --cidr 10.0.2.0/24 --type private",
            "nat enable --vpc my-vpc --interface uplink0",
            "vpc create --name dev-vpc --cidr 10.1.0.0/16",
            "subnet add --vpc dev-vpc --name public --cidr 10.1.1.0/24 --type public",
        ],
    );
    lab
}

#[test]
fn test_1_subnets_of_one_vpc_reach_each_other() {
    let lab = two_vpcs();
    run(&lab, &["test connectivity --vpc my-vpc --from-subnet public --to-subnet private"]);
    assert!(pings("my-vpc-public", "10.0.2.2") && pings("my-vpc-private", "10.0.1.2"));
}

#[test]
fn test_2_vpcs_are_isolated() {
    let lab = two_vpcs();
    assert!(pings("dev-vpc-public", "10.1.0.1"), "it is there");
    for from in ["my-vpc-public", "my-vpc-private"] {
        assert!(!pings(from, "10.1.1.2") && !pings(from, "10.1.0.1"), "{from}");
    }
    assert!(!pings("dev-vpc-public", "10.0.1.2"));
    drop(lab);
}

#[test]
fn test_3_public_subnets_reach_the_internet_and_private_ones_dont() {
    let lab = two_vpcs();
    assert!(pings("my-vpc-public", INTERNET));
    assert!(!pings("my-vpc-private", INTERNET));
    run(&lab, &["nat disable --vpc my-vpc"]);
    assert!(!pings("my-vpc-public", INTERNET));
}

#[test]
fn test_4_peered_vpcs_reach_each_other() {
    let lab = two_vpcs();
    run(&lab, &["peer create --vpc1 my-vpc --vpc2 dev-vpc"]);
    assert!(pings("my-vpc-public", "10.1.1.2") && pings("dev-vpc-public", "10.0.1.2"));
    assert!(pings("my-vpc-private", "10.1.1.2"));
    run(&lab, &["peer delete --vpc1 my-vpc --vpc2 dev-vpc"]);
    assert!(!pings("my-vpc-public", "10.1.1.2") && !pings("dev-vpc-public", "10.0.1.2"));
}

/// Step 8: the policy allows port 80 and denies port 22.
#[test]
fn test_5_a_policy_opens_port_80_and_not_port_22() {
    let lab = two_vpcs();
    let web = named_namespace("my-vpc-public");
    let served: Vec<Service> = usual_services(&web, "web").unwrap();
    assert!(!served.is_empty());
    let from = "my-vpc-private";
    assert!(connects(from, "10.0.1.2:80") && connects(from, "10.0.1.2:22"));
    let policy = lab.root_dir().join("policy.json");
    std::fs::write(
        &policy,
        r#"{
  "subnet": "10.0.1.0/24",
  "ingress": [
    { "port": 80, "protocol": "tcp", "action": "allow" },
    { "port": 22, "protocol": "tcp", "action": "deny" }
  ]
}"#,
    )
    .unwrap();
    let apply = format!("firewall apply --vpc my-vpc --subnet public --policy {}", policy.display());
    run(&lab, &[&apply]);
    assert!(connects(from, "10.0.1.2:80") && !connects(from, "10.0.1.2:22"));
    assert!(pings("my-vpc-public", INTERNET), "what it opens itself isn't the policy's business");
    run(&lab, &["firewall remove --vpc my-vpc --subnet public"]);
    assert!(connects(from, "10.0.1.2:22"));
    drop(served);
}

/// The list of what the tutorial's own suite tests, from creation to cleanup.
#[test]
fn cleanup_leaves_nothing() {
    let lab = two_vpcs();
    let rules = lab.output("nft", &["list", "ruleset"]);
    run(&lab, &["deploy webserver --vpc my-vpc --subnet public --port 8080"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !connects("my-vpc-private", "10.0.1.2:8080") {
        assert!(Instant::now() < deadline, "the web server never answered");
    }
    run(&lab, &["vpc delete --name dev-vpc", "cleanup"]);
    assert!(rules.contains("br-my-vpc"));
    assert_eq!(lab.output("ip", &["netns", "list"]), "");
    assert!(!lab.output("ip", &["-br", "link"]).contains("br-"));
    assert!(!lab.output("nft", &["list", "ruleset"]).contains("hostctl"));
}
