//! Whether this machine lets QEMU be confined.

use std::io::Read;

use crate::confine::{Calls, Confinement, User};
use crate::ownership::UIDS;
use crate::topology::Arch;

use super::error::VmError;
use super::qemu::accel::PROBE_LIMITS;
use super::qemu::command_line::QemuCommand;
use super::qemu::launch::spawn;

/// Starts a QEMU as a guest's is, which only says its version. Blocks.
///
/// # Errors
/// Where it can't be: guests don't start then.
pub fn confined() -> Result<(), VmError> {
    let uid = *UIDS.start();
    let command =
        QemuCommand { program: format!("qemu-system-{}", Arch::NATIVE), args: vec!["--version".into()] };
    let confinement =
        Confinement { user: User { uid, gid: uid }, limits: PROBE_LIMITS, calls: Calls::default() };
    let mut child = spawn(&command, Vec::new(), &confinement)?;
    let mut text = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(1024).read_to_string(&mut text);
    }
    match child.wait().map_err(VmError::kernel("wait for QEMU"))? {
        status if status.success() => Ok(()),
        status => {
            let said = crate::bounded::printable(&text, 300);
            let source = std::io::Error::other(format!("confined, it ended with {status}: {said}"));
            Err(VmError::spawn(command.program, source))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn qemu_runs_confined_here() {
        super::confined().unwrap();
    }
}
