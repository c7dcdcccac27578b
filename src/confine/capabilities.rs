//! Which capabilities a program can ever have (capability(7)).

use std::io;

use nix::libc;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// The highest number that a capability can have.
const HIGHEST: libc::c_ulong = 63;

/// Lets nothing that this process executes have other capabilities than
/// `kept`: whatever its files are marked with, and whoever it runs as. Makes
/// system calls and nothing else.
pub(crate) fn keep_only(kept: CapabilitySet) -> io::Result<()> {
    for capability in 0..=HIGHEST {
        if kept.bits() & (1 << capability) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_READ, capability) {
            Ok(0) => {}
            Ok(_) => drop(prctl(libc::PR_CAPBSET_DROP, capability)?),
            // One that this kernel doesn't have: it was the last.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    // What is inherited counts beside the bounding set; ambient ones go with it.
    let mine = capabilities(None)?;
    Ok(set_capabilities(
        None,
        rustix::thread::CapabilitySets { inheritable: mine.inheritable.intersection(kept), ..mine },
    )?)
}

fn prctl(option: libc::c_int, capability: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: it takes numbers only.
    #[allow(unsafe_code)]
    let result = unsafe { libc::prctl(option, capability, 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
