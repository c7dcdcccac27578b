//! The hostctl program, run in a lab.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::support::lab::Lab;

/// Writes the host's own spec file.
pub fn write(lab: &Lab, text: &str) {
    let path = lab.host.root.host_spec();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Its exit code, and both outputs together.
pub fn code(output: Output) -> (Option<i32>, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Runs hostctl; its exit code and both outputs together.
pub fn run(lab: &Lab, arguments: &[&str]) -> (i32, String) {
    let (code, text) = code(lab.hostctl(arguments));
    (code.unwrap(), text)
}

/// As [`run`], where it succeeds.
pub fn done(lab: &Lab, arguments: &[&str]) -> String {
    let (code, text) = run(lab, arguments);
    assert_eq!(code, 0, "{arguments:?}: {text}");
    text
}

/// Runs hostctl with the words of a line, which has to succeed; its standard output.
#[track_caller]
pub fn typed(lab: &Lab, line: &str) -> String {
    let output = lab.hostctl(&line.split_whitespace().collect::<Vec<_>>());
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// As [`run`], where it fails with that exit code and says so.
pub fn refused(lab: &Lab, arguments: &[&str], wanted: i32, words: &str) {
    let (code, text) = run(lab, arguments);
    assert_eq!(code, wanted, "{arguments:?}: {text}");
    assert!(text.contains(words), "{arguments:?}: {text}");
}

/// What it prints for programs.
pub fn json(lab: &Lab, arguments: &[&str]) -> Value {
    let output = lab.hostctl(&[&["--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs hostctl so that it is killed at a point (`src/host/kill_point.rs`).
pub fn killed_at(lab: &Lab, point: u64, arguments: &[&str]) -> Output {
    let root = lab.root_dir();
    lab.world.hypervisor.run(|| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hostctl"));
        command.env("HOSTCTL_KILL_AT", point.to_string());
        command.arg("--root-dir").arg(root).args(arguments).output().unwrap()
    })
}

pub fn links(lab: &Lab) -> String {
    lab.output("ip", &["-br", "link"])
}
