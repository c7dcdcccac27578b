//! What hostctl keeps is root's alone, whatever the umask: nobody else reads
//! it, connects to it or holds its locks. The tests themselves run under
//! `umask 000` (`.cargo/config.toml`).

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::commands::{code, done, refused, write};
use crate::support::lab::Lab;
use crate::support::spec_parts::{idle_vms, namespace, network4};
use hostctl::host::Lock;

const SPEC: &str = concat!(
    network4!("a" 1),
    namespace!("public" "a" / "in" "10.1.0.0/25"),
    idle_vms!("a1" in "a"),
    r#"[apps.page]
network = "a"
subnet = "in"
webserver = { port = 8080, greeting = "hello" }
[apps.script]
network = "a"
subnet = "in"
command = ["/bin/sh", "-c", "sleep 1000"]
environment = { PASSWORD = "hunter2" }
"#,
);

/// Everything below the run and state directories, and they themselves.
fn kept(lab: &Lab) -> Vec<PathBuf> {
    let mut pending = vec![lab.host.root.run(), lab.host.root.state()];
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push(path);
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

fn assert_private(lab: &Lab, when: &str) {
    for path in kept(lab) {
        assert_eq!(mode(&path) & 0o077, 0, "{when}: {} is {:o}", path.display(), mode(&path));
    }
}

fn assert_no_umask() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("Umask:\t0000\n"), "run by .cargo/config.toml's runner: {status}");
}

#[test]
fn nothing_is_open_to_others_whatever_the_umask() {
    assert_no_umask();
    let lab = Lab::of_ipv4();
    // The library has no umask of its own.
    lab.apply(SPEC);
    assert_private(&lab, "after an apply");
    write(&lab, SPEC);
    done(&lab, &["vpc", "create", "--name", "b", "--cidr", "10.2.0.0/24"]);
    done(&lab, &["rollback"]);
    write(&lab, &SPEC.replace("hello", "good day"));
    done(&lab, &["apply", "--confirm", "1h"]);
    done(&lab, &["status"]);
    assert_private(&lab, "while a confirmation is waited for");
    // Files of each kind were there to be looked at.
    let found = kept(&lab);
    let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    for wanted in ["1.json", "unconfirmed.json", "hostctl.log", "lock", "settled.json", "forwarding.json"] {
        assert!(names.contains(&wanted), "{wanted}: {names:?}");
    }
    for wanted in ["control.sock", "app.json", "supervisor.log", "watchdog.log"] {
        assert!(names.contains(&wanted), "{wanted}: {names:?}");
    }
    let is_socket = |path: &&PathBuf| fs::symlink_metadata(path).unwrap().file_type().is_socket();
    assert_eq!(found.iter().filter(is_socket).count(), 2, "{names:?}");
    done(&lab, &["confirm"]);
    done(&lab, &["cleanup"]);
    assert_private(&lab, "after a cleanup");
}

