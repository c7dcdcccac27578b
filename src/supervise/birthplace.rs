//! Where a process was born: in which boot, network namespace and PID
//! namespace. What a record says of a process holds there and nowhere else: a
//! pid is another process's elsewhere, and a guest another host's.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::process::pids;

/// A boot and two of its namespaces, by the inodes that the kernel gives to no
/// other as long as they exist (namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Birthplace {
    /// The kernel's number of the boot.
    pub boot: String,
    /// The network namespace.
    pub network: u64,
    /// The PID namespace.
    pub pids: u64,
}

impl Birthplace {
    /// The calling thread's.
    pub fn here() -> io::Result<Self> {
        Ok(Self { boot: boot()?, network: network()?, pids: inode("/proc/thread-self/ns/pid")? })
    }

    /// Whether a pid that was written down there means the same process here.
    pub fn shares_pids_with(&self, other: &Self) -> bool {
        self.boot == other.boot && self.pids == other.pids
    }

    /// Whether both are of one network namespace.
    pub fn shares_network_with(&self, other: &Self) -> bool {
        self.boot == other.boot && self.network == other.network
    }
}

/// The kernel's number of this boot.
pub(crate) fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The calling thread's network namespace.
pub(crate) fn network() -> io::Result<u64> {
    inode("/proc/thread-self/ns/net")
}

/// A process's network namespace, where that can be seen.
pub(crate) fn network_of(pid: u32) -> Option<u64> {
    inode(format!("/proc/{pid}/ns/net")).ok()
}

/// A process in that network namespace, where one is seen from here.
pub(crate) fn inhabitant(network: u64) -> Option<u32> {
    pids().ok()?.into_iter().find(|pid| network_of(*pid) == Some(network))
}

fn inode(path: impl AsRef<Path>) -> io::Result<u64> {
    fs::metadata(path).map(|namespace| namespace.ino())
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn a_thread_in_another_network_was_born_elsewhere() {
        let here = Birthplace::here().unwrap();
        assert!(here.shares_network_with(&here) && here.shares_pids_with(&here));
        assert_eq!(network_of(std::process::id()), Some(here.network));
        assert_eq!(inhabitant(here.network).and_then(network_of), Some(here.network));
        let there = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Birthplace::here().unwrap()
        });
        let there = there.join().unwrap();
        assert!(!here.shares_network_with(&there) && here.shares_pids_with(&there));
        // It went with its thread.
        assert_eq!(inhabitant(there.network), None);
        let before = Birthplace { boot: "another".into(), ..here.clone() };
        assert!(!here.shares_network_with(&before) && !here.shares_pids_with(&before));
    }
}
