//! What `make test` lets tests see, and what `make fresh` refuses. The machines
//! themselves are made by run.sh.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

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

/// A clone, in a path with a space, with the links and the runner.
fn clone() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let clone = directory.path().join("a clone");
    fs::create_dir_all(clone.join("tests/fresh_machine")).unwrap();
    let runner = clone.join("tests/fresh_machine/with-declared-programs.sh");
    fs::copy(here("with-declared-programs.sh"), &runner).unwrap();
    // What this machine has besides.
    let others = directory.path().join("others");
    fs::create_dir(&others).unwrap();
    for name in ["undeclared", "nft"] {
        fs::write(others.join(name), "#!/bin/sh\n").unwrap();
        fs::set_permissions(others.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", others.display(), std::env::var("PATH").unwrap());
    let links = clone.join("target/tools/declared");
    for _again in 0..2 {
        let mut link = Command::new(here("link-declared-programs.sh"));
        assert_eq!(stdout(&link.arg(&links).env("PATH", &path).output().unwrap()), "");
    }
    assert_eq!(fs::read_dir(clone.join("target/tools")).unwrap().count(), 1, "nothing beside it is left");
    (directory, runner)
}

#[test]
fn tests_see_declared_programs_and_essential_ones_only() {
    if not_debian() {
        return;
    }
    let (directory, runner) = clone();
    let runs = |arguments: &[&str]| {
        let mut run = Command::new(&runner);
        run.args(arguments)
            .env("PATH", format!("{}:/usr/sbin:/usr/bin", directory.path().join("others").display()));
        stdout(&run.output().unwrap())
    };
    let links = directory.path().join("a clone/target/tools/declared");
    assert_eq!(runs(&["sh", "-c", "echo \"$PATH\""]), format!("{}\n", links.display()));
    let list = Command::new(top().join("vm-images/install-dependencies.sh")).arg("--list").output().unwrap();
    for line in stdout(&list).lines() {
        let (what, _package) = line.split_once(' ').unwrap();
        let name = what.rsplit('/').next().unwrap();
        if what.starts_with("/usr/include/") {
            continue;
        }
        let link = links.join(name);
        assert!(link.exists(), "{what} is declared");
        assert!(!fs::read_link(link).unwrap().starts_with(directory.path()), "{what} is its package's");
    }
    for essential in ["sh", "bash", "grep", "sed", "cat", "find", "hostname", "dpkg-query", "unshare"] {
        assert!(links.join(essential).exists(), "{essential} is essential");
    }
    let undeclared = ["undeclared", "busybox", "git", "cargo", "rustc", "rsync", "apt-get", "sudo"];
    for name in undeclared {
        assert!(!links.join(name).exists(), "{name} is neither declared nor essential");
        assert_eq!(runs(&["sh", "-c", "command -v \"$1\" || true", "sh", name]), "", "{name} is found");
    }
}

#[test]
fn make_test_shows_tests_no_other_program() {
    let mut make = Command::new("make");
    make.args(["--dry-run", "test", "fresh", "SUITE=trixie"]).current_dir(top());
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
    let commands = stdout(&make.output().unwrap());
    let runs = |line: &&str| line.starts_with("cargo nextest run") || line.starts_with("cargo test");
    let tests: Vec<&str> = commands.lines().filter(runs).collect();
    assert_eq!(tests.len(), 2, "{commands}");
    for line in tests {
        assert!(line.contains("runner = 'tests/fresh_machine/with-declared-programs.sh'"), "{line}");
    }
    let linked = commands.find("link-declared-programs.sh target/tools/declared").unwrap();
    assert!(linked < commands.find("cargo nextest run").unwrap(), "{commands}");
    assert!(commands.contains("tests/fresh_machine/run.sh trixie"), "{commands}");
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
