//! Guests keep their addresses: through edits, `down`, rollbacks, and from an
//! earlier version of hostctl.

use crate::support::commands::{done, json, write};
use crate::support::lab::Lab;
use hostctl::testbed::Options;
use serde_json::Value;

fn vm(name: &str, more: &str) -> String {
    format!("[vms.{name}]\nnetwork = \"n\"\nimage = \"probe\"\nautostart = false\n{more}\n")
}

const NETWORK: &str = "[networks.n]\ncidr = \"10.5.0.0/24\"\ncidr6 = \"fd00:5::/64\"\n";

fn spec(vms: &[String]) -> String {
    format!("{NETWORK}{}", vms.concat())
}

fn addresses(lab: &Lab) -> Vec<(String, String)> {
    let guests = json(lab, &["status"])["guests"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let one = |guest: &Value| (text(&guest["name"]), text(&guest["addresses"][0]));
    guests.as_array().unwrap().iter().map(one).collect()
}

fn pair(name: &str, address: &str) -> (String, String) {
    (name.into(), address.into())
}

/// What the firewall lets the VM's port send.
fn port_of(lab: &Lab, address: &str) -> String {
    let set = lab.output("nft", &["list", "set", "bridge", "hostctl", "port_mac_ip4"]);
    let line = set.split(['{', ',', '}']).find(|element| element.trim_end().ends_with(address));
    line.unwrap_or_else(|| panic!("{address} is nobody's: {set}")).split_whitespace().next().unwrap().into()
}

#[test]
fn a_vm_that_is_added_or_removed_moves_no_other() {
    let lab = Lab::new(Options::default());
    write(&lab, &spec(&[vm("m", ""), vm("n", "")]));
    let plan = done(&lab, &["plan"]);
    assert!(plan.contains("  vm m: 10.5.0.2 (new)\n  vm m: fd00:5::2 (new)\n"), "{plan}");
    done(&lab, &["apply"]);
    write(&lab, &spec(&[vm("a", ""), vm("m", ""), vm("n", "")]));
    let plan = json(&lab, &["plan"]);
    let said: Vec<_> = plan["addresses"].as_array().unwrap().iter().map(|one| one["guest"].clone()).collect();
    assert_eq!(said, ["vm a", "vm a"]);
    let text = done(&lab, &["plan"]);
    assert!(!text.contains("vm-m") && !text.contains("vm-n"), "{text}");
    done(&lab, &["apply"]);
    let all = [pair("a", "10.5.0.4"), pair("m", "10.5.0.2"), pair("n", "10.5.0.3")];
    assert_eq!(addresses(&lab), all);
    assert_eq!(port_of(&lab, "10.5.0.2"), "\"vm-m\"");
    // Every command that compiles the file means the same.
    for arguments in
        [&["render"][..], &["--json", "explain", "a", "internet"], &["check"], &["--json", "matrix"]]
    {
        let text = done(&lab, arguments);
        assert!(
            arguments != ["render"]
                || text.lines().any(|line| line.contains("\"vm-a\"") && line.contains("10.5.0.4")),
            "{text}"
        );
    }
    assert_eq!(done(&lab, &["diff", "2"]), "nobody reaches more or less than before\n");
    assert_eq!(done(&lab, &["plan"]), "nothing to do\n");
    assert!(done(&lab, &["status"]).contains("no drift"));

    // Down and up again: the guests are in the spec all the time.
    done(&lab, &["down"]);
    done(&lab, &["apply"]);
    assert_eq!(addresses(&lab), all);
    // One that goes leaves its address to the next.
    write(&lab, &spec(&[vm("a", ""), vm("n", ""), vm("b", "")]));
    done(&lab, &["apply"]);
    assert_eq!(addresses(&lab), [pair("a", "10.5.0.4"), pair("b", "10.5.0.2"), pair("n", "10.5.0.3")]);
}

#[test]
fn a_rollback_returns_to_the_generations_own_addresses() {
    let lab = Lab::new(Options::default());
    let steps = [&["a", "b"][..], &["b"], &["b", "c"], &["a", "b", "c"], &["a", "b"]];
    for names in steps {
        write(&lab, &spec(&names.iter().map(|name| vm(name, "")).collect::<Vec<_>>()));
        done(&lab, &["apply"]);
    }
    assert_eq!(addresses(&lab), [pair("a", "10.5.0.4"), pair("b", "10.5.0.3")]);
    let preview = done(&lab, &["rollback", "1", "--dry-run"]);
    assert!(preview.contains("  vm a: 10.5.0.4 -> 10.5.0.2 ("), "{preview}");
    let text = done(&lab, &["rollback", "1"]);
    assert!(text.contains("moved: vm a: 10.5.0.4 -> 10.5.0.2"), "{text}");
    assert_eq!(addresses(&lab), [pair("a", "10.5.0.2"), pair("b", "10.5.0.3")]);
    assert_eq!(port_of(&lab, "10.5.0.2"), "\"vm-a\"");
    // It is a generation, and what follows builds on it.
    assert_eq!(done(&lab, &["plan"]), "nothing to do\n");
    assert!(done(&lab, &["status"]).contains("generation 6"));
}

#[test]
fn a_generation_of_an_earlier_version_keeps_what_it_had() {
    let lab = Lab::new(Options::default());
    write(&lab, &spec(&[vm("m", ""), vm("n", "")]));
    done(&lab, &["apply"]);
    let path = lab.host.root.state().join("generations/1.json");
    let mut old: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    old.as_object_mut().unwrap().remove("allocations").unwrap();
    std::fs::write(&path, old.to_string()).unwrap();
    assert_eq!(done(&lab, &["plan"]), "nothing to do\n");
    write(&lab, &spec(&[vm("a", ""), vm("m", ""), vm("n", "")]));
    done(&lab, &["apply"]);
    assert_eq!(addresses(&lab), [pair("a", "10.5.0.4"), pair("m", "10.5.0.2"), pair("n", "10.5.0.3")]);

    // Nor does one that can't be read make the rest move without a word.
    std::fs::write(lab.host.root.state().join("generations/2.json"), "{").unwrap();
    let text = done(&lab, &["plan"]);
    assert!(text.contains("note: guests keep what generation 1 gave them: "), "{text}");
}

#[test]
fn commands_that_edit_keep_addresses_and_say_what_is_new() {
    let lab = Lab::new(Options::default());
    write(&lab, &spec(&[vm("m", "")]));
    done(&lab, &["apply"]);
    write(&lab, &spec(&[vm("a", ""), vm("m", "")]));
    done(&lab, &["apply"]);
    done(&lab, &["vpc", "create", "--name", "web", "--cidr", "10.20.0.0/16"]);
    let add =
        ["subnet", "add", "--vpc", "web", "--name", "one", "--cidr", "10.20.1.0/24", "--type", "public"];
    let preview = done(&lab, &[&add[..], &["--dry-run"]].concat());
    assert!(preview.contains("namespace web-one: 10.20.1.2 (new)"), "{preview}");
    done(&lab, &add);
    assert_eq!(addresses(&lab), [pair("a", "10.5.0.3"), pair("m", "10.5.0.2")]);
}

#[test]
fn a_resolved_spec_is_the_same_on_a_host_that_knows_nothing() {
    let lab = Lab::new(Options::default());
    write(&lab, &spec(&[vm("m", ""), vm("n", "")]));
    done(&lab, &["apply"]);
    write(&lab, &spec(&[vm("a", ""), vm("m", ""), vm("n", "")]));
    done(&lab, &["apply"]);
    let resolved = done(&lab, &["spec", "show", "--resolved"]);
    assert!(resolved.contains("address = \"10.5.0.4\""), "{resolved}");
    let other = Lab::new(Options::default());
    write(&other, &resolved);
    let plan = done(&other, &["plan"]);
    assert!(plan.contains("vm a: 10.5.0.4 (new)") && plan.contains("vm m: 10.5.0.2 (new)"), "{plan}");
    // And here it says what is.
    write(&lab, &resolved);
    assert_eq!(done(&lab, &["plan"]), "nothing to do\n");
}

#[test]
fn an_unconfirmed_change_takes_its_addresses_with_it() {
    let lab = Lab::new(Options::default());
    write(&lab, &spec(&[vm("m", "")]));
    done(&lab, &["apply"]);
    write(&lab, &spec(&[vm("a", ""), vm("m", "address = \"10.5.0.77\"")]));
    let text = done(&lab, &["apply", "--confirm", "1s"]);
    assert!(text.contains("moved: vm m: 10.5.0.2 -> 10.5.0.77 (the spec names it)"), "{text}");
    let begun = std::time::Instant::now();
    while addresses(&lab) != [pair("m", "10.5.0.2")] {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", addresses(&lab));
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}
