//! Completions and manual pages: there is one for each command, and the same
//! program always makes the same.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs)]

mod docs_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use docs_support::cli;

fn hostctl(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_hostctl")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn pages(directory: &Path) -> BTreeMap<String, String> {
    hostctl(&["man", directory.to_str().unwrap()]);
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let page = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
    };
    entries.map(page).collect()
}

#[test]
fn every_command_has_a_manual_page_and_nothing_else_has() {
    let directory = tempfile::tempdir().unwrap();
    // A directory that isn't there yet is made.
    let written = pages(&directory.path().join("man/man1"));
    let name = |help: &cli::Help| format!("{}.1", help.name().replace(' ', "-"));
    let mut wanted: Vec<String> = cli::commands().iter().map(name).collect();
    wanted.sort();
    assert_eq!(written.keys().cloned().collect::<Vec<_>>(), wanted);
    let create = &written["hostctl-vpc-create.1"];
    let version = env!("CARGO_PKG_VERSION");
    let title = format!(".TH hostctl-vpc-create 1 \\& \"hostctl {version}\" hostctl\n");
    assert!(create.contains(&title), "{create}");
    assert!(create.contains("\\fBhostctl vpc create\\fR") && create.contains("\\-\\-cidr6"), "{create}");
    for (name, page) in &written {
        // See-also entries are pages that exist; there is none for `help`.
        for line in page.lines().filter(|line| line.ends_with("(1)")) {
            let other = line.replace('\\', "").replace("(1)", ".1");
            assert!(written.contains_key(&other), "{name} names {other}");
        }
    }
    assert_eq!(pages(&directory.path().join("again")), written);
}

#[test]
fn bash_completes_commands_and_options() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hostctl");
    fs::write(&file, hostctl(&["completions", "bash"])).unwrap();
    let complete = |words: &[&str]| {
        // As bash calls it: command, the word, the one before it.
        let script = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _hostctl hostctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}""#;
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", script, "bash"]).arg(&file).args(words);
        let output = bash.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let mut found: Vec<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_string).collect();
        found.sort();
        found
    };
    assert_eq!(complete(&["hostctl", "vp"]), ["vpc"]);
    assert_eq!(complete(&["hostctl", "vpc", "s"]), ["show"]);
    assert_eq!(complete(&["hostctl", "vpc", "create", "--c"]), ["--cidr", "--cidr6"]);
}

#[test]
fn every_shell_knows_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let text = hostctl(&["completions", shell]);
        for help in cli::commands() {
            for name in &help.path {
                assert!(text.contains(name.as_str()), "{shell}: no {name}");
            }
        }
        assert_eq!(text, hostctl(&["completions", shell]));
    }
    let refused = Command::new(env!("CARGO_BIN_EXE_hostctl")).args(["completions", "sh"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn pages_that_cant_be_written_are_a_failure() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hostctl")).arg("man").arg(file.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("can't write manual pages to"));
}
