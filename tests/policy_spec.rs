//! Policies as operators write them, in files of their own and in host specs:
//! VPC tools' JSON as it is, and every kind of mistake.

use crate::support::spec_support;
use crate::support::spec_support::{Case, toml};
use hostctl::spec::{Action, Direction, load_policy};
use insta::assert_snapshot;

/// As a VPC tool's architecture document has it.
const WEB_TIER: &str = r#"{
  "version": "1.0",
  "subnet": "10.0.1.0/24",
  "namespace": "production-web-tier",
  "ingress": [
    {
      "port": 80,
      "protocol": "tcp",
      "source": "0.0.0.0/0",
      "action": "allow",
      "description": "HTTP from anywhere"
    },
    {
      "port": 443,
      "protocol": "tcp",
      "source": "0.0.0.0/0",
      "action": "allow",
      "description": "HTTPS from anywhere"
    },
    {
      "port": 22,
      "protocol": "tcp",
      "source": "10.0.0.0/16",
      "action": "allow",
      "description": "SSH from VPC only"
    }
  ],
  "egress": [
    {
      "destination": "0.0.0.0/0",
      "action": "allow",
      "description": "Allow all outbound"
    }
  ]
}"#;

/// Two VPC tools' documents have the same one.
const WITHOUT_SSH: &str = r#"{
  "subnet": "10.0.1.0/24",
  "ingress": [
    {
      "port": 80,
      "protocol": "tcp",
      "action": "allow"
    },
    {
      "port": 22,
      "protocol": "tcp",
      "action": "deny"
    }
  ]
}"#;

fn policy_file(name: &str, text: &str) -> Result<hostctl::spec::Policy, String> {
    let case = Case::new();
    case.write(name, text.as_bytes());
    load_policy(&case.path(name)).map_err(|error| case.tidy(&error.to_string()))
}

#[test]
fn policy_files_of_vpc_tools_are_read_as_they_are() {
    let first = policy_file("policy.json", WEB_TIER).unwrap();
    assert_eq!((first.ingress.as_ref().unwrap().len(), first.egress.as_ref().unwrap().len()), (3, 1));
    assert_eq!(first.namespace.as_deref(), Some("production-web-tier"));
    let second = policy_file("policy.json", WITHOUT_SSH).unwrap();
    assert_eq!(second.default_of(Direction::Ingress), Some(Action::Deny));
    assert_eq!(second.default_of(Direction::Egress), None);
    for policy in [first, second] {
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(policy_file("again.json", &json).unwrap(), policy);
        let toml = toml::to_string(&policy).unwrap();
        assert_eq!(policy_file("again.toml", &toml).unwrap(), policy);
    }
}

#[test]
fn a_vpc_tools_policy_in_a_host_spec() {
    let host = |attached: &str, cidr: &str| {
        format!(
            r#"{{
  "networks": {{ "production": {{ "cidr": "10.0.0.0/16", "subnets": {{
    "web-tier": {{ "cidr": "{cidr}", "type": "public", "policy": "{attached}" }}
  }} }} }},
  "policies": {{ "web": {WEB_TIER} }}
}}"#
        )
    };
    assert_eq!(spec_support::json(&host("web", "10.0.1.0/24")), "ok");
    assert_snapshot!(spec_support::json(&host("web", "10.0.2.0/24")));
}

#[test]
fn mistakes_in_a_file_of_its_own() {
    let json = policy_file(
        "policy.json",
        r#"{
  "version": "2.0",
  "subnet": "10.0.1.7/24",
  "ingres": [],
  "default": "drop",
  "ingress": [
    { "port": 80 },
    { "port": 0, "protocol": "tcp" },
    { "port": "90-80", "protocol": "tcp" },
    { "port": [80, "x", 70000], "protocol": "tcp" },
    { "port": [], "protocol": "tcp" },
    { "port": true, "protocol": "tcp" },
    { "port": 8, "protocol": "icmp" },
    { "protocol": "sctp" },
    { "source": "10.0.0.1/8" },
    { "source": ["10.0.0.0/8", "prod", "network:prod."] },
    { "destination": "10.0.0.0/8" },
    { "action": "drop", "priority": -1 },
    { "protocol": "icmp", "source": "fd00::/8" }
  ],
  "egress": { "destination": "0.0.0.0/0" }
}"#,
    );
    let others = [
        policy_file("list.json", "[]"),
        policy_file("broken.json", "{ \"ingress\": [ { \"port\": 80, } ] "),
        policy_file("policy.toml", "[[egress]]\nsource = \"10.0.0.0/8\"\ndefault = 1\n"),
        policy_file("default.toml", "default = { ingres = \"deny\" }\n"),
    ];
    let shown = std::iter::once(json).chain(others).map(Result::unwrap_err).collect::<Vec<_>>();
    assert_snapshot!(shown.join("\n"));
    let missing = load_policy(&Case::new().path("none.json")).unwrap_err();
    assert!(missing.to_string().contains("can't read it: no such file"), "{missing}");
}

