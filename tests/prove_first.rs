//! `--prove`: a spec is checked, planned and applied only where the rules are
//! proved. What isn't proved is played by an nft that lists the rules otherwise.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use hostctl::testbed::Options;
use serde_json::Value;

use crate::support::lab::Lab;

const SPEC: &str = r#"[host]
uplink = "uplink0"
[networks.a]
cidr = "10.1.0.0/24"
[networks.a.subnets.s]
cidr = "10.1.0.0/25"
type = "private"
namespace = true
policy = "p"
[policies.p]
ingress = [{ protocol = "tcp", port = 80 }]
"#;

/// What a rule that drops what policies deny becomes in a listing.
const OPEN: &str = r#"{"accept": null}"#;
const STRANGE: &str = r#"{"reject": null}"#;

struct Desk {
    lab: Lab,
    spec: PathBuf,
    /// Directories that have an nft of their own.
    programs: tempfile::TempDir,
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn ends(&self, code: i32, words: &[&str]) -> &Self {
        let all = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, Some(code), "{all}");
        for word in words {
            assert!(all.contains(word), "{word} isn't said: {all}");
        }
        self
    }
}

impl Desk {
    fn new() -> Self {
        let lab = Lab::new(Options::default());
        let spec = lab.root_dir().join("spec.toml");
        std::fs::write(&spec, SPEC).unwrap();
        Self { lab, spec, programs: tempfile::tempdir().unwrap() }
    }

    /// Runs hostctl; where `verdict` is one, nft lists that in the place of a drop.
    fn run(&self, verdict: Option<&str>, arguments: &[&str]) -> Said {
        let path = std::env::var("PATH").unwrap();
        let path = match verdict {
            Some(verdict) => format!("{}:{path}", self.nft_that_lists(verdict).display()),
            None => path,
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
        command.arg("--root-dir").arg(self.lab.root_dir()).args(arguments).env("PATH", path);
        let output = self.lab.world.hypervisor.run(|| command.output()).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn nft_that_lists(&self, verdict: &str) -> PathBuf {
        let directory = self.programs.path().join(verdict.replace(|c: char| !c.is_alphabetic(), ""));
        if directory.exists() {
            return directory;
        }
        let found = Command::new("sh").args(["-c", "command -v nft"]).output().unwrap();
        let real = String::from_utf8(found.stdout).unwrap();
        let script = format!(
            "#!/bin/sh\nif [ \"$1 $2\" = '-j list' ]; then\n  {0} \"$@\" | sed 's/\\(\"a guest.s policy denies it\"[^]]*\\){{\"drop\": null}}/\\1{verdict}/'\nelse\n  exec {0} \"$@\"\nfi\n",
            real.trim()
        );
        std::fs::create_dir(&directory).unwrap();
        let program = directory.join("nft");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        directory
    }

    fn spec(&self) -> &str {
        self.spec.to_str().unwrap()
    }

    /// Nothing of hostctl's is there.
    #[track_caller]
    fn is_bare(&self) {
        assert!(!self.lab.output("nft", &["list", "tables"]).contains("hostctl"));
        assert!(!self.lab.output("ip", &["-br", "link"]).contains("br-"));
        let generations = self.run(None, &["generations"]);
        assert!(generations.out.contains("nothing is applied yet"), "{}", generations.out);
    }
}

#[test]
fn a_check_with_a_proof_ends_as_the_proof() {
    let desk = Desk::new();
    let spec = desk.spec();
    desk.run(None, &["check", "--prove", spec]).ends(0, &["ok: 1 network", "equal for every packet"]);
    let json = desk.run(None, &["--json", "check", "--prove", spec]);
    let value: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&value["proof"]["answer"], &value["networks"]), (&"equal".into(), &1.into()));
    desk.run(Some(OPEN), &["check", "--prove", spec])
        .ends(6, &["by the rules passed", "no rule allows it", &format!("{spec}:11")]);
    let json = desk.run(Some(OPEN), &["--json", "check", "--prove", spec]);
    let value: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["proof"]["answer"], "different");
    desk.run(Some(STRANGE), &["check", "--prove", spec]).ends(1, &["nothing is proved", "reject"]);
    // Without it nobody asks nft, and a spec that is refused isn't proved.
    desk.run(Some(STRANGE), &["check", spec]).ends(0, &["ok"]);
    std::fs::write(&desk.spec, "[networks.a]\n").unwrap();
    desk.run(None, &["check", "--prove", spec]).ends(3, &["cidr"]);
}

