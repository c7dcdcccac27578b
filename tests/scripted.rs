//! What scripts do: the same command again, other words for it, errors as
//! JSON; and what commands say of a policy.

use std::fs;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use crate::support::commands::{done, json, refused, run, write};
use crate::support::lab::{Lab, named_namespace};
use hostctl::testbed::{Options, Probe, probe, usual_services};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn drop_in(lab: &Lab) -> String {
    fs::read_to_string(lab.root_dir().join("var/lib/hostctl/host.d/commands.json")).unwrap_or_default()
}

fn generations(lab: &Lab) -> usize {
    json(lab, &["generations"]).as_array().map_or(0, Vec::len)
}

fn policy(lab: &Lab, text: &str) -> String {
    let path = lab.root_dir().join("policy.json");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_script_may_run_again() {
    let lab = Lab::new(Options::default());
    write(
        &lab,
        "[networks.mine]\ncidr = \"10.9.0.0/16\"\nnat = false\n[networks.mine.subnets.app]\n\
                 cidr = \"10.9.1.0/24\"\ntype = \"public\"\nnamespace = true\n",
    );
    let policy = policy(&lab, r#"{ "ingress": [{ "port": 80, "protocol": "tcp" }] }"#);
    let script = [
        "vpc create --name My_VPC --cidr 10.0.0.0/16 --cidr6 fd00:1::/48".to_string(),
        "vpc create --name vpc2 --cidr 10.1.0.0/16".into(),
        "subnet add --vpc My_VPC --name web_1 --cidr 10.0.1.0/24 --cidr6 fd00:1:0:1::/64 --type public \
         --address 10.0.1.9"
            .into(),
        "subnet add --vpc My_VPC --name db --cidr 10.0.2.0/24".into(),
        "nat enable --vpc My_VPC --interface uplink0".into(),
        "nat disable --vpc vpc2".into(),
        "nat disable --vpc mine".into(),
        "peer create --vpc1 My_VPC --vpc2 vpc2".into(),
        format!("firewall apply --vpc My_VPC --subnet db --policy {policy}"),
        format!("firewall apply --vpc vpc2 --policy {policy}"),
        "deploy webserver --vpc My_VPC --subnet web_1 --port 8080".into(),
        "app run --vpc My_VPC --subnet db --name sleeper -- sleep 1000".into(),
        "vpc create --name mine --cidr 10.9.0.0/16".into(),
        "subnet add --vpc mine --name app --cidr 10.9.1.0/24 --type public".into(),
    ];
    for line in &script {
        done(&lab, &words(line));
    }
    let (written, kept) = (drop_in(&lab), generations(&lab));
    for line in &script {
        let text = done(&lab, &words(line));
        assert!(text.contains("already"), "{line}: {text}");
        let again = json(&lab, &words(line));
        assert_eq!((&again["changed"], &again["steps"]), (&false.into(), &Value::Array(vec![])), "{line}");
    }
    assert_eq!((drop_in(&lab), generations(&lab)), (written.clone(), kept));
    // The other way round is the same peering.
    assert!(done(&lab, &words("peer create --vpc1 vpc2 --vpc2 My_VPC")).contains("peered already"));

    for (line, words_) in [
        (
            "vpc create --name My_VPC --cidr 10.3.0.0/16 --cidr6 fd00:1::/48",
            "its cidr is 10.0.0.0/16, not 10.3.0.0/16",
        ),
        ("vpc create --name My_VPC --cidr 10.0.0.0/16", "its cidr6 is fd00:1::/48, not none"),
        ("vpc create --name mine --cidr 10.8.0.0/16", "host.toml:1: its cidr is 10.9.0.0/16"),
        (
            "subnet add --vpc My_VPC --name db --cidr 10.0.2.0/24 --type public",
            "its type is private, not public",
        ),
        ("subnet add --vpc My_VPC --name db --cidr 10.0.2.0/25", "its cidr is 10.0.2.0/24, not 10.0.2.0/25"),
        (
            "subnet add --vpc My_VPC --name db --cidr 10.0.2.0/24 --address 10.0.2.7",
            "its address is none, not 10.0.2.7",
        ),
        ("app run --vpc My_VPC --subnet db --name sleeper -- sleep 1001", "its command is another"),
        (
            "deploy webserver --vpc My_VPC --subnet web_1 --port 8081 --name webserver-my-vpc-web-1-8080",
            "its webserver is another",
        ),
    ] {
        refused(&lab, &words(line), 3, words_);
    }
    assert_eq!(drop_in(&lab), written);
    // Named like another, but for case and hyphens.
    refused(
        &lab,
        &words("vpc create --name my-vpc --cidr 10.4.0.0/16"),
        3,
        "one name where hosts are named: my-vpc",
    );
    refused(&lab, &words("subnet add --vpc My_VPC --name WEB-1 --cidr 10.0.3.0/24"), 3, "one name");
    // The kernel agrees about the address and the names.
    let addresses = lab.output("ip", &["-n", "My_VPC-web_1", "-br", "address", "show", "dev", "eth0"]);
    assert!(addresses.contains("10.0.1.9/24"), "{addresses}");
    assert!(lab.output("ip", &["-br", "link"]).contains("br-My_VPC"));

    let deletions = [
        "app stop sleeper --if-exists",
        "firewall remove --vpc vpc2 --if-exists",
        "firewall remove --vpc My_VPC --subnet db --if-exists",
        "peer delete --vpc1 My_VPC --vpc2 vpc2 --if-exists",
        "subnet delete --vpc My_VPC --name db --if-exists",
        "vpc delete --name My_VPC --if-exists",
        "vpc rm --name vpc2 --if-exists",
    ];
    for line in deletions {
        let text = done(&lab, &words(line));
        assert!(!text.contains("nothing to"), "{line}: {text}");
    }
    for line in deletions {
        let text = done(&lab, &words(line));
        assert!(text.contains("nothing to"), "{line}: {text}");
        refused(&lab, &words(&line.replace(" --if-exists", "")), 3, "hint: ");
    }
    assert_eq!(drop_in(&lab), "");
    // What another file says isn't there to be deleted, nor gone.
    refused(&lab, &words("vpc delete --name mine --if-exists"), 3, "edit it there");
}

#[test]
fn what_is_there_on_paper_is_made_again() {
    let lab = Lab::new(Options::default());
    done(&lab, &words("vpc create --name a --cidr 10.0.0.0/16"));
    done(&lab, &["down"]);
    assert!(!lab.output("ip", &["-br", "link"]).contains("br-a"));
    let text = done(&lab, &words("vpc create --name a --cidr 10.0.0.0/16"));
    assert!(text.contains("is there already"), "{text}");
    assert!(lab.output("ip", &["-br", "link"]).contains("br-a"));
}

#[test]
fn a_namespace_is_reached_at_its_own_address() {
    let lab = Lab::new(Options::default());
    done(&lab, &words("vpc create --name A_1 --cidr 10.0.0.0/16 --cidr6 fd00:1::/48"));
    for (name, rest) in [
        ("Web", "--cidr 10.0.1.0/24 --cidr6 fd00:1:0:1::/64 --address 10.0.1.77 --address6 fd00:1:0:1::77"),
        ("db", "--cidr 10.0.2.0/24 --cidr6 fd00:1:0:2::/64"),
    ] {
        done(&lab, &words(&format!("subnet add --vpc A_1 --name {name} {rest}")));
    }
    for (to, allowed) in
        [("10.0.1.77", true), ("fd00:1:0:1::77", true), ("10.0.1.2", false), ("fd00:1:0:1::2", false)]
    {
        let to: IpAddr = to.parse().unwrap();
        assert_eq!(probe(&named_namespace("A_1-db"), Probe::Icmp(to), SECOND).is_allowed(), allowed, "{to}");
    }
    // Another address, by an edit of the spec: the old one is nobody's.
    done(&lab, &words("subnet delete --vpc A_1 --name Web"));
    done(&lab, &words("subnet add --vpc A_1 --name Web --cidr 10.0.1.0/24 --address 10.0.1.78"));
    let reached =
        |to: &str| probe(&named_namespace("A_1-db"), Probe::Icmp(to.parse().unwrap()), SECOND).is_allowed();
    assert!(reached("10.0.1.78") && !reached("10.0.1.77"));
}

#[test]
fn a_networks_policy_says_what_it_shuts() {
    let lab = Lab::new(Options::default());
    for line in [
        "vpc create --name prod --cidr 10.0.0.0/16",
        "subnet add --vpc prod --name web --cidr 10.0.1.0/24",
        "subnet add --vpc prod --name db --cidr 10.0.2.0/24",
        // What a policy of the network is called is taken by a subnet's then.
        "vpc create --name prod-web --cidr 10.1.0.0/16",
        "subnet add --vpc prod-web --name x --cidr 10.1.1.0/24",
    ] {
        done(&lab, &words(line));
    }
    let _services = usual_services(&named_namespace("prod-db"), "db").unwrap();
    let open = |port: u16| {
        let to = format!("10.0.2.2:{port}").parse().unwrap();
        probe(&named_namespace("prod-web"), Probe::Tcp(to), SECOND).is_allowed()
    };
    assert!(open(80) && open(22));
    let file = policy(&lab, r#"{ "ingress": [{ "port": 80, "protocol": "tcp" }] }"#);
    let line = format!("firewall apply --vpc prod --policy {file}");
    let planned = done(&lab, &words(&format!("{line} --dry-run")));
    assert!(planned.contains("- closes ") && planned.contains("nft"), "{planned}");
    assert!(open(22));
    let applied = done(&lab, &words(&line));
    assert!(applied.contains("policy applied to network prod\n"), "{applied}");
    assert!(applied.contains("- closes ") && !applied.contains("+ OPENS"), "{applied}");
    assert!(open(80) && !open(22));
    let again = json(&lab, &words(&line));
    assert_eq!((&again["changed"], &again["changes"]), (&false.into(), &Value::Array(vec![])));
    let shown = done(&lab, &words("firewall show --vpc prod"));
    assert!(shown.contains("prod-web: prod\n") && shown.contains("prod-db: prod\n"), "{shown}");
    // A subnet's own takes its place, and opens what it allows.
    let wide = policy(&lab, r#"{ "ingress": [{ "port": "22-80", "protocol": "tcp" }], "subnet": "db" }"#);
    let applied = done(&lab, &words(&format!("firewall apply --vpc prod --subnet db --policy {wide}")));
    assert!(applied.contains("+ OPENS"), "{applied}");
    assert!(open(80) && open(22));
    refused(
        &lab,
        &words(&format!("firewall apply --vpc prod --subnet web --policy {wide}")),
        3,
        "for the subnet db",
    );
    // `prod-web` would be the network's as well as the subnet's.
    let plain = policy(&lab, r#"{ "ingress": [] }"#);
    done(&lab, &words(&format!("firewall apply --vpc prod-web --policy {plain}")));
    let line = format!("firewall apply --vpc prod --subnet web --policy {plain}");
    refused(&lab, &words(&line), 3, "a policy can't be called prod-web");
    let removed = done(&lab, &words("firewall remove --vpc prod"));
    assert!(removed.contains("policy of network prod removed") && removed.contains("+ OPENS"), "{removed}");
    done(&lab, &words("vpc delete --name prod"));
    // The other's policy is still there.
    assert!(drop_in(&lab).contains("\"prod-web\""));
    done(&lab, &words("vpc delete --name prod-web"));
    assert_eq!(drop_in(&lab), "");
}

#[test]
fn commands_have_other_names() {
    let lab = Lab::new(Options::default());
    for line in [
        "network create --name a --cidr 10.0.0.0/16",
        "vpc add --name b --cidr 10.1.0.0/16",
        "subnet create --vpc a --name web --cidr 10.0.1.0/24",
        "vpc ls",
        "vpc list",
        "subnet ls",
        "peer add --vpc1 a --vpc2 b",
        "peer ls",
        "app start --vpc a --subnet web --name s -- sleep 100",
        "app ls",
        "app rm s",
        "vm ls",
        "firewall show --vpc a",
        "peer rm --vpc1 a --vpc2 b",
        "subnet rm --vpc a --name web",
        "vpc remove --name a",
        "network rm --name b",
    ] {
        done(&lab, &words(line));
    }
    for line in ["vm start nobody", "vm stop nobody"] {
        refused(&lab, &words(line), 1, "there is no VM nobody");
    }
}

/// The error that a command prints with --json: all that is on standard error.
fn error(lab: &Lab, line: &str, code: i32) -> Value {
    let output = lab.hostctl(&[&["--json"][..], &words(line)].concat());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{line}: {text}");
    assert_eq!(text.lines().count(), 1, "{line}: {text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    let error = value["error"].clone();
    let keys: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["exit_code", "hint", "kind", "message", "problems"], "{line}");
    assert_eq!(error["exit_code"], code, "{line}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{line}");
    error
}

#[test]
fn errors_are_json_where_answers_are() {
    let lab = Lab::new(Options::default());
    done(&lab, &words("vpc create --name a --cidr 10.0.0.0/16"));
    let told = error(&lab, "vpc show --name b", 3);
    assert_eq!((&told["kind"], &told["hint"]), (&"refused".into(), &"there is a".into()));
    let told = error(&lab, "vpc create --name a --cidr 10.3.0.0/16", 3);
    assert!(told["message"].as_str().unwrap().contains("its cidr is 10.0.0.0/16, not 10.3.0.0/16"));
    let spec = lab.root_dir().join("wrong.toml");
    fs::write(&spec, "[networks.b]\ncidr = \"10.1.0.7/24\"\n[vms.x]\nnetwork = \"b\"\nimagee = \"p\"\n")
        .unwrap();
    let told = error(&lab, &format!("check {}", spec.display()), 3);
    assert_eq!(told["kind"], "spec");
    let problems = told["problems"].as_array().unwrap();
    assert_eq!(problems[0]["line"], 2);
    assert_eq!(problems[0]["hint"], "write \"10.1.0.0/24\"");
    assert_eq!((&problems[1]["line"], &problems[1]["column"]), (&5.into(), &1.into()));
    for (line, kind) in [
        ("vpc create --name a", "usage"),
        ("vpc create --name a --cidr 10.0.0.1/16", "usage"),
        ("vpc crate", "usage"),
        ("subnet add --vpc a --name w --cidr 10.0.1.0/24 --type secret", "usage"),
        ("nothing", "usage"),
    ] {
        assert_eq!(error(&lab, line, 2)["kind"], kind, "{line}");
    }
    for line in [
        "vm show x",
        "vm exec x -- true",
        "vm logs x",
        "app logs x",
        "vpc exec --vpc a --subnet b -- true",
        "rollback 77",
        "diff 7 8",
        "confirm",
        "vm console x",
        "vm up x",
        "vm down x",
    ] {
        let code = lab.hostctl(&words(line)).status.code().unwrap();
        assert_eq!(error(&lab, line, code)["exit_code"], code);
    }
    let _lock = hostctl::host::Lock::take(&lab.host.root, "apply").unwrap();
    assert_eq!(error(&lab, "apply", 4)["kind"], "locked");
    // After `--` it is somebody else's.
    let output = lab.hostctl(&["app", "run", "--", "x", "--json"]);
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: "));
}

#[test]
fn an_image_that_isnt_there_is_named_with_its_vm_and_line() {
    let lab = Lab::new(Options::default());
    write(
        &lab,
        "[networks.a]\ncidr = \"10.0.0.0/16\"\n\n[vms.web]\nnetwork = \"a\"\nimage = \"none\"\naccel = \"tcg\"\n\
                 [vms.db]\nnetwork = \"a\"\nkernel = \"/nowhere/vmlinuz\"\naccel = \"tcg\"\n",
    );
    for line in ["plan", "apply", "vpc create --name b --cidr 10.1.0.0/16"] {
        let (code, text) = run(&lab, &words(line));
        assert_eq!(code, 1, "{line}: {text}");
        assert!(text.contains("host.toml:6: VM web: there is no image none in "), "{line}: {text}");
        assert!(
            text.contains("host.toml:10: VM db: can't boot /nowhere/vmlinuz: No such file or directory"),
            "{text}"
        );
        assert!(!text.contains("os error"), "{text}");
    }
    assert!(!lab.output("ip", &["-br", "link"]).contains("br-"));
}

#[test]
fn who_isnt_root_reads_words() {
    let lab = Lab::new(Options::default());
    done(&lab, &words("vpc create --name a --cidr 10.0.0.0/16"));
    // Root's alone, as on a host.
    let mode = |path: &str, mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(lab.root_dir().join(path), permissions).unwrap();
    };
    mode("", 0o755);
    for path in ["var/lib/hostctl", "run/hostctl"] {
        mode(path, 0o700);
    }
    let program = lab.root_dir().join("hostctl");
    fs::copy(env!("CARGO_BIN_EXE_hostctl"), &program).unwrap();
    for line in [
        "vpc list",
        "vm list",
        "app list",
        "vm logs x",
        "vm exec x -- true",
        "app logs x",
        "generations",
        "diff 1 1",
        "spec show",
        "status",
        "audit",
        "apply",
        "doctor",
    ] {
        let mut command = Command::new(&program);
        command.arg("--root-dir").arg(lab.root_dir()).args(words(line)).uid(65534).gid(65534);
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success(), "{line}: {text}");
        assert!(!text.contains("os error") && !text.contains("Permission denied"), "{line}: {text}");
        assert!(text.contains("root"), "{line}: {text}");
        assert!(!text.contains("host.toml too"), "{line}: {text}");
    }
}
