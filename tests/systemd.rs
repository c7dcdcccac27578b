//! The units and `make install`, without a service manager: systemd-analyze
//! understands every line, and what confines a unit doesn't get less by
//! accident. tests/vm_systemd.rs runs the units.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UNITS: [&str; 5] = [
    "hostctl-hold.service",
    "hostctl-firewall.service",
    "hostctl.service",
    "hostctl-vm@.service",
    "hostctl-audit.service",
];

fn make(target: &str, destination: &Path) -> Output {
    let mut make = Command::new("make");
    make.args(["--silent", target, "PREFIX=/opt/hostctl"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    make.arg(format!("DESTDIR={}", destination.display()));
    make.arg(format!("PROGRAM={}", env!("CARGO_BIN_EXE_hostctl")));
    // This test's own make, or cargo's, is none of its business.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
    make.output().unwrap()
}

fn install() -> tempfile::TempDir {
    let destination = tempfile::tempdir().unwrap();
    let output = make("install", destination.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    destination
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every file below `directory`, relative to it.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.strip_prefix(directory).unwrap().display().to_string());
            }
        }
    }
    found
}

/// Installed units, in a directory of their own, whose program is the installed
/// one: in no unit's line may be a space, and a clone's path may have one.
fn units() -> (tempfile::TempDir, PathBuf) {
    let destination = install();
    let directory = destination.path().join("etc/systemd/system");
    for name in UNITS {
        let text = fs::read_to_string(directory.join(name)).unwrap();
        assert!(!text.contains("@hostctl@"), "{name}: {text}");
        let program = destination.path().join("opt/hostctl/bin/hostctl");
        assert!(text.contains("=/opt/hostctl/bin/hostctl "), "{name}: {text}");
        fs::write(directory.join(name), text.replace("/opt/hostctl/bin/hostctl", program.to_str().unwrap()))
            .unwrap();
    }
    (destination, directory)
}

