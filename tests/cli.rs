//! The program itself: what it prints, how it ends.

use std::io::Write;
use std::path::PathBuf;

use crate::support::lab::Lab;
use assert_cmd::Command;
use hostctl::testbed::Options;
use serde_json::Value;

fn example(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).display().to_string()
}

/// A program with files of its own, and the spec in one of them.
struct Program {
    directory: tempfile::TempDir,
}

impl Program {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
        command.arg("--root-dir").arg(self.directory.path()).current_dir(self.directory.path());
        command
    }

    fn check(&self, name: &str, bytes: &[u8]) -> (Option<i32>, String) {
        let path = self.directory.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        let output = self.command().arg("check").arg(name).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn every_mistake_is_reported_at_its_place() {
    let program = Program::new();
    let spec = b"[networks.a]\ncidr = \"10.1.0.7/24\"\nimds = \"always\"\n\n[vms.x]\nnetwork = \"b\"\nimagee = \"probe\"\n";
    let (code, text) = program.check("spec.toml", spec);
    assert_eq!(code, Some(3));
    insta::assert_snapshot!(text);
}

#[test]
fn hostile_specs_are_refused_and_nothing_is_lost() {
    let program = Program::new();
    let long = "a".repeat(200);
    for name in
        ["\\\"; flush ruleset", "../..", "n\u{e4}me", "\u{202e}x", &long, "", "-x", "a b", "$(reboot)"]
    {
        let spec = format!("[networks.\"{name}\"]\ncidr = \"10.1.0.0/24\"\n");
        let (code, text) = program.check("spec.toml", spec.as_bytes());
        assert_eq!(code, Some(3), "{name}: {text}");
        assert!(text.starts_with("spec.toml:1:"), "{text}");
        assert!(!text.contains('\u{202e}'), "{text:?}");
    }
    let huge = vec![b'#'; 5 << 20];
    let (code, text) = program.check("huge.toml", &huge);
    assert_eq!(code, Some(3), "{text}");
    let deep = "[".repeat(100_000);
    for name in ["deep.json", "deep.toml"] {
        let (code, text) = program.check(name, deep.as_bytes());
        assert_eq!(code, Some(3), "{text}");
    }
    let (code, text) = program.check("latin1.toml", b"# \xe4\n");
    assert_eq!(code, Some(3), "{text}");
    let missing = program.command().args(["check", "nowhere.toml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(3));
}

#[test]
fn the_matrix_is_printed() {
    let program = Program::new();
    let output = program.command().args(["matrix", &example("five-networks.toml")]).output().unwrap();
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
    let output = program.command().args(["--json", "matrix", &example("peered.toml")]).output().unwrap();
    let matrix: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cells = matrix["cells"].as_array().unwrap();
    let (from, to) = (matrix["from"].as_array().unwrap(), matrix["to"].as_array().unwrap());
    assert_eq!(cells.len(), from.len() * to.len());
    assert!(cells.iter().any(|cell| cell["why"] == "peered" && cell["reach"] == "allow"));
}

#[test]
fn usage_is_an_error_of_its_own() {
    let program = Program::new();
    for arguments in [&["nonsense"][..], &["apply", "a", "b"], &["render", "--format", "xml"], &[]] {
        assert_eq!(
            program.command().args(arguments).output().unwrap().status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}

#[test]
fn render_prints_what_is_loaded() {
    let lab = Lab::new(Options::default());
    let spec = example("five-networks.toml");
    let spec = spec.as_str();
    let text = lab.hostctl(&["render", spec]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("set uplinks {\n        type ifname\n        elements = {\n            \"uplink0\""),
        "{text}"
    );
    // Each rule says what it is for.
    let rules = text.lines().filter(|line| line.starts_with("        ")).map(str::trim);
    let verdicts = ["accept", "drop", "jump", "goto", "masquerade"];
    for rule in
        rules.filter(|rule| verdicts.iter().any(|verdict| rule.split(' ').any(|word| word == *verdict)))
    {
        let described = rule.contains("comment")
            || rule.contains("policy")
            || rule.starts_with("goto drop_")
            || rule.contains("vmap");
        assert!(described, "{rule}");
    }
    std::fs::write(lab.root_dir().join("rules.nft"), &text).unwrap();
    let file = lab.root_dir().join("rules.nft").display().to_string();
    lab.output("nft", &["-c", "-f", &file]);

    let json = lab.hostctl(&["render", "--format", "json", spec]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json["nftables"].as_array().unwrap().len() > 50);

    // `plan` and `apply` without images: nothing is touched, and the message says what to do.
    let refused = lab.hostctl(&["apply", spec]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(message.contains("there is no image probe"), "{message}");
    assert_eq!(lab.output("nft", &["list", "ruleset"]), "");
}

#[test]
fn json_for_programs() {
    let lab = Lab::new(Options::default());
    let file = lab.root_dir().join("spec.toml").display().to_string();
    std::fs::write(&file, "[networks.a]\ncidr = \"10.1.0.0/24\"\n").unwrap();
    let json = |arguments: &[&str]| -> Value {
        let output = lab.hostctl(arguments);
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error} {problem}"))
    };
    assert_eq!(json(&["--json", "check", &file])["networks"], 1);
    let steps = json(&["--json", "plan", &file]);
    assert!(
        steps["steps"].as_array().unwrap().iter().any(|step| step["commands"][0] == "ip link set br-a up")
    );
    assert_eq!(json(&["--json", "apply", &file])["generation"], 1);
    let status = json(&["--json", "status"]);
    assert_eq!(status["networks"][0]["bridge"], "br-a");
    assert_eq!(status["firewall"]["loaded"], true);
    assert_eq!(status["drift"].as_array().unwrap().len(), 0);
    assert_eq!(json(&["--json", "vm", "list"]).as_array().unwrap().len(), 0);
    let findings = json(&["--json", "doctor"]);
    let about: Vec<&str> =
        findings.as_array().unwrap().iter().map(|one| one["about"].as_str().unwrap()).collect();
    for wanted in ["nftables", "firewall", "TUN/TAP", "KVM", "forwarding", "br_netfilter", "other firewalls"]
    {
        assert!(about.contains(&wanted), "{about:?}");
    }
    assert!(json(&["--json", "down"])["steps"].as_array().unwrap().len() >= 2);
    assert_eq!(lab.output("nft", &["list", "ruleset"]), "");
}

#[test]
fn doctor_names_a_firewall_that_drops() {
    let lab = Lab::new(Options::default());
    lab.output(
        "nft",
        &["add table inet theirs { chain forward { type filter hook forward priority 0; policy drop; }; }"],
    );
    let text = String::from_utf8(lab.hostctl(&["doctor"]).stdout).unwrap();
    assert!(
        text.contains(
            "chain inet theirs forward (another program): policy drop (forward hook) drops: guests of"
        ),
        "{text}"
    );
}
