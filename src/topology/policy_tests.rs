//! Which policy a guest is subject to, and what its rules come to.

use super::test_topology::topology;
use super::{Action, Direction, Topology, compile};

const SPEC: &str = r#"
[networks.a]
cidr = "10.1.0.0/16"
cidr6 = "fd00:0:0:1::/64"
policy = "base"
[networks.a.subnets.back]
cidr = "10.1.2.0/24"
type = "public"
[networks.a.subnets.front]
cidr = "10.1.1.0/24"
cidr6 = "fd00:0:0:1::/65"
type = "public"
policy = "web"
[networks.b]
cidr = "10.2.0.0/24"
[vms.back]
network = "a"
subnet = "back"
image = "i"
[vms.both]
network = "a"
subnet = "front"
image = "i"
policy = ["web", "base"]
[vms.free]
network = "b"
image = "i"
[vms.front]
network = "a"
subnet = "front"
image = "i"
[vms.htob]
network = "a"
subnet = "front"
image = "i"
policy = ["base", "web", "web"]
[policies.base]
default = { egress = "allow" }
egress = [{ destination = "network:a", action = "deny" }]
[policies.unused]
default = "deny"
[policies.web]
ingress = [
    { port = 80, protocol = "tcp", priority = 200 },
    { source = "policy:base", protocol = "icmp" },
    { source = ["network:b", "192.0.2.7"], action = "deny" },
]
egress = []
"#;

fn id<'t>(topology: &'t Topology, vm: &str) -> Option<&'t str> {
    topology.policy(&topology.vm(vm).unwrap().port).map(|policy| policy.id.as_str())
}

#[test]
fn the_nearest_policy_holds_and_a_list_is_a_set() {
    let topology = topology(SPEC);
    assert_eq!(id(&topology, "back"), Some("base"));
    assert_eq!(id(&topology, "front"), Some("web"));
    assert_eq!(id(&topology, "free"), None);
    assert_eq!(id(&topology, "both"), id(&topology, "htob"));
    let ids: Vec<&str> = topology.policies.iter().map(|policy| policy.id.as_str()).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert!(ids.iter().any(|id| id.starts_with("base.")), "{ids:?}");
}

#[test]
fn rules_are_in_the_order_of_evaluation_and_without_names() {
    let topology = topology(SPEC);
    let policy = |vm: &str| topology.policy(&topology.vm(vm).unwrap().port).unwrap();
    let texts = |vm: &str, direction: Direction| {
        let list = policy(vm).rules(direction).unwrap();
        (list.default, list.rules.iter().map(|rule| rule.text(direction)).collect::<Vec<_>>())
    };
    let members: Vec<String> =
        ["back", "both", "htob"].iter().map(|vm| topology.vm(vm).unwrap().port.address.to_string()).collect();
    let (default, rules) = texts("front", Direction::Ingress);
    assert_eq!(default, Action::Deny);
    assert_eq!(rules[0], "deny from 10.2.0.0/24, 192.0.2.7");
    assert!(rules[1].starts_with("allow icmp from "), "{rules:?}");
    assert!(members.iter().all(|member| rules[1].contains(member)), "{rules:?} {members:?}");
    assert_eq!(rules[2], "allow tcp 80 from anybody");
    assert_eq!(texts("front", Direction::Egress), (Action::Deny, vec![]));
    assert_eq!(
        texts("back", Direction::Egress),
        (Action::Allow, vec!["deny to 10.1.0.0/16, fd00:0:0:1::/64".into()])
    );
    assert!(policy("back").ingress.is_none());
    // Several act as one list, and the stricter default is theirs.
    let (default, rules) = texts("both", Direction::Egress);
    assert_eq!((default, rules.len()), (Action::Deny, 1));
    assert_eq!(policy("both").ingress.as_ref().unwrap().rules.len(), 3);
}

#[test]
fn too_many_rules_or_prefixes_are_refused() {
    let policy = |count: usize, rule: &str| {
        let rules = vec![rule; count].join(", ");
        let text = format!(
            "[networks.a]\ncidr = \"10.1.0.0/24\"\n[vms.v]\nnetwork = \"a\"\nimage = \"i\"\npolicy = \"p\"\n\
             [policies.p]\ningress = [{rules}]\n"
        );
        compile(&toml::from_str(&text).unwrap()).map_err(|issues| {
            issues.iter().map(|issue| format!("{}: {}", issue.path, issue.message)).collect::<Vec<_>>()
        })
    };
    assert!(policy(1000, "{}").is_ok());
    assert_eq!(policy(1001, "{}").unwrap_err(), ["policies.p.ingress: 1001 rules: at most 1000 are"]);
    let prefixes = |count: usize| {
        let list: Vec<String> = (0..count).map(|n| format!("\"192.0.{}.{}\"", n / 256, n % 256)).collect();
        format!("{{ source = [{}] }}", list.join(", "))
    };
    assert!(policy(1, &prefixes(8192)).is_ok());
    assert_eq!(
        policy(1, &prefixes(8193)).unwrap_err(),
        ["policies.p.ingress: 1 rules with 8193 prefixes act on one guest"]
    );
}
