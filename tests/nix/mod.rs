//! The Nix side, with no more than Debian's nix-bin: the files parse, the flake
//! evaluates for both systems, options and JSON Schema are the same, the
//! examples mean what their TOML does, and the module says what it should of
//! right and wrong hosts.
//!
//! nixpkgs' place is taken by `stub-nixpkgs`, whose `lib` was written for
//! these tests. `HOSTCTL_NIXPKGS_LIB=DIR` takes nixpkgs' own lib.

mod guests;
mod hosts;
mod options;
mod program;

use std::path::{Path, PathBuf};
use std::process::Command;

use hostctl::root_dir::RootDir;
use hostctl::spec::load_checked;
use hostctl::topology::{Topology, compile};
use program::{evaluate, flake, missing, top};
use serde_json::Value;

/// The examples that are there in TOML and in Nix.
pub const EXAMPLES: [&str; 4] = ["five-networks", "minimal", "peered", "vpc"];

fn nix_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => nix_files(&path, found),
            Some(extension) if extension == "nix" => found.push(path),
            _ => {}
        }
    }
}

fn all_nix_files() -> Vec<PathBuf> {
    let mut found = vec![top().join("flake.nix")];
    for directory in ["nix", "examples", "tests/nix"] {
        nix_files(&top().join(directory), &mut found);
    }
    assert!(found.len() > 25, "{found:?}");
    found
}

/// What a spec's file comes to.
pub fn topology(file: &Path) -> Topology {
    let none = tempfile::tempdir().unwrap();
    let loaded = load_checked(Some(file), &RootDir::new(none.path()), compile);
    loaded.unwrap_or_else(|error| panic!("{}: {error}", file.display())).compiled
}

/// What a spec comes to.
pub fn topology_of(spec: &Value) -> Topology {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("host.json");
    std::fs::write(&file, spec.to_string()).unwrap();
    topology(&file)
}

#[test]
fn every_file_is_nix() {
    for file in all_nix_files() {
        let parsed = rnix::Root::parse(&std::fs::read_to_string(&file).unwrap());
        assert!(parsed.errors().is_empty(), "{}: {:?}", file.display(), parsed.errors());
    }
}

