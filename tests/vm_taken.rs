//! What a QEMU that its guest has taken over can do: a program that tries it
//! all, started by a supervisor as QEMU is.

use std::collections::BTreeMap;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command, Stdio};

use crate::support::processes::{kill, until};
use crate::support::vm_host::Host;

/// A supervisor whose QEMU is the program.
struct Taken {
    host: Host,
    supervisor: Child,
    _program: tempfile::TempDir,
    _sockets: [UnixListener; 2],
}

impl Taken {
    fn start() -> Self {
        let host = Host::new(|vm| vm.restart = false);
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("qemu-system-x86_64");
        std::fs::copy(env!("CARGO_BIN_EXE_hostctl-taken-qemu"), program).unwrap();
        // Beside it, all that anybody may read and connect to.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(dir.path().join("world-readable"), "secret").unwrap();
        std::fs::create_dir(dir.path().join("generations")).unwrap();
        std::fs::write(dir.path().join("generations/1.json"), "{}").unwrap();
        let socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(dir.path().join("socket"), everybody).unwrap();
        let address = SocketAddr::from_abstract_name(b"hostctl-test-abstract").unwrap();
        let abstract_socket = UnixListener::bind_addr(&address).unwrap();
        hostctl::vm::write_desired(&host.root, &host.vm).unwrap();
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
        let supervisor = Command::new(&host.program)
            .arg("--root-dir")
            .arg(host.root.path())
            .args(["vm", "run", "vm1"])
            .env("PATH", path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { host, supervisor, _program: dir, _sockets: [socket, abstract_socket] }
    }

    /// Everything that it tried, and what came of it.
    fn report(&self) -> BTreeMap<String, Vec<String>> {
        let log = self.host.root.vm("vm1").join("qemu.log");
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        until("it tried everything", || read().lines().any(|line| line == "done"));
        let mut report = BTreeMap::<_, Vec<_>>::new();
        for (what, outcome) in read().lines().filter_map(|line| line.split_once(": ")) {
            report.entry(what.to_owned()).or_default().push(outcome.to_owned());
        }
        report
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // It talks to nobody: there is no graceful way.
        if let Some(pid) =
            hostctl::vm::observe(&self.host.root).unwrap_or_default().first().and_then(|vm| vm.pid)
        {
            kill(pid);
        }
        let _ = self.supervisor.wait();
    }
}

fn tap(host: &Host) -> String {
    let name = host.vm.port.interface.as_str();
    let output = Command::new("ip").args(["-details", "link", "show", name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Up and down, and counters, come and go.
    text.split_once("link/").unwrap().1.to_owned()
}

#[test]
fn a_qemu_that_was_taken_over_gets_nowhere() {
    let taken = Taken::start();
    let before = tap(&taken.host);
    let report = taken.report();
    let one = |what: &str| {
        let outcomes = report.get(what).unwrap_or_else(|| panic!("nothing about {what}: {report:#?}"));
        outcomes.join(" ")
    };

    let mut ioctls = 0;
    for (what, outcomes) in report.iter().filter(|(what, _)| what.starts_with("ioctl ")) {
        if what == "ioctl TUNGETIFF" {
            assert_eq!(outcomes, &["allowed"], "what QEMU asks at its start");
        } else {
            assert_eq!(outcomes, &["EPERM"; 3], "{what}");
            ioctls += 1;
        }
    }
    assert_eq!(ioctls, 18);
    for (what, outcomes) in report.iter().filter(|(what, _)| what.starts_with("x32 ")) {
        assert!(outcomes.iter().all(|outcome| ["EPERM", "ENOSYS"].contains(&outcome.as_str())), "{what}");
    }
    assert_eq!(tap(&taken.host), before, "the TAP is as it was");

    for (what, outcomes) in report.iter().filter(|(what, _)| what.starts_with("see ")) {
        assert_eq!(outcomes, &["ENOENT"], "{what}");
    }
    assert_eq!(one("connect to a socket that is open to all"), "ENOENT");
    assert_eq!(one("connect to an abstract socket"), "ECONNREFUSED");
    assert_eq!(one("list /dev"), "full null random shm urandom zero");
    assert_eq!(one("list /etc"), "ld.so.cache");
    for set in ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert!(report["status"].contains(&format!("{set}: 0000000000000000")), "{:?}", report["status"]);
    }
    assert!(report["status"].contains(&"NoNewPrivs: 1".to_owned()), "{:?}", report["status"]);

    for (what, outcomes) in report.iter().filter(|(what, _)| what.starts_with("write ")) {
        assert!(["EROFS", "EACCES", "ENOENT"].contains(&outcomes[0].as_str()), "{what}: {outcomes:?}");
    }
    for place in ["/tmp", "/dev/shm"] {
        let written: u64 = one(&format!("MiB in {place}")).parse().unwrap();
        assert!((1..=16).contains(&written), "{place}: {written} MiB");
    }
    assert_eq!(one("a file of a TiB"), "EFBIG");

    for (what, outcomes) in report.iter().filter(|(what, _)| what.starts_with("call ")) {
        let wanted = match what.as_str() {
            "call socket unix" => "allowed",
            "call clone3" | "call io_uring_setup" | "call memfd_create" => "ENOSYS",
            _ => "EPERM",
        };
        assert_eq!(outcomes, &[wanted], "{what}");
    }
    assert!(report.len() > 60, "{report:#?}");

    assert_eq!((one("pid").as_str(), one("parent").as_str()), ("1", "0"));
    assert_eq!((one("processes seen").as_str(), one("others to signal").as_str()), ("1", "0"));
    let processes: u64 = one("processes").parse().unwrap();
    assert!((1..=257).contains(&processes), "{processes} processes");
    let descriptors: u64 = one("descriptors").parse().unwrap();
    assert!((1..=512).contains(&descriptors), "{descriptors} descriptors");
    assert_eq!(one("64 GiB of memory"), "ENOMEM");
}
