//! Loads the guard's program into the kernel.

use std::os::fd::{AsFd, BorrowedFd};

use aya::programs::SchedClassifier;
use aya::{Btf, Ebpf, EbpfLoader};

use super::{GuardError, Tag};

/// What `make guard` compiles of `bpf/guard.bpf.c`.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/guard.bpf.o");
/// The function in it.
const NAME: &str = "hostctl_guard";

/// The program, in the kernel as long as this, and as any filter that runs it.
#[derive(Debug)]
pub struct Program {
    object: Ebpf,
    tag: Tag,
}

impl Program {
    /// Has the kernel take it: some milliseconds, most of them to read what the
    /// kernel tells of its types.
    ///
    /// # Errors
    /// Where the kernel doesn't tell, or refuses.
    pub fn load() -> Result<Self, GuardError> {
        Self::load_object(OBJECT)
    }

    /// The same of another object with such a program.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_object(object: &[u8]) -> Result<Self, GuardError> {
        let types = Btf::from_sys_fs().map_err(|error| GuardError::NoTypes(causes(&error)))?;
        let refused = |error: &dyn std::error::Error| GuardError::Refused(causes(error));
        let mut object = EbpfLoader::new().btf(Some(&types)).load(object).map_err(|error| refused(&error))?;
        let found = object.program_mut(NAME).ok_or_else(|| GuardError::Refused(format!("no {NAME}")))?;
        let program: &mut SchedClassifier = found.try_into().map_err(|error| refused(&error))?;
        program.load().map_err(|error| refused(&error))?;
        let tag = Tag(program.info().map_err(|error| refused(&error))?.tag().to_be_bytes());
        Ok(Self { object, tag })
    }

    /// What the kernel knows it by.
    pub const fn tag(&self) -> Tag {
        self.tag
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        let program: &SchedClassifier = self.object.program(NAME)?.try_into().ok()?;
        program.fd().ok().map(AsFd::as_fd)
    }
}

/// An error and what it came of, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Verifiers have much to say; the end of it is the reason.
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let rest = words.len().saturating_sub(60);
    words.drain(..rest);
    words.join(" ")
}
