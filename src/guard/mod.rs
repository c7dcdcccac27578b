//! The guard of a TAP whose frames carry a virtio header: a program at the
//! TAP's clsact ingress that judges what the guest wrote there, before every
//! other hook (`bpf/guard.bpf.c` says how). It marks what passes with
//! [`GUARDED`](crate::ownership::GUARDED), without which the firewall drops the
//! port's frames.
//!
//! It is attached as a filter of tc(8), not as a link of bpf(2): so it stays
//! with the TAP, whoever attached it. Which program a filter runs, the kernel
//! tells by the program's tag, a hash of its instructions.

mod filter;
mod known;
mod program;

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

pub use filter::{Attached, Reader, attached, detach};
pub use known::{Known, known};
pub use program::Program;

/// What tells a program from others: the kernel's hash of its instructions
/// (`tag` in `bpftool prog`). The same object has another one on a kernel whose
/// structures are laid out otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tag([u8; 8]);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// Whether the kernel tells of its types, which everybody may see and without
/// which it takes no guard.
pub fn kernel_tells_types() -> bool {
    std::path::Path::new("/sys/kernel/btf/vmlinux").exists()
}

/// Why a guard can't be had.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The kernel doesn't say how its structures are laid out.
    #[error("this kernel doesn't tell of its types (/sys/kernel/btf/vmlinux): {0}")]
    NoTypes(String),
    /// The kernel refuses the program.
    #[error("this kernel doesn't take the guard's program: {0}")]
    Refused(String),
    /// The kernel refuses to attach it.
    #[error("can't {action}: {source}")]
    Attach {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}
