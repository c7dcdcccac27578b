//! Guests that are NixOS configurations, and the tests that NixOS would boot.

use std::process::Command;

use hostctl::topology::compile;
use hostctl::vm::{Accelerator, BootFiles, Fds, command_line};
use serde_json::Value;

use super::program::{evaluate, missing, top};

/// The words that hostctl gives a guest's kernel.
fn kernel_words(spec: &str) -> String {
    let topology = compile(&toml::from_str(spec).unwrap()).unwrap();
    let boot = BootFiles {
        kernel: Some("/kernel".into()),
        initrd: None,
        disk: None,
        volumes: Vec::new(),
        cmdline: String::new(),
        agent: false,
        instance: String::new(),
    };
    let fds = Fds {
        tap: 3,
        offload: false,
        vhost: None,
        qmp: 4,
        agent: 5,
        serial: 6,
        kernel: Some(7),
        initrd: None,
        disk: None,
        volumes: Vec::new(),
        disk_thread: false,
    };
    let command = command_line(&topology.vms[0], &boot, Accelerator::Tcg, &fds);
    let at = command.args.iter().position(|word| word == "-append").unwrap();
    command.args[at + 1].clone()
}

/// What the guest's script makes of them for systemd-networkd.
fn network(words: &str) -> Vec<(String, String)> {
    let directory = tempfile::tempdir().unwrap();
    let cmdline = directory.path().join("cmdline");
    std::fs::write(&cmdline, format!("{words}\n")).unwrap();
    let files = directory.path().join("network");
    // Twice: a guest whose unit is started again.
    for _ in 0..2 {
        let output = Command::new("sh")
            .arg(top().join("nix/modules/guest-network.sh"))
            .args([&cmdline, &files])
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    let mut found: Vec<(String, String)> = std::fs::read_dir(&files)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// With a gateway that the subnet doesn't hold, and IPv6 resolvers.
#[test]
fn a_guest_has_the_network_that_the_host_says() {
    let words = kernel_words(
        "host = { dns = [\"1.1.1.1\", \"2606:4700:4700::1111\"] }
         [networks.prod]
         cidr = \"10.20.0.0/16\"
         cidr6 = \"fd00:0:0:20::/60\"
         [networks.prod.subnets.web]
         cidr = \"10.20.1.0/24\"
         cidr6 = \"fd00:0:0:21::/64\"
         type = \"public\"
         [vms.web]
         network = \"prod\"
         image = \"probe\"",
    );
    let found = network(&words);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "10-hostctl-eth0.network");
    insta::assert_snapshot!(found[0].1);
}

#[test]
fn a_guest_without_words_has_no_network() {
    assert_eq!(network("quiet root=/dev/vda ip=dhcp console=ttyS0"), []);
    // What could lead out of the directory is none of hostctl's.
    assert_eq!(network("ip=10.1.0.2::10.1.0.1:24:web:../../eth0:none"), []);
}

/// Evaluated as far as it goes without nixpkgs: the nodes with their variants,
/// and the script, which is Python.
#[test]
fn nixos_tests_evaluate() {
    if missing() {
        return;
    }
    let found = evaluate(
        "let pkgs = import ./stub-nixpkgs { }; \
         in builtins.mapAttrs (_: test: { inherit (test) testScript findings; }) (import ../../nix/tests { inherit pkgs; })",
    )
    .unwrap();
    let tests = found.as_object().unwrap();
    assert_eq!(tests.keys().collect::<Vec<_>>(), ["firewall", "host"]);
    assert_eq!(found["host"]["findings"]["host"].as_array().unwrap().len(), 3, "with two variants");
    for (name, test) in tests {
        for (node, variants) in test["findings"].as_object().unwrap() {
            for variant in variants.as_array().unwrap() {
                assert_eq!(variant["failed"], Value::Array(Vec::new()), "{name}: {node}");
                if node == "host" {
                    super::topology_of(&variant["spec"]);
                }
            }
        }
        let script = test["testScript"].as_str().unwrap();
        let output = Command::new("python3")
            .args(["-c", "import ast, sys; ast.parse(sys.argv[1])", script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
