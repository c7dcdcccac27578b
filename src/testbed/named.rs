//! Named namespaces (`ip netns`) that only this process sees.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const DIRECTORY: &str = "/run/netns";

/// Gives the calling thread, and those it starts from now on, a `/run/netns`
/// of their own, empty: in a mount namespace that ends with them.
///
/// # Errors
/// Where the process may not make mount namespaces (CAP_SYS_ADMIN).
pub fn private_names() -> io::Result<()> {
    let none = None::<&OsStr>;
    fs::create_dir_all(DIRECTORY)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, Path::new("/"), none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(
        Some(OsStr::new("tmpfs")),
        Path::new(DIRECTORY),
        Some(OsStr::new("tmpfs")),
        MsFlags::empty(),
        none,
    )?;
    Ok(())
}
