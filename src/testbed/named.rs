//! Named network namespaces, as `ip netns add` makes them, which the machine
//! doesn't see.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};

use super::netns::Netns;

const NAMES: &str = "/run/netns";

/// The names of a mount namespace of the calling thread's own; they are gone
/// when the thread and all that it started are.
#[derive(Debug)]
pub struct NamedNamespaces(());

impl NamedNamespaces {
    /// Moves the calling thread to a mount namespace of its own with an empty
    /// `/run/netns`. Threads and processes that it starts from now on are in
    /// it.
    ///
    /// # Errors
    /// Where the process may not mount (CAP_SYS_ADMIN).
    pub fn enter() -> io::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        fs::create_dir_all(NAMES)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", NAMES, "tmpfs", flags, None)?;
        Ok(Self(()))
    }

    /// A new namespace named `name`.
    ///
    /// # Errors
    /// Those of [`Netns::new`], and where there is one of that name.
    pub fn add(&self, name: &str) -> io::Result<Netns> {
        let netns = Netns::new()?;
        let path = Path::new(NAMES).join(name);
        fs::File::create_new(&path)?;
        mount_bind(format!("/proc/thread-self/fd/{}", netns.fd().as_raw_fd()), &path)?;
        Ok(netns)
    }

    /// Takes the name away; the namespace lives on in what uses it.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn delete(&self, name: &str) -> io::Result<()> {
        let path = Path::new(NAMES).join(name);
        unmount(&path, UnmountFlags::DETACH)?;
        fs::remove_file(path)
    }
}
