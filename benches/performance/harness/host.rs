//! A host to try things on: a namespace with an uplink, and a namespace that
//! everything beyond the uplink is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use hostctl::testbed::{NamedNamespaces, Netns, Route};
use nix::sched::{CloneFlags, setns, unshare};

use super::program::Program;

/// The hostctl program that is measured: the release build.
pub const HOSTCTL: &str = env!("CARGO_BIN_EXE_hostctl");

/// The uplink's name; specs name it.
pub const UPLINK: &str = "uplink0";

pub struct Host {
    pub netns: Netns,
    /// Has `eth0` at the uplink's other end, and every address of
    /// 203.0.113.0/24.
    pub beyond: Netns,
    /// A mount namespace, for names of network namespaces of its own.
    names: File,
    directory: tempfile::TempDir,
}

impl Host {
    pub fn new() -> Self {
        let (netns, beyond) = (Netns::new().unwrap(), Netns::new().unwrap());
        // Bridged frames pass by the IP hooks, as on a host without Docker.
        for key in ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"] {
            // A kernel without br_netfilter has no such setting.
            _ = netns.sysctl_set(key, "0");
        }
        beyond
            .links(async |links| {
                links.add_veth("eth0", UPLINK).await?;
                links.move_to(UPLINK, &netns).await?;
                links.up("eth0").await?;
                links.add_address("eth0", "198.51.100.1/24".parse().unwrap()).await?;
                links.add_address("lo", "203.0.113.0/24".parse().unwrap()).await
            })
            .unwrap();
        netns
            .links(async |links| {
                links.up(UPLINK).await?;
                links.add_address(UPLINK, "198.51.100.2/24".parse().unwrap()).await?;
                let to = "0.0.0.0/0".parse().unwrap();
                links.add_route(Route { to, via: "198.51.100.1".parse().ok(), dev: UPLINK }).await
            })
            .unwrap();
        let names = thread::spawn(|| {
            NamedNamespaces::enter().unwrap();
            File::open("/proc/thread-self/ns/mnt").unwrap()
        });
        Self { netns, beyond, names: names.join().unwrap(), directory: tempfile::tempdir().unwrap() }
    }

    /// Runs `task` in a thread of its own on this host; what it starts is
    /// there too.
    pub fn run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        self.netns.run(|| {
            // Threads share their idea of the file system, and may not move
            // alone until they don't.
            unshare(CloneFlags::CLONE_FS).unwrap();
            setns(&self.names, CloneFlags::CLONE_NEWNS).unwrap();
            task()
        })
    }

    /// Where hostctl's files, and the bench's, are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command of hostctl's.
    pub fn hostctl(&self, arguments: &[&str]) -> Program {
        let root = self.path().to_str().unwrap();
        Program::new([HOSTCTL, "--root-dir", root].iter().chain(arguments))
    }

    /// What a program prints.
    pub fn output(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(|| Command::new(program).args(arguments).output()).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command of hostctl's prints.
    pub fn hostctl_output(&self, arguments: &[&str]) -> String {
        let root = self.path().to_str().unwrap();
        self.output(HOSTCTL, &[&["--root-dir", root], arguments].concat())
    }
}