#[test]
fn what_isnt_proved_is_refused_before_anything_is_touched() {
    let desk = Desk::new();
    let spec = desk.spec();
    for (nft, says) in [
        (OPEN, &["nothing was changed", "by the rules passed", "no rule allows it", "spec.toml:11"][..]),
        (STRANGE, &["nothing was changed", "nobody can say", "reject", "without --prove"]),
    ] {
        desk.run(Some(nft), &["apply", "--prove", spec]).ends(3, says);
        desk.is_bare();
        desk.run(Some(nft), &["plan", "--prove", spec]).ends(3, says);
        desk.run(Some(nft), &["apply", "--prove", "--confirm", "60s", spec]).ends(3, says);
        desk.is_bare();
        desk.run(None, &["confirm"]).ends(1, &["nothing to confirm"]);
        let json = desk.run(Some(nft), &["--json", "apply", "--prove", spec]);
        let error: Value = serde_json::from_str(json.err.trim()).unwrap();
        assert_eq!((&error["error"]["kind"], &error["error"]["exit_code"]), (&"refused".into(), &3.into()));
        desk.is_bare();
    }
    // At boot nobody waits for a proof.
    desk.run(None, &["apply", "--firewall-only", "--prove", spec]).ends(2, &["--prove"]);
}

#[test]
fn what_is_proved_is_applied_by_every_command_that_loads_rules() {
    let desk = Desk::new();
    let spec = desk.spec();
    desk.run(None, &["plan", "--prove", spec]).ends(0, &["proved: equal for every packet"]);
    desk.is_bare();
    desk.run(None, &["apply", "--prove", spec]).ends(0, &["proved: equal for every packet", "generation 1"]);
    // Commands that edit the spec: as they are, and rehearsed.
    let host = desk.lab.root_dir().join("etc/hostctl");
    std::fs::create_dir_all(&host).unwrap();
    std::fs::write(host.join("host.toml"), SPEC).unwrap();
    let create = ["vpc", "create", "--name", "b", "--cidr", "10.2.0.0/24", "--prove"];
    let rehearsed = [&create[..], &["--dry-run"]].concat();
    desk.run(None, &rehearsed).ends(0, &["proved: equal for every packet"]);
    for arguments in [&create[..], &rehearsed] {
        desk.run(Some(OPEN), arguments).ends(3, &["nothing was changed", "by the rules passed"]);
        let drop_in = desk.lab.root_dir().join("var/lib/hostctl/host.d/commands.json");
        assert!(!drop_in.exists(), "{}", drop_in.display());
        assert!(!desk.lab.output("ip", &["-br", "link"]).contains("br-b"));
    }
    desk.run(None, &create).ends(0, &["proved: equal for every packet"]);
    assert!(desk.lab.output("ip", &["-br", "link"]).contains("br-b"));
    for arguments in [&["rollback", "1", "--prove"][..], &["rollback", "1", "--prove", "--dry-run"]] {
        desk.run(Some(OPEN), arguments).ends(3, &["nothing was changed"]);
        assert!(desk.lab.output("ip", &["-br", "link"]).contains("br-b"));
    }
    desk.run(None, &["rollback", "1", "--prove", "--dry-run"]).ends(0, &["proved: equal"]);
    desk.run(None, &["rollback", "1", "--prove"]).ends(0, &["proved: equal"]);
    assert!(!desk.lab.output("ip", &["-br", "link"]).contains("br-b"));
}