#[test]
fn make_install_installs_and_make_uninstall_leaves_nothing() {
    let destination = install();
    let installed = files(destination.path());
    let others: Vec<&str> =
        installed.iter().map(String::as_str).filter(|file| !file.contains("/man1/hostctl-")).collect();
    assert_eq!(
        others,
        [
            "etc/systemd/system/hostctl-audit.service",
            "etc/systemd/system/hostctl-firewall.service",
            "etc/systemd/system/hostctl-hold.service",
            "etc/systemd/system/hostctl-vm@.service",
            "etc/systemd/system/hostctl.service",
            "etc/systemd/system/nftables.service.d/hostctl.conf",
            "opt/hostctl/bin/hostctl",
            "opt/hostctl/share/bash-completion/completions/hostctl",
            "opt/hostctl/share/fish/vendor_completions.d/hostctl.fish",
            "opt/hostctl/share/man/man1/hostctl.1",
            "opt/hostctl/share/zsh/site-functions/_hostctl",
        ]
    );
    assert!(installed.contains("opt/hostctl/share/man/man1/hostctl-vpc-create.1"), "{installed:?}");
    // Everybody may read it and nobody but root write it: the umask here is 000.
    for file in &installed {
        let path = destination.path().join(file);
        let wanted = if file.ends_with("bin/hostctl") { 0o755 } else { 0o644 };
        assert_eq!(mode(&path), wanted, "{file}");
        assert_eq!(mode(path.parent().unwrap()), 0o755, "{file}");
    }
    let program = destination.path().join("opt/hostctl/bin/hostctl");
    assert!(Command::new(program).arg("--version").output().unwrap().status.success());
    let output = make("uninstall", destination.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(files(destination.path()), BTreeSet::new());
}

#[test]
fn what_units_make_is_roots_alone() {
    let (_destination, directory) = units();
    for name in UNITS {
        let text = fs::read_to_string(directory.join(name)).unwrap();
        assert!(text.contains("\nUMask=0077\n"), "{name}");
        for kind in ["Runtime", "State"] {
            let makes = text.contains(&format!("\n{kind}Directory="));
            assert_eq!(makes, text.contains(&format!("\n{kind}DirectoryMode=0700\n")), "{name}");
        }
    }
}

#[test]
fn systemd_understands_every_line() {
    let (_destination, directory) = units();
    let verify = |names: &[&str]| {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["verify", "--man=no"]).args(names.iter().map(|name| directory.join(name)));
        let output = analyze.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    // It exits with 0 whatever it finds.
    assert_eq!(
        verify(&[
            "hostctl-hold.service",
            "hostctl-firewall.service",
            "hostctl.service",
            "hostctl-vm@one.service",
            "hostctl-audit.service"
        ]),
        ""
    );
    let firewall = fs::read_to_string(directory.join("hostctl-firewall.service")).unwrap();
    let misspelt = directory.join("hostctl-firewall.service");
    fs::write(misspelt, firewall.replace("NoNewPrivileges", "NoNewPrivilege")).unwrap();
    assert!(verify(&["hostctl-hold.service", "hostctl-firewall.service"]).contains("NoNewPrivilege"));
}

/// The exposure that docs/operations.md names, times ten: what a unit may have
/// at most. 0 is none, 100 everything.
const EXPOSURE: [(&str, u32); 5] = [
    ("hostctl-hold.service", 25),
    ("hostctl-firewall.service", 25),
    ("hostctl.service", 60),
    ("hostctl-vm@one.service", 35),
    ("hostctl-audit.service", 24),
];

/// The systemd whose figures those are: Debian 12's.
const DOCUMENTED: &str = "252";

fn version() -> String {
    let output = Command::new("systemd-analyze").arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().nth(1).unwrap().to_string()
}

#[test]
fn units_are_as_confined_as_the_documentation_says() {
    let (_destination, directory) = units();
    let documentation =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    for (name, exposure) in EXPOSURE {
        let analyze = |threshold: u32| {
            let mut analyze = Command::new("systemd-analyze");
            analyze.args(["security", "--offline=true", "--no-pager", &format!("--threshold={threshold}")]);
            analyze.arg(directory.join(name)).output().unwrap()
        };
        let output = analyze(exposure);
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name}: {table}");
        // A later systemd knows more that a unit can be confined by, and weighs it otherwise.
        if DOCUMENTED == version() {
            assert!(!analyze(exposure - 1).status.success(), "{name} is confined better: say so");
        }
        let figure = format!("| `{}` | {}.{} |", name.replace("one", ""), exposure / 10, exposure % 10);
        assert!(documentation.contains(&figure), "docs/operations.md doesn't say {figure}");
    }
}

#[test]
fn no_unit_hides_what_the_host_has_to_see() {
    // Named network namespaces are mounts: made in a unit's own mount namespace,
    // nobody else would see them.
    let unit =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/systemd/hostctl.service"))
            .unwrap();
    let settings: Vec<&str> = unit.lines().filter(|line| !line.starts_with('#')).collect();
    let mounts = [
        "Private",
        "ProtectSystem",
        "ProtectHome",
        "ProtectKernel",
        "ProtectControlGroups",
        "ProtectProc",
        "ProcSubset",
        "ReadWritePaths",
        "ReadOnlyPaths",
        "InaccessiblePaths",
        "Bind",
        "TemporaryFileSystem",
        "Root",
        "Mount",
        "DynamicUser",
    ];
    for setting in mounts {
        assert!(!settings.iter().any(|line| line.starts_with(setting)), "{setting}");
    }
    // A unit that is stopped, or stopped with another, ends no guest.
    for name in UNITS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/systemd").join(name);
        let unit = fs::read_to_string(path).unwrap();
        for setting in ["Requires=", "BindsTo=", "PartOf=", "ExecStop="] {
            assert!(!unit.lines().any(|line| line.starts_with(setting)), "{name}: {setting}");
        }
    }
}
