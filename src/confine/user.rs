//! Becoming somebody with fewer rights.

use std::io;

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

/// Whom a program runs as. It has no other group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl User {
    /// Who owns nothing.
    pub const NOBODY: Self = Self { uid: 65_534, gid: 65_534 };

    /// Becomes it, in the whole process; makes system calls and nothing else.
    pub(super) fn change_to(self) -> io::Result<()> {
        setgroups(&[])?;
        setgid(Gid::from_raw(self.gid))?;
        Ok(setuid(Uid::from_raw(self.uid))?)
    }

    /// Gives up root for good, in the whole process; it makes system calls and
    /// nothing else, and may be called between fork and exec.
    ///
    /// # Errors
    /// Where the kernel refuses it: then the process ends, or it is root still.
    pub fn become_for_good(self) -> io::Result<()> {
        self.change_to()?;
        // No set-user-ID program gives it back.
        Ok(rustix::thread::set_no_new_privs(true)?)
    }
}
