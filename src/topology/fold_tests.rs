//! Names with capitals and underscores, and addresses of namespaces.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{IfName, Topology, compile};
use crate::spec::{HostSpec, label};

fn compiled(text: &str) -> Result<Topology, Vec<String>> {
    let spec: HostSpec = toml::from_str(text).unwrap();
    compile(&spec)
        .map_err(|issues| issues.iter().map(|issue| format!("{}: {}", issue.path, issue.message)).collect())
}

fn vm(name: &str) -> String {
    format!("[vms.{name}]\nnetwork = \"n\"\nimage = \"i\"\n")
}

const NETWORK: &str = "[networks.n]\ncidr = \"10.0.0.0/16\"\n";

#[test]
fn names_that_are_one_as_a_hosts_are_refused_whatever_they_name() {
    let refused = |text: &str| compiled(text).unwrap_err();
    let both = |first: &str, second: &str| format!("{NETWORK}{}{}", vm(first), vm(second));
    assert_eq!(
        refused(&both("My_VM", "my-vm")),
        ["vms.my-vm: my-vm and the VM My_VM are one name where hosts are named: my-vm"]
    );
    assert!(compiled(&both("My_VM", "my-vm2")).is_ok());
    assert_eq!(refused(&(NETWORK.to_string() + "[networks.N]\ncidr = \"10.1.0.0/16\"\n")).len(), 1);
    assert_eq!(refused(&format!("{NETWORK}[policies.a_b]\n[policies.a-B]\n")).len(), 1);
    let subnet = |name: &str, number: u8| {
        format!(
            "[networks.n.subnets.{name}]\ncidr = \"10.0.{number}.0/24\"\ntype = \"public\"\nnamespace = true\n"
        )
    };
    let found = refused(&format!("{NETWORK}{}{}", subnet("web_1", 1), subnet("web-1", 2)));
    assert!(found.iter().any(|issue| issue.contains("networks.n.subnets.web_1: web_1 and the subnet web-1")));
    let app = |name: &str| format!("[apps.{name}]\nnetwork = \"n\"\nsubnet = \"web\"\ncommand = [\"x\"]\n");
    let found = refused(&format!("{NETWORK}{}{}{}", subnet("web", 1), app("Shop"), app("shop")));
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn two_namespaces_that_are_one_name_are_refused() {
    let network = |name: &str, number: u8, subnet: &str| {
        format!(
            "[networks.{name}]\ncidr = \"10.{number}.0.0/16\"\n[networks.{name}.subnets.{subnet}]\n\
             cidr = \"10.{number}.1.0/24\"\ntype = \"public\"\nnamespace = true\n"
        )
    };
    // a_b-c and A-b-c.
    let found = compiled(&(network("a_b", 1, "c") + &network("A", 2, "b-c"))).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("another subnet's namespace is called "), "{found:?}");
}

#[test]
fn a_namespace_has_the_address_that_it_is_given() {
    let spec = |own: &str, vm: &str| {
        format!(
            "[networks.a]\ncidr = \"10.1.0.0/16\"\ncidr6 = \"fd00:1::/48\"\n[networks.a.subnets.web]\n\
             cidr = \"10.1.1.0/24\"\ncidr6 = \"fd00:1:0:1::/64\"\ntype = \"public\"\n{own}\n\
             [vms.m]\nnetwork = \"a\"\nimage = \"i\"\n{vm}"
        )
    };
    let given = "namespace = true\naddress = \"10.1.1.9\"\naddress6 = \"fd00:1:0:1::9\"";
    let topology = compiled(&spec(given, "")).unwrap();
    let port = &topology.namespaces[0].port;
    assert_eq!(port.address.to_string(), "10.1.1.9");
    assert_eq!(port.v6.as_ref().unwrap().address.to_string(), "fd00:1:0:1::9");
    // Free for a VM then, which it isn't otherwise.
    assert_eq!(topology.vms[0].port.address.to_string(), "10.1.1.2");
    let usual = compiled(&spec("namespace = true", "")).unwrap();
    assert_eq!(usual.vms[0].port.address.to_string(), "10.1.1.3");
    for (own, vm, wanted) in [
        (given, "address = \"10.1.1.9\"", "subnets.web.address: 10.1.1.9 is the VM m's already"),
        (given, "address6 = \"fd00:1:0:1::9\"", "web.address6: fd00:1:0:1::9 is the VM m's already"),
        (
            "namespace = true",
            "address = \"10.1.1.2\"",
            "vms.m.address: 10.1.1.2 is the address of the namespace a-web",
        ),
        (
            "namespace = true",
            "address6 = \"fd00:1:0:1::2\"",
            "vms.m.address6: fd00:1:0:1::2 is the address of the namespace a-web",
        ),
        ("address = \"10.1.1.9\"", "", "web.address: the address of a namespace, and the subnet has none"),
        ("namespace = true\naddress = \"10.1.2.9\"", "", "web.address: 10.1.2.9 isn't in 10.1.1.0/24"),
        (
            "namespace = true\naddress = \"10.1.1.0\"",
            "",
            "web.address: 10.1.1.0 is the address of 10.1.1.0/24",
        ),
        ("namespace = true\naddress = \"10.1.0.1\"", "", "web.address: 10.1.0.1 is "),
        ("namespace = true\naddress6 = \"fd00:1:0:2::9\"", "", "web.address6: fd00:1:0:2::9 isn't in"),
    ] {
        let found = compiled(&spec(own, vm)).unwrap_err();
        assert!(found.iter().any(|issue| issue.contains(wanted)), "{wanted}: {found:?}");
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

proptest! {
    /// Whatever names are taken: either two are one label, and that is said, or
    /// all interfaces are valid and nobody else's.
    #[test]
    fn names_are_refused_or_have_interfaces_of_their_own(
        names in prop::collection::btree_set("[aAbB]([aA_-]{0,14}[aAbB])?", 1..8),
    ) {
        let text: String = names.iter().map(|name| vm(name)).collect();
        let labels: BTreeSet<String> = names.iter().map(|name| label(name)).collect();
        match compiled(&(NETWORK.to_string() + &text)) {
            Ok(topology) => {
                prop_assert_eq!(labels.len(), names.len());
                let interfaces: BTreeSet<&IfName> = topology.ports().map(|port| &port.interface).collect();
                prop_assert_eq!(interfaces.len(), names.len());
                for interface in interfaces {
                    prop_assert!(IfName::new(interface.as_str()).is_ok());
                }
            }
            Err(issues) => {
                prop_assert_eq!(issues.len(), names.len() - labels.len());
            }
        }
    }
}
