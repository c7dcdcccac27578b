//! Becoming somebody with fewer rights.

use std::io;

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use rustix::fs::Mode;

use rustix::thread::CapabilitySet;

use crate::confine::keep_only;

use super::model::User;

/// What an app may do as root: what a container engine lets a container do.
/// Not CAP_NET_ADMIN, by which it would change the namespace's interface and
/// send what differs from what was judged; and none that gets that back.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// Gives up, for what this process executes, the capabilities that an app
/// doesn't have; it makes system calls and nothing else.
pub(super) fn limit_capabilities() -> io::Result<()> {
    keep_only(CAPABILITIES)
}

/// Takes the umask that programs expect: hostctl's own is for its own files.
/// It makes a system call and nothing else.
pub(super) fn usual_umask() {
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
}

/// Gives up root for good, in the whole process; it makes system calls and
/// nothing else, and may be called between fork and exec.
pub(super) fn become_user(user: User) -> io::Result<()> {
    setgroups(&[])?;
    setgid(Gid::from_raw(user.gid))?;
    setuid(Uid::from_raw(user.uid))?;
    // No set-user-ID program gives it back.
    Ok(rustix::thread::set_no_new_privs(true)?)
}
