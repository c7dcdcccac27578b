//! Running Nix, on a machine that may have none.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The repository.
pub use crate::support::docs_support::top;

/// Whether there is Nix; says so where there isn't.
pub fn missing() -> bool {
    let found = Command::new("nix-instantiate").arg("--version").output().is_ok_and(|it| it.status.success());
    if !found {
        eprintln!("skipped: there is no nix-instantiate here (Debian: apt-get install nix-bin)");
    }
    !found
}

/// What a Nix expression comes to, evaluated in the directory of these files.
/// Nothing is built and nothing written to a store. With
/// `HOSTCTL_NIXPKGS_LIB` it is nixpkgs' own lib that does it.
///
/// # Errors
/// What Nix says.
pub fn evaluate(expression: &str) -> Result<Value, String> {
    let home = tempfile::tempdir().unwrap();
    let output = command("nix-instantiate", home.path())
        .args([
            "--eval",
            "--strict",
            "--json",
            "--readonly-mode",
            "--store",
            "dummy://",
            "--expr",
            expression,
        ])
        .current_dir(top().join("tests/nix"))
        .output()
        .unwrap();
    // It prints what it has before it comes to an error.
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A host's configuration, as `host.nix` shows it; `module` is a NixOS module.
pub fn host(module: &str) -> Result<Value, String> {
    evaluate(&format!("import ./host.nix {{ host = {module}; }}"))
}

/// A program of Nix's that keeps everything of its own under `home`.
pub fn command(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("HOME", home)
        .env("XDG_CACHE_HOME", home.join("cache"))
        .env("NIX_CONF_DIR", home.join("conf"));
    command
}

/// `nix ARGUMENTS` on a copy of the flake, with a store of its own and the stub
/// in nixpkgs' place.
pub fn flake(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let source = home.path().join("source");
    for part in FLAKE {
        copy(&top().join(part), &source.join(part));
    }
    let output = command("nix", home.path())
        .env("NIX_STORE_DIR", home.path().join("nix/store"))
        .env("NIX_STATE_DIR", home.path().join("nix/var"))
        .env("NIX_LOG_DIR", home.path().join("nix/log"))
        .args(["--extra-experimental-features", "nix-command flakes", "--option", "build-users-group", ""])
        .args(arguments)
        .args(["--offline", "--no-write-lock-file", "--override-input", "nixpkgs"])
        .arg(format!("path:{}", source.join("tests/nix/stub-nixpkgs").display()))
        .arg(format!("path:{}", source.display()))
        .output()
        .unwrap();
    // What is in a store can't be written to, nor removed.
    writable(&home.path().join("nix"));
    output
}

/// What the flake reads.
const FLAKE: [&str; 12] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "examples",
    "flake.lock",
    "flake.nix",
    "nix",
    "src",
    "templates",
    "tests",
    "vm-images",
];

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        copy(&from.join(&name), &to.join(&name));
    }
}

fn writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(about) = std::fs::symlink_metadata(path) else { return };
    if about.is_dir() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        for entry in std::fs::read_dir(path).unwrap() {
            writable(&entry.unwrap().path());
        }
    }
}