/// A policy with every field that there is, each on a line of its own.
const EVERY_FIELD: &str = r#"{
"version": "1.0",
"description": "d",
"subnet": "10.0.1.0/24",
"namespace": "a-b",
"default": "deny",
"ingress": [{
    "port": 80,
    "protocol": "tcp",
    "source": "10.0.0.0/8",
    "action": "allow",
    "priority": 7,
    "description": "d"
}],
"egress": [{
    "destination": "10.0.0.0/8",
    "port": [80, "90-99"],
    "protocol": "udp"
}]
}"#;

/// Every field, in turn, with values of every kind: each is taken or refused,
/// and a refusal names the field's line.
#[test]
fn every_field_wrong_in_every_way() {
    const VALUES: [&str; 22] = [
        "null",
        "true",
        "0",
        "-1",
        "1.5",
        "70000",
        "1e99",
        "18446744073709551616",
        "\"\"",
        "\"nonsense\"",
        "\"10.0.0.1/8\"",
        "\"10.0.0.0/33\"",
        "\"::/129\"",
        "\"90-80\"",
        "\"80-\"",
        "\"a\\u0000b\"",
        "[null]",
        "[[]]",
        "[true]",
        "[\"\"]",
        "{}",
        "{\"x\": 1}",
    ];
    assert!(policy_file("policy.json", EVERY_FIELD).is_ok());
    let mut taken = Vec::new();
    for (index, line) in EVERY_FIELD.lines().enumerate() {
        let Some((field, right)) = line.split_once(": ") else { continue };
        for wrong in VALUES {
            let (text, number) = if right == "[{" {
                (format!("{{\n{field}: {wrong}\n}}"), 2)
            } else {
                let comma = if right.ends_with(',') { "," } else { "" };
                let changed = format!("{field}: {wrong}{comma}");
                let lines: Vec<&str> = EVERY_FIELD
                    .lines()
                    .enumerate()
                    .map(|(n, l)| if n == index { &changed } else { l })
                    .collect();
                (lines.join("\n"), index + 1)
            };
            match policy_file("policy.json", &text) {
                Ok(_) => taken.push(format!("{}: {wrong}", field.trim())),
                Err(problem) => {
                    let place = format!("policy.json:{number}:");
                    assert!(problem.contains(&place), "{field}: {wrong}, line {number}: {problem}");
                }
            }
        }
    }
    assert_snapshot!(taken.join("\n"));
}

#[test]
fn mistakes_that_show_when_all_is_seen_together() {
    assert_snapshot!(toml(
        r#"
[networks.a]
cidr = "10.1.0.0/16"
policy = "wbe"
[networks.a.subnets.front]
cidr = "10.1.1.0/24"
type = "public"
policy = ["web", "front", "nobody"]
[networks.a.subnets.back]
cidr = "10.1.2.0/24"
type = "public"
policy = "front"
[vms.x]
network = "a"
subnet = "back"
image = "probe"
policy = "back"
[vms.y]
network = "none"
image = "probe"
policy = "none"
[policies.web]
ingress = [{ source = "network:b" }, { source = ["10.0.0.0/8", "policy:webs"] }, { port = 80 }]
[policies.front]
subnet = "10.1.1.0/24"
[policies.back]
namespace = "a-front"
[policies.Web]
[policies.unused]
egress = [{ source = "10.0.0.0/8" }]
"#
    ));
}

#[test]
fn policies_are_a_table_of_tables() {
    assert_snapshot!(toml("[[policies]]\ningress = []\n"));
}

#[test]
fn policies_in_drop_ins() {
    let case = Case::new();
    case.host("[networks.a]\ncidr = \"10.1.0.0/16\"\npolicy = \"web\"\n[policies.web]\n");
    case.drop_in("1.json", "{\"policies\": {\"db\": {\"egress\": [{\"port\": 80}]}}}");
    case.drop_in("2.toml", "[policies.web]\ningress = []\n");
    assert_snapshot!(case.load(None));
}