/// As the versions before made it.
fn loosen(lab: &Lab) {
    for path in kept(lab) {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn what_an_earlier_version_left_open_is_closed_by_the_next_command() {
    let lab = Lab::of_ipv4();
    let apply = |greeting: &str| write(&lab, &SPEC.replace("hello", greeting));
    apply("first");
    done(&lab, &["apply"]);
    apply("second");
    done(&lab, &["apply"]);
    let generations = lab.host.root.state().join("generations");
    let text = fs::read_to_string(generations.join("1.json")).unwrap();
    assert!(text.contains("hunter2"), "a secret that is worth it");
    for command in [&["status"][..], &["generations"], &["plan"], &["apply"], &["vm", "list"]] {
        loosen(&lab);
        done(&lab, command);
        let open: Vec<_> = [lab.host.root.run(), lab.host.root.state(), generations.clone()]
            .into_iter()
            .chain(["1.json", "2.json"].map(|file| generations.join(file)))
            .filter(|path| mode(path) & 0o077 != 0)
            .collect();
        assert_eq!(open, Vec::<PathBuf>::new(), "{command:?}");
    }
    loosen(&lab);
    // The library too.
    lab.apply(SPEC);
    for number in 1..=3 {
        assert_eq!(mode(&generations.join(format!("{number}.json"))), 0o600);
    }
}

/// A program of nobody's that holds the lock; ended with the test.
struct Holding(Child);

impl Holding {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn flock(user: &str, path: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--clear-groups"]);
    // Without a child that would outlive it: it is the sleeper that holds it.
    command.args(["flock", "--shared", "--no-fork"]).arg(path).args(["sleep", "600"]);
    command
}

fn until_held(lab: &Lab) {
    let begun = Instant::now();
    while Lock::take(&lab.host.root, "test").is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody holds it");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nobody_else_can_hold_the_lock() {
    let lab = Lab::of_ipv4();
    write(&lab, SPEC);
    let path = lab.host.root.run().join("lock");
    // An earlier version's, which somebody has locked already.
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "hostctl apply, pid 1\n").unwrap();
    let ancestors: Vec<_> = path.ancestors().take_while(|dir| *dir != lab.root_dir()).collect();
    for dir in [&ancestors[..], &[lab.root_dir()]].concat() {
        fs::set_permissions(dir, Permissions::from_mode(if dir == path { 0o644 } else { 0o755 })).unwrap();
    }
    let _holder = Holding::start(&mut flock("65534", &path));
    let begun = Instant::now();
    while fs::read_to_string("/proc/locks").unwrap().matches(&ino(&path)).count() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    done(&lab, &["apply"]);
    done(&lab, &["apply", "--confirm", "1h"]);
    done(&lab, &["down"]);
    // And nobody gets at the new one, wherever it is.
    assert_eq!(mode(&path), 0o600);
    fs::set_permissions(lab.host.root.run(), Permissions::from_mode(0o755)).unwrap();
    let second = flock("65534", &path).output().unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("Permission denied"), "{second:?}");
}

/// As it stands in the kernel's list.
fn ino(path: &Path) -> String {
    format!(":{} ", fs::metadata(path).unwrap().ino())
}

#[test]
fn who_holds_the_lock_is_asked_of_the_kernel() {
    let lab = Lab::of_ipv4();
    write(&lab, SPEC);
    done(&lab, &["apply"]);
    let path = lab.host.root.run().join("lock");
    // What it says is old, or was never true.
    fs::write(&path, "hostctl down --now, pid 1\n").unwrap();
    let holder = Holding::start(&mut flock("0", &path));
    until_held(&lab);
    let (status, text) = code(lab.hostctl(&["apply"]));
    assert_eq!(status, Some(4), "{text}");
    let wanted = format!("the host is being changed by sleep 600, pid {}:", holder.0.id());
    assert!(text.contains(&wanted), "{text}");
    assert!(!text.contains("down --now"), "{text}");
    drop(holder);
    done(&lab, &["apply"]);
}

#[test]
fn a_command_waits_for_another_where_it_is_told_to() {
    let lab = Lab::of_ipv4();
    write(&lab, SPEC);
    done(&lab, &["apply"]);
    let commands: [&[&str]; 6] = [
        &["apply"],
        &["vpc", "create", "--name", "b", "--cidr", "10.2.0.0/24"],
        &["rollback"],
        &["audit", "--repair"],
        &["confirm"],
        &["down"],
    ];
    for command in commands {
        let lock = Lock::take(&lab.host.root, "apply").unwrap();
        if command[0] != "audit" {
            refused(&lab, command, 4, "being changed by hostctl apply, pid ");
            let begun = Instant::now();
            refused(&lab, &[command, &["--wait=300ms"]].concat(), 4, "being changed by hostctl apply, pid ");
            assert!(begun.elapsed() >= Duration::from_millis(300), "{command:?}");
        }
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| code(lab.hostctl(&[command, &["--wait"]].concat())));
            std::thread::sleep(Duration::from_millis(700));
            assert!(!waiting.is_finished() || command[0] == "audit", "{command:?}");
            drop(lock);
            let (status, text) = waiting.join().unwrap();
            let wanted = if command[0] == "confirm" { Some(1) } else { Some(0) };
            assert_eq!(status, wanted, "{command:?}: {text}");
            if command[0] != "audit" {
                assert!(text.contains("waiting for hostctl apply, pid "), "{command:?}: {text}");
            }
        });
    }
}
