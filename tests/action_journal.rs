//! What was done to a host is in its journal: a datagram socket plays
//! systemd-journald (its native protocol is at systemd.io).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};
use std::time::Duration;

use hostctl::testbed::{NamedNamespaces, Netns};
use rustix::mount::{MountFlags, mount};

const SPEC: &str = "[networks.a]\ncidr = \"10.1.0.0/24\"\n";

/// The fields of one entry.
fn fields(mut datagram: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some(end) = datagram.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8(datagram[..end].to_vec()).unwrap();
        datagram = &datagram[end + 1..];
        // NAME=value, or NAME and a length for what may have any byte.
        if let Some((name, value)) = line.split_once('=') {
            fields.insert(name.into(), value.into());
            continue;
        }
        let (length, rest) = datagram.split_at(8);
        let (value, rest) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
        fields.insert(line, String::from_utf8(value.to_vec()).unwrap());
        datagram = &rest[1..];
    }
    fields
}

struct Machine {
    netns: Netns,
    journal: UnixDatagram,
}

impl Machine {
    /// With files of its own where hostctl's are: no root directory but `/`
    /// writes to the journal.
    fn new() -> Self {
        let _names = NamedNamespaces::enter().unwrap();
        for path in ["/run", "/var/lib"] {
            mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).unwrap();
        }
        fs::create_dir_all("/run/systemd/journal").unwrap();
        let journal = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
        journal.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        fs::write("/var/lib/host.toml", SPEC).unwrap();
        Self { netns: Netns::new().unwrap(), journal }
    }

    fn hostctl(&self, arguments: &[&str]) -> Output {
        let mut hostctl = Command::new(env!("CARGO_BIN_EXE_hostctl"));
        self.netns.run(|| hostctl.args(arguments).output()).unwrap()
    }

    fn entries(&self) -> Vec<BTreeMap<String, String>> {
        let mut buffer = vec![0; 65536];
        let mut entries = Vec::new();
        while let Ok(length) = self.journal.recv(&mut buffer) {
            // An empty one asks whether somebody is there.
            entries.extend(Some(fields(&buffer[..length])).filter(|fields| !fields.is_empty()));
        }
        entries
    }
}

#[test]
fn the_journal_has_every_action_with_its_result() {
    let machine = Machine::new();
    let done = machine.hostctl(&["apply", "/var/lib/host.toml"]);
    assert!(done.status.success(), "{done:?}");
    let entries = machine.entries();
    assert_eq!(entries.len(), 1, "{entries:#?}");
    let entry = &entries[0];
    let field = |name: &str| entry.get(name).map(String::as_str);
    assert_eq!(field("HOSTCTL_COMMAND"), Some("apply"));
    assert_eq!(field("HOSTCTL_RESULT"), Some("done"));
    assert_eq!(field("HOSTCTL_GENERATION"), Some("1"));
    assert_eq!(field("SYSLOG_IDENTIFIER"), Some("hostctl"));
    assert_eq!(field("PRIORITY"), Some("5"));
    let message = field("MESSAGE").unwrap();
    assert!(message.starts_with("apply: done: ") && message.ends_with(", generation 1"), "{message}");
    // The file says the same, and standard error doesn't say it again.
    let file = fs::read_to_string("/var/lib/hostctl/hostctl.log").unwrap();
    assert!(file.ends_with(&format!(" {message}\n")), "{file}");
    assert!(!String::from_utf8_lossy(&done.stderr).contains("apply: done"));

    // Nothing was done: nothing to say.
    assert!(machine.hostctl(&["apply", "/var/lib/host.toml"]).status.success());
    assert!(machine.hostctl(&["status"]).status.success());
    assert_eq!(machine.entries(), []);

    // A failure, in one line whatever it says.
    let taken =
        machine.netns.run(|| Command::new("ip").args(["link", "add", "br-b", "type", "bridge"]).status());
    assert!(taken.unwrap().success());
    fs::write("/var/lib/host.toml", format!("{SPEC}[networks.b]\ncidr = \"10.2.0.0/24\"\n")).unwrap();
    assert_eq!(machine.hostctl(&["apply", "/var/lib/host.toml"]).status.code(), Some(1));
    let entries = machine.entries();
    assert_eq!(entries.len(), 1, "{entries:#?}");
    assert_eq!(entries[0]["HOSTCTL_RESULT"], "failed");
    assert_eq!(entries[0]["PRIORITY"], "3");
    let message = &entries[0]["MESSAGE"];
    assert!(
        message.starts_with("apply: failed: nothing was changed:") && !message.contains('\n'),
        "{message}"
    );
    assert!(machine.hostctl(&["down"]).status.success());
}

#[test]
fn without_a_journal_nothing_is_missing_but_its_entry() {
    let machine = Machine::new();
    fs::remove_file("/run/systemd/journal/socket").unwrap();
    let done = machine.hostctl(&["apply", "/var/lib/host.toml"]);
    assert!(done.status.success(), "{done:?}");
    assert!(fs::read_to_string("/var/lib/hostctl/hostctl.log").unwrap().contains("apply: done"));
    assert!(machine.hostctl(&["down"]).status.success());
    // Another root directory isn't the machine.
    fs::remove_file("/var/lib/hostctl/hostctl.log").unwrap();
    let journal = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    journal.set_nonblocking(true).unwrap();
    let elsewhere = ["--root-dir", "/var/lib/elsewhere", "apply", "/var/lib/host.toml"];
    assert!(machine.hostctl(&elsewhere).status.success());
    assert!(journal.recv(&mut [0; 16]).is_err());
    assert!(machine.hostctl(&["--root-dir", "/var/lib/elsewhere", "down"]).status.success());
}
