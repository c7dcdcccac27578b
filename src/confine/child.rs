//! What a confined program's process does between fork and exec. It makes
//! system calls and nothing else: no allocation, no lock.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use rustix::mount::{MountFlags, mount};
use rustix::thread::CapabilitySet;
use seccompiler::BpfProgram;

use super::capabilities::keep_only;
use super::limits::Limits;
use super::user::User;

/// SIGXFSZ must not end a program that meets its limit.
const FILE_TOO_LARGE: libc::c_int = libc::SIGXFSZ;

/// The descriptor that failures are told by has at least this number, so that
/// no inherited one is put in its place.
pub(super) const TELL_MIN: libc::c_int = 200;

/// What the process needs for it.
pub(super) struct Child {
    pub user: User,
    pub limits: Limits,
    pub filters: [BpfProgram; 2],
    /// Inherited descriptors are 0 to this, without it.
    pub inherited: libc::c_uint,
    /// A pipe for the name of the step that failed.
    pub tell: OwnedFd,
}

impl Child {
    /// Gives up everything that the program doesn't need.
    pub fn confine(&self) -> io::Result<()> {
        // A session of its own: Ctrl-C and a closed terminal are the
        // supervisor's affair, and a program with no terminal can't type on
        // the operator's.
        self.step(b"start a session", rustix::process::setsid().map(drop))?;
        self.step(b"close the descriptors that aren't its own", self.close_others())?;
        self.step(b"mount /proc", mount_proc())?;
        self.step(b"limit it", self.limits.apply())?;
        self.step(b"let it meet its limits", ignore_too_large())?;
        self.step(b"take the capabilities away (it needs CAP_SETPCAP)", keep_only(CapabilitySet::empty()))?;
        self.step(b"change its user", self.user.change_to())?;
        self.step(b"take its privileges away", rustix::thread::set_no_new_privs(true))?;
        for filter in &self.filters {
            self.step(b"filter its system calls", apply(filter))?;
        }
        Ok(())
    }

    fn step<E: Into<io::Error>>(&self, action: &'static [u8], result: Result<(), E>) -> io::Result<()> {
        result.map_err(|error| {
            // Where even that fails, the error alone has to do.
            let _ = rustix::io::write(self.tell.as_fd(), action);
            error.into()
        })
    }

    /// Marks them, for exec to close.
    fn close_others(&self) -> io::Result<()> {
        let flag = libc::CLOSE_RANGE_CLOEXEC;
        // SAFETY: it takes numbers, and marks descriptors without closing any.
        #[allow(unsafe_code)]
        let result = unsafe { libc::syscall(libc::SYS_close_range, self.inherited, libc::c_uint::MAX, flag) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// The processes of this process's pid namespace, and nothing else of what
/// `/proc` tells (Documentation/filesystems/proc.rst).
fn mount_proc() -> rustix::io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"proc", c"/proc", c"proc", flags, c"hidepid=invisible,subset=pid")
}

fn ignore_too_large() -> io::Result<()> {
    // SAFETY: no handler is installed.
    #[allow(unsafe_code)]
    let before = unsafe { libc::signal(FILE_TOO_LARGE, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn apply(filter: &BpfProgram) -> io::Result<()> {
    seccompiler::apply_filter(filter).map_err(|error| match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
        _ => io::Error::from_raw_os_error(libc::EINVAL),
    })
}

/// A pipe's end for [`Child::tell`], out of inherited descriptors' way.
pub(super) fn out_of_the_way(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    debug_assert!(fd.as_raw_fd() >= 0);
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, TELL_MIN)?)
}