#[test]
fn every_file_is_nix_to_nix() {
    if missing() {
        return;
    }
    let output = Command::new("nix-instantiate")
        .args(["--store", "dummy://", "--parse"])
        .args(all_nix_files())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_flake_evaluates_for_both_systems() {
    if missing() {
        return;
    }
    // A later Nix leaves out what this machine can't build unless it is told to
    // look; Debian 12's doesn't know the word, and looks.
    let for_all = |arguments: &[&str]| {
        let output = flake(&[arguments, &["--all-systems"]].concat());
        let unknown = String::from_utf8_lossy(&output.stderr).contains("unrecognised flag '--all-systems'");
        if unknown { flake(arguments) } else { output }
    };
    let output = for_all(&["flake", "check", "--no-build"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let output = for_all(&["flake", "show", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    for system in ["x86_64-linux", "aarch64-linux"] {
        for (kind, names) in [
            ("packages", &["default", "demo", "probe-image"][..]),
            ("apps", &["default", "demo"]),
            ("checks", &["examples", "module", "package"]),
            ("devShells", &["default"]),
        ] {
            let found: Vec<&String> = shown[kind][system].as_object().unwrap().keys().collect();
            assert_eq!(found, names, "{kind}.{system}");
        }
        assert_eq!(shown["formatter"][system]["type"], "derivation");
    }
    assert_eq!(shown["nixosModules"]["default"]["type"], "nixos-module");
    assert_eq!(shown["overlays"]["default"]["type"], "nixpkgs-overlay");
    assert_eq!(shown["templates"]["default"]["type"], "template");
}

#[test]
fn the_flake_is_locked_to_nixpkgs_alone() {
    let text = std::fs::read_to_string(top().join("flake.lock")).unwrap();
    let lock: Value = serde_json::from_str(&text).unwrap();
    let inputs: Vec<&String> = lock["nodes"]["root"]["inputs"].as_object().unwrap().keys().collect();
    assert_eq!(inputs, ["nixpkgs"]);
    let locked = &lock["nodes"]["nixpkgs"]["locked"];
    assert_eq!(locked["rev"].as_str().unwrap().len(), 40);
    assert!(locked["narHash"].as_str().unwrap().starts_with("sha256-"));
}

/// Nix value → JSON → the Topology of the TOML beside it.
#[test]
fn examples_are_their_toml_twins() {
    if missing() {
        return;
    }
    for name in EXAMPLES {
        let golden = top().join(format!("nix/examples/{name}.json"));
        let spec = evaluate(&format!("(import ../../nix/lib).specOf (import ../../nix/examples/{name}.nix)"))
            .unwrap();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&golden, serde_json::to_string_pretty(&spec).unwrap() + "\n").unwrap();
        }
        let kept: Value = serde_json::from_str(&std::fs::read_to_string(&golden).unwrap()).unwrap();
        assert_eq!(spec, kept, "{name}: UPDATE_DOCS=1 writes {}", golden.display());
        assert_eq!(topology(&golden), topology(&top().join(format!("examples/{name}.toml"))), "{name}");

        let checked = Command::new(env!("CARGO_BIN_EXE_hostctl"))
            .args(["--root-dir", "/nonexistent", "check"])
            .arg(&golden)
            .output()
            .unwrap();
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn a_spec_is_made_of_options_and_nothing_else() {
    if missing() {
        return;
    }
    let spec = |values: &str| evaluate(&format!("(import ../../nix/lib).specOf {values}"));
    // Nothing said is nothing there; an empty list says "none".
    let empty =
        spec("{ networks = { }; tailscale = null; policies.p.egress = [ ]; policies.q = { }; }").unwrap();
    assert_eq!(empty, serde_json::json!({ "policies": { "p": { "egress": [] }, "q": {} } }));
    for (values, expected) in [
        ("{ network = { }; }", "the spec has no option `network`; it has apps,"),
        ("{ networks.a.cidrr = \"\"; }", "networks.a has no option `cidrr`; it has cidr, cidr6,"),
        ("{ networks.a.subnets.b.readOnly = true; }", "networks.a.subnets.b has no option `readOnly`"),
        (
            "{ vms.a.disk.read_only = true; }",
            "vms.a.disk has no option `read_only`; it has format, path, readOnly",
        ),
        ("{ host.uplink = \"eth0\"; }", "there is no option `host`"),
    ] {
        let said = spec(values).unwrap_err();
        assert!(said.contains(expected), "{values}: {said}");
    }
}

#[test]
fn a_spec_file_is_checked_where_it_is_built() {
    if missing() {
        return;
    }
    let made = evaluate(
        "let pkgs = import ./stub-nixpkgs { }; \
           made = (import ../../nix/lib).mkHostSpec { inherit pkgs; hostctl = pkgs.jq; networks.a.cidr = \"10.1.0.0/24\"; }; \
         in { inherit (made) spec; inherit (made.file) name script; inherit (made.file) text; }",
    )
    .unwrap();
    assert_eq!(made["spec"], serde_json::json!({ "networks": { "a": { "cidr": "10.1.0.0/24" } } }));
    assert_eq!(made["text"].as_str().unwrap(), made["spec"].to_string());
    let script = made["script"].as_str().unwrap();

    // Run, as a builder does: no root of hostctl's, no network.
    let build = |spec: &Value| {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("text"), spec.to_string()).unwrap();
        let jq = "jq() { cat \"$2\"; }; hostctl() { \"$HOSTCTL\" \"$@\"; }";
        let output = Command::new("bash")
            .args(["-euc", &format!("{jq}\n{script}")])
            .envs([("textPath", at("text")), ("out", at("out"))])
            .env("HOSTCTL", env!("CARGO_BIN_EXE_hostctl"))
            .current_dir(&directory)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success() && at("out").exists(), at("ruleset.nft").exists(), said)
    };
    let (built, rendered, said) = build(&made["spec"]);
    assert!(built, "{said}");
    assert!(rendered || said.contains("nft can't check here"), "{said}");
    for (wrong, expected) in [
        (serde_json::json!({ "networks": { "a": { "cidr": "10.1.0.5/24" } } }), "the network is 10.1.0.0/24"),
        (
            serde_json::json!({ "vms": { "a": { "network": "b", "image": "probe" } } }),
            "there is no network b",
        ),
    ] {
        let (built, _, said) = build(&wrong);
        assert!(!built && said.contains(expected), "{said}");
    }
}

/// What the documentation shows is Nix, and a host that the module takes.
#[test]
fn the_documentations_hosts_evaluate() {
    let text = std::fs::read_to_string(top().join("docs/nixos.md")).unwrap();
    let blocks: Vec<&str> =
        text.split("```nix\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 2, "{}", blocks.len());
    for block in blocks {
        assert!(rnix::Root::parse(block).errors().is_empty(), "{block}");
        if missing() {
            continue;
        }
        let found =
            program::host(&format!("{{ imports = [ ({block}) ]; networking.nftables.enable = true; }}"))
                .unwrap();
        assert_eq!(found["failed"], Value::Null, "{block}");
        assert!(!topology_of(&found["spec"]).vms.is_empty(), "{block}");
    }
}
