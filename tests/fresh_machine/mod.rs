//! What `make test` lets tests see, and what `make fresh` refuses. The machines
//! themselves are made by run.sh.

use crate::support::docs_support::top;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

fn here(name: &str) -> PathBuf {
    top().join("tests/fresh_machine").join(name)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Whether there is no dpkg; says so.
fn not_debian() -> bool {
    let missing = Command::new("dpkg-query").arg("--version").output().is_err();
    if missing {
        eprintln!("skipped: there is no dpkg here that says which package has which program");
    }
    missing
}

/// A directory, in a path with a space, of links to the declared programs. The
/// machine has another `nft` and a program that nobody declared.
fn links() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let others = directory.path().join("others");
    fs::create_dir(&others).unwrap();
    for name in ["undeclared", "nft"] {
        fs::write(others.join(name), "#!/bin/sh\n").unwrap();
        fs::set_permissions(others.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", others.display(), std::env::var("PATH").unwrap());
    let links = directory.path().join("a clone/target/tools/declared");
    for _again in 0..2 {
        let mut link = Command::new(here("link-declared-programs.sh"));
        let said = stdout(&link.arg(&links).env("PATH", &path).output().unwrap());
        assert_eq!(said, format!("{}\n", links.display()));
    }
    assert_eq!(fs::read_dir(links.parent().unwrap()).unwrap().count(), 1, "nothing beside it is left");
    (directory, links)
}

/// What cargo starts a test's program with.
fn runner() -> Vec<String> {
    let config = fs::read_to_string(top().join(".cargo/config.toml")).unwrap();
    let config: toml::Value = toml::from_str(&config).unwrap();
    let runner = config["target"]["cfg(target_os = \"linux\")"]["runner"].as_array().unwrap();
    runner.iter().map(|word| word.as_str().unwrap().to_string()).collect()
}

#[test]
fn tests_see_declared_programs_and_essential_ones_only() {
    if not_debian() {
        return;
    }
    let (directory, links) = links();
    let others = directory.path().join("others");
    let runner = runner();
    let finds = |name: &str| {
        let mut run = Command::new(&runner[0]);
        run.args(&runner[1..]).args(["/bin/sh", "-c", "command -v \"$1\" || true", "sh", name]);
        run.env("PATH", format!("{}:/usr/sbin:/usr/bin:/bin", others.display()));
        run.env("HOSTCTL_TEST_PATH", &links);
        stdout(&run.output().unwrap())
    };
    let list = Command::new(top().join("vm-images/install-dependencies.sh")).arg("--list").output().unwrap();
    for line in stdout(&list).lines() {
        let (what, _package) = line.split_once(' ').unwrap();
        if what.starts_with("/usr/include/") {
            continue;
        }
        let name = what.rsplit('/').next().unwrap();
        let link = links.join(name);
        assert!(link.exists(), "{what} is declared");
        assert!(!fs::read_link(&link).unwrap().starts_with(directory.path()), "{what} is its package's");
        assert_eq!(finds(name), format!("{}\n", link.display()));
    }
    for essential in ["sh", "bash", "grep", "sed", "cat", "find", "hostname", "dpkg-query", "unshare"] {
        assert!(links.join(essential).exists(), "{essential} is essential");
    }
    for name in ["undeclared", "busybox", "git", "cargo", "rustc", "rsync", "apt-get", "sudo"] {
        assert!(!links.join(name).exists(), "{name} is neither declared nor essential");
        assert_eq!(finds(name), "", "{name} is found");
    }
}

#[test]
fn make_test_shows_tests_no_other_program() {
    let mut make = Command::new("make");
    make.args(["--dry-run", "test", "fresh", "SUITE=trixie"]).current_dir(top());
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
    let commands = stdout(&make.output().unwrap());
    let at = |text: &str| commands.find(text).unwrap_or_else(|| panic!("no {text} in {commands}"));
    let order = [
        "HOSTCTL_TEST_PATH=$(tests/fresh_machine/link-declared-programs.sh \"$directory/declared\") &&",
        "export HOSTCTL_TEST_PATH &&",
        "cargo nextest run",
        "cargo test --doc",
    ];
    assert!(order.map(at).is_sorted(), "{commands}");
    at("tests/fresh_machine/run.sh trixie");
}

#[test]
fn a_fresh_machine_is_of_a_release() {
    for suite in ["../bookworm", "bookworm/x", "-h", "Trixie", "a b"] {
        let output = Command::new(here("run.sh")).arg(suite).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{suite}: {error}");
        assert!(error.contains("is no name of a release, such as bookworm or trixie"), "{suite}: {error}");
    }
}
