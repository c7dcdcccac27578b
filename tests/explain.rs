//! `hostctl explain`, `hostctl diff` and the end of `hostctl plan`, as people
//! and programs read them.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use crate::support::lab::Lab;
use crate::support::spec_support::example;
use assert_cmd::Command;
use hostctl::testbed::Options;
use serde_json::Value;

/// Runs hostctl beside the examples, without root's files.
fn hostctl(arguments: &[&str]) -> Output {
    let root = tempfile::tempdir().unwrap();
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
    command.arg("--root-dir").arg(root.path()).current_dir(examples).args(arguments).output().unwrap()
}

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = hostctl(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Several questions about one spec, with their answers.
#[track_caller]
fn asked(spec: &str, questions: &[&str]) -> String {
    let answer = |question: &&str| {
        let words: Vec<&str> = question.split_whitespace().collect();
        let (ends, options) = words.split_at(2);
        format!("$ hostctl explain {question}\n{}", printed(&[&["explain"], ends, &[spec], options].concat()))
    };
    questions.iter().map(answer).collect::<Vec<_>>().join("\n")
}

#[test]
fn guests_policies_and_peers() {
    let questions = [
        "worker prod-db",
        "worker prod-db --port 5432 --family 4",
        "office-desk worker --family 4",
        "prod-db office-desk --port 80",
        "prod prod",
        "prod/web office --protocol icmp",
        "office prod-web --family 6",
        "worker worker",
    ];
    insta::assert_snapshot!(asked("vpc.toml", &questions));
}

#[test]
fn those_who_are_no_guests() {
    let questions = [
        "worker internet",
        "prod-db internet --family 4",
        "office-desk internet",
        "internet worker --port 80",
        "worker host",
        "host worker --port 22",
        "worker imds --family 4",
        "worker 10.30.1.77",
        "10.20.1.3 198.51.100.7 --protocol udp --port 53",
        "internet host",
    ];
    insta::assert_snapshot!(asked("vpc.toml", &questions));
}

#[test]
fn the_tailnet_metadata_and_the_whole_machine() {
    let questions = [
        "vm:vm1 imds",
        "vm2 imds --port 80",
        "tailnet vm1 --protocol icmp",
        "vm1 tailnet",
        "vm1 vm2 --port 80",
        "internet host",
        "tailnet host --port 9",
    ];
    insta::assert_snapshot!(asked("five-networks.toml", &questions));
}

#[test]
fn an_answer_for_programs_names_the_key_and_its_place() {
    let text =
        printed(&["explain", "worker", "prod-db", "vpc.toml", "--port", "5432", "--family", "4", "--json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    let family = &value[0]["families"][0];
    assert_eq!((&family["family"], &family["destination"]), (&"4".into(), &"10.20.2.2".into()));
    let outcome = &family["outcomes"][0];
    assert_eq!((&outcome["verdict"], &outcome["masqueraded"]), (&"allowed".into(), &false.into()));
    let last = outcome["way"].as_array().unwrap().last().unwrap();
    assert_eq!(last["key"], "policies.db.ingress[0]");
    assert_eq!(last["written_at"], "vpc.toml:55");
}

#[test]
fn who_is_not_there_cannot_be_asked_about() {
    let refused = |ends: [&str; 2], options: &[&str]| {
        let output = hostctl(&[&["explain"], &ends[..], &["vpc.toml"], options].concat());
        assert_eq!(output.status.code(), Some(1), "{ends:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (ends, options, what) in [
        (["wroker", "host"], &[][..], "there is no guest, network or subnet wroker: did you mean worker?"),
        (["worker", "prod/wbe"], &[], "did you mean prod/web?"),
        (["zzz", "host"], &[], "name one, or an address"),
        (["worker", "tailnet"], &[], "the spec has no tailnet"),
        (["imds", "worker"], &[], "open no flows"),
        (["10.20.1.77", "worker"], &[], "no guest has 10.20.1.77"),
        (["worker", "10.20.2.2"], &["--family", "6"], "one family"),
        (["worker", "host"], &["--protocol", "icmp", "--port", "1"], "icmp has no ports"),
        (["worker", "host"], &["--protocol", "udp"], "say which --port"),
    ] {
        let text = refused(ends, options);
        assert!(text.contains(what), "{ends:?}: {text}");
    }
}

/// Two specs in files, compared.
fn compared(old: &str, new: &str, options: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let files = [("old.toml", old), ("new.toml", new)].map(|(name, text)| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    });
    let output = hostctl(&[&["diff"], &files.each_ref().map(String::as_str)[..], options].concat());
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_change_says_what_opens_and_what_closes() {
    let old = fs::read_to_string(example("vpc.toml")).unwrap();
    let edits = [
        ("a port more, one less", old.replace("port = [80, 443]", "port = [80, \"8000-8080\"]")),
        ("the office goes out", old.replace("nat = false", "nat = true")),
        ("the office goes out elsewhere", old.replace("nat = false", "nat = \"lan0\"")),
        ("no peering", old.replace("[[peerings]]\nbetween = [\"prod\", \"office\"]", "")),
        (
            "some of the internet",
            old.replace("\"private\"", "\"public\"")
                .replace("egress = []", "egress = [{ destination = \"198.51.100.0/24\" }]"),
        ),
        ("metadata", old.replace("cidr = \"10.30.0.0/16\"", "cidr = \"10.30.0.0/16\"\nimds = \"host\"")),
        ("a guest goes", old.replace("[vms.worker]", "[vms.other]")),
        ("the whole machine", format!("[host]\nfirewall = \"full\"\n{old}")),
        ("a comment", format!("# another\n{old}")),
    ];
    let texts = edits.map(|(what, new)| {
        assert!(new != old, "{what}");
        let (code, text) = compared(&old, &new, &[]);
        assert_eq!(code, Some(0), "{what}");
        format!("{what}:\n{text}")
    });
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_widening_can_fail_a_pipeline() {
    let old = fs::read_to_string(example("vpc.toml")).unwrap();
    let wider = old.replace("nat = false", "nat = true");
    assert_eq!(compared(&old, &wider, &["--exit-code"]).0, Some(1));
    assert_eq!(compared(&wider, &old, &["--exit-code"]).0, Some(0));
    let (code, text) = compared(&old, &wider, &["--json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &value["widens"]), (Some(0), &true.into()));
    let change = &value["changes"][0];
    assert_eq!((&change["from"][0], &change["to"][0]), (&"office-desk".into(), &"internet".into()));
    assert_eq!(change["services"]["v4"]["tcp"][0], "0-65535");
}

#[test]
fn many_alike_are_few_lines() {
    let spec = |policy: &str| {
        let networks =
            (0..40).map(|n| format!("[networks.n{n}]\ncidr = \"10.0.{n}.0/24\"\npolicy = \"{policy}\"\n"));
        let vms = (0..400).map(|v| format!("[vms.v{v}]\nnetwork = \"n{}\"\nimage = \"i\"\n", v % 40));
        let policies = "[policies.p]\ningress = [{ source = \"policy:p\" }]\n[policies.q]\ningress = []\n";
        networks.chain(vms).collect::<String>() + policies
    };
    let (_, text) = compared(&spec("p"), &spec("q"), &[]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].ends_with("and 32 more -> itself: everything (IPv4)"), "{text}");
    assert_eq!(lines[1], "nothing opens: guests reach less than before");
}

#[test]
fn a_plan_ends_with_what_opens() {
    let lab = Lab::new(Options::default());
    let spec = "[networks.a]\ncidr = \"10.1.0.0/24\"\n[networks.a.subnets.s]\ncidr = \"10.1.0.0/25\"\n\
                type = \"public\"\nnamespace = true\n";
    let file = lab.root_dir().join("host.toml");
    let path = file.display().to_string();
    let plan = |text: &str, options: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let output = lab.hostctl(&[&["plan", path.as_str()], options].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = plan(spec, &[]);
    assert!(
        first.contains("\nwho reaches whom, compared with an empty host:\n+ OPENS  a-s -> host: ping"),
        "{first}"
    );
    lab.apply(spec);
    assert_eq!(plan(spec, &[]), "nothing to do\n");
    let private = spec.replace("public", "private");
    let narrower = plan(&private, &[]);
    let end = "\nwho reaches whom, compared with generation 1:\n- closes a-s -> internet: everything (IPv4)\n\
               nothing opens: guests reach less than before\n";
    assert!(narrower.ends_with(end), "{narrower}");
    let json: Value = serde_json::from_str(&plan(&private, &["--json"])).unwrap();
    assert_eq!((&json["widens"], json["changes"].as_array().unwrap().len()), (&false.into(), 1));
    // A generation can be compared with a file.
    let output = lab.hostctl(&["diff", "1", path.as_str()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("- closes a-s -> internet"), "{text}");
    let output = lab.hostctl(&["diff", "7", path.as_str()]);
    assert!(!output.status.success());
}
