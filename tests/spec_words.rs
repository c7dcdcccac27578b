//! Mistakes of people who come from elsewhere, and what they read about them.

use crate::support::spec_support::{Case, json, toml};
use hostctl::spec::load_policy;
use insta::assert_snapshot;

fn policy(text: &str) -> String {
    let case = Case::new();
    case.write("policy.json", text.as_bytes());
    match load_policy(&case.path("policy.json")) {
        Ok(_) => "ok".into(),
        Err(error) => case.tidy(&error.to_string()),
    }
}

#[test]
fn a_policy_in_a_clouds_words() {
    assert_snapshot!(policy(
        r#"{
  "name": "web",
  "subnet": "web tier",
  "inbound": [{ "port": 80, "protocol": "tcp" }],
  "outbound": [],
  "ingress": [
    { "port": 80, "protocol": "TCP" },
    { "port": 80, "protocol": "all" },
    { "port": "all", "protocol": "tcp" },
    { "protocol": "tcp", "source": "any" },
    { "protocol": "tcp", "cidr_block": "10.0.0.0/8", "action": "ALLOW" },
    { "protocol": "icmp6", "from": "10.0.0.0/8", "action": "drop" }
  ]
}"#
    ));
}

#[test]
fn a_port_without_a_protocol_is_told_where_none_was_written() {
    assert_eq!(
        policy(r#"{ "ingress": [{ "port": 80 }] }"#),
        "policy.json:1:25: error: a port without a protocol\n  hint: add protocol: tcp or udp"
    );
}

#[test]
fn a_name_is_a_key_of_its_table() {
    assert_snapshot!(toml(
        r#"
[networks.prod]
name = "prod"
cidr = "10.0.0.0/16"
[networks.prod.subnets.web]
name = "web"
cidr_block = "10.0.1.0/24"
cidr = "10.0.1.0/24"
kind = "public"
type = "public"
[vms.a]
name = "a"
vpc = "prod"
network = "prod"
subnet = "web"
cpus = 2
ram = "1G"
image = "i"
arch = "amd64"
[policies.p]
name = "p"
inbound = []
[[peerings]]
name = "x"
between = ["prod", "prod"]
"#
    ));
}

/// Every text that a hint has for an example, in the place of every key: none
/// is told to write what was just refused.
#[test]
fn no_hint_suggests_what_was_written() {
    let examples = [
        "web",
        "prod",
        "10.0.1.0/24",
        "10.1.0.0/24",
        "10.1.0.2",
        "fd00:0:0:1::2",
        "fd00:0:0:1::/64",
        "auto",
        "tailscale0",
        "tcp",
        "full",
        "deny",
        "allow",
        "public",
        "unit",
        "02:00:00:00:00:01",
        "256M",
        "probe",
        "/boot/vmlinuz",
        "/boot/initrd",
        "/srv/disk.qcow2",
        "qcow2",
        "x86_64",
        "q35",
        "quiet",
        "1.0",
        "10.0.0.0/16",
        "HTTP from anywhere",
        "prod-web",
        "web tier",
        "22",
        "100",
    ];
    let tables: [(&str, &[&str]); 8] = [
        ("host", &["uplink", "firewall", "allow_input", "dns", "tailscale", "limits"]),
        ("networks.n", &["cidr", "cidr6", "imds", "tailscale", "nat", "subnets", "policy"]),
        ("networks.n.subnets.s", &["cidr", "cidr6", "type", "policy", "namespace", "address", "address6"]),
        (
            "vms.v",
            &[
                "network",
                "subnet",
                "policy",
                "address",
                "address6",
                "mac",
                "vcpus",
                "memory",
                "image",
                "kernel",
                "initrd",
                "disk",
                "volumes",
                "io_uring",
                "arch",
                "machine",
                "accel",
                "offload",
                "cmdline",
                "autostart",
                "restart",
                "supervisor",
            ],
        ),
        ("policies.p", &["version", "description", "subnet", "namespace", "default", "ingress", "egress"]),
        ("policies.p.ingress", &["port", "protocol", "source", "action", "priority", "description"]),
        ("apps.a", &["network", "subnet", "command", "webserver", "restart", "user", "isolate", "limits"]),
        ("peerings", &["between"]),
    ];
    let mut hints = 0;
    for (table, keys) in tables {
        let header = if matches!(table, "peerings" | "policies.p.ingress") {
            format!("[[{table}]]")
        } else {
            format!("[{table}]")
        };
        for key in keys {
            for example in examples {
                let read = toml(&format!("{header}\n{key} = \"{example}\"\n"));
                for hint in read.lines().filter(|line| line.trim_start().starts_with("hint:")) {
                    hints += 1;
                    assert!(!hint.ends_with(&format!(": {key} = \"{example}\"")), "{table}: {read}");
                    assert!(!hint.ends_with(&format!("did you mean {example}?")), "{table}: {read}");
                }
            }
        }
    }
    assert!(hints > 1000, "{hints}");
    let read = json(r#"{ "policies": { "p": { "subnet": "web tier" } } }"#);
    assert!(read.ends_with("for example: \"subnet\": \"web\""), "{read}");
}

#[test]
fn a_policys_subnet_may_be_named() {
    let host = |policy: &str, vm: &str| {
        toml(&format!(
            "[networks.prod]\ncidr = \"10.0.0.0/16\"\n[networks.prod.subnets.web]\ncidr = \"10.0.1.0/24\"\n\
             type = \"public\"\npolicy = \"p\"\n[networks.prod.subnets.db]\ncidr = \"10.0.2.0/24\"\n\
             type = \"private\"\n[networks.flat]\ncidr = \"10.1.0.0/16\"\n[policies.p]\nsubnet = \"{policy}\"\n\
             [vms.v]\nnetwork = \"prod\"\nsubnet = \"db\"\nimage = \"i\"\n{vm}"
        ))
    };
    assert_eq!(host("web", ""), "ok");
    assert_eq!(host("10.0.1.0/24", ""), "ok");
    let read = host("db", "");
    assert!(read.contains("policy p is for the subnet db, and this one is web"), "{read}");
    let read = host("web", "policy = \"p\"");
    assert!(read.contains("policy p is for the subnet web, and this one is db"), "{read}");
    let whole = "[networks.n]\ncidr = \"10.0.0.0/16\"\npolicy = \"p\"\n[policies.p]\nsubnet = \"web\"\n";
    assert!(toml(whole).contains("policy p is for the subnet web, and this one is default"));
}
