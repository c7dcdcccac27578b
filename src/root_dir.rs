//! Where hostctl keeps its files.
//!
//! Everything that dies with the boot (sockets, pid files, logs, the lock)
//! lies in `/run/hostctl`, what must survive it (drop-ins, generations,
//! images) in `/var/lib/hostctl`. `--root-dir DIR` moves all of it under
//! `DIR`, so tests and several instances don't collide.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::supervise::birthplace;

/// The directory that hostctl's own paths are relative to; `/` by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootDir(PathBuf);

impl Default for RootDir {
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl RootDir {
    /// Puts every path of hostctl's under `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether this is the machine's own root.
    pub fn is_default(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The host spec that is read where a command names none.
    pub fn host_spec(&self) -> PathBuf {
        self.0.join("etc/hostctl/host.toml")
    }

    /// Parts of the host spec that are merged into every host spec.
    pub fn drop_ins(&self) -> PathBuf {
        self.state().join("host.d")
    }

    /// What dies with the boot.
    pub fn run(&self) -> PathBuf {
        self.0.join("run/hostctl")
    }

    /// What must survive a reboot.
    pub fn state(&self) -> PathBuf {
        self.0.join("var/lib/hostctl")
    }

    /// Guest images by name.
    pub fn images(&self) -> PathBuf {
        self.state().join("images")
    }

    /// The runtime files of whoever holds the firewall's tables.
    pub fn hold(&self) -> PathBuf {
        self.run().join("hold")
    }

    /// The runtime files of one VM: sockets, pid file, logs.
    pub fn vm(&self, name: &str) -> PathBuf {
        self.run().join("vms").join(name)
    }

    /// The runtime files of all VMs.
    pub fn vms(&self) -> PathBuf {
        self.run().join("vms")
    }

    /// The runtime files of all apps: a directory a namespace.
    pub fn apps(&self) -> PathBuf {
        self.run().join("apps")
    }

    /// The runtime files of one app.
    pub fn app(&self, namespace: &str, name: &str) -> PathBuf {
        self.apps().join(namespace).join(name)
    }

    /// A name for the hostctl of this directory and the calling thread's
    /// network namespace, by which processes that it started are found again
    /// when their runtime files are lost. The directory counts, not its path:
    /// in another mount namespace that is another one. Both numbers are the
    /// kernel's, and no other's as long as such a process lives.
    pub fn instance(&self) -> String {
        // Where they can't be known nothing is taken for ours.
        let directory = std::fs::metadata(&self.0).map(|root| (root.dev(), root.ino()));
        match (directory, birthplace::network()) {
            (Ok((device, inode)), Ok(network)) => format!("{device:x}.{inode:x}.{network:x}"),
            _ => format!("unknown.{:x}", std::process::id()),
        }
    }

    /// As earlier versions named it: by the path alone, which may be that of
    /// several directories. 64-bit FNV-1a.
    pub(crate) fn former_instance(&self) -> String {
        let path = self.0.canonicalize().unwrap_or_else(|_| self.0.clone());
        let hash =
            path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        format!("{hash:016x}")
    }
}
