//! Becoming somebody with fewer rights.

use std::io;

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use rustix::fs::Mode;

use super::model::User;

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
