//! What a confined program may take of the host (getrlimit(2)).

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits that depend on the program. A cgroup's are beside them: these
/// hold where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of address space, used or not.
    pub address_space: u64,
    /// Bytes that a file may have, be it written to, truncated or allocated;
    /// a write beyond fails with EFBIG.
    pub file_size: u64,
    /// Open files.
    pub files: u64,
    /// Threads and processes of the program's user.
    pub threads: u64,
    /// Bytes of memory that can't be swapped, or are the kernel's.
    pub locked: u64,
}

impl Limits {
    fn all(&self) -> [(Resource, u64); 11] {
        [
            (Resource::As, self.address_space),
            (Resource::Fsize, self.file_size),
            (Resource::Nofile, self.files),
            (Resource::Nproc, self.threads),
            // A core dump holds the guest's memory.
            (Resource::Core, 0),
            (Resource::Memlock, self.locked),
            (Resource::Msgqueue, 0),
            (Resource::Sigpending, self.threads),
            // Nobody is pushed aside.
            (Resource::Nice, 0),
            (Resource::Rtprio, 0),
            (Resource::Rttime, 1_000_000),
        ]
    }

    /// Limits the calling process. Makes system calls and nothing else.
    pub(super) fn apply(&self) -> io::Result<()> {
        for (resource, limit) in self.all() {
            // Somebody else's limit may be tighter.
            let limit = getrlimit(resource).maximum.map_or(limit, |now| now.min(limit));
            setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
        }
        Ok(())
    }
}
