//! The guards of VMs' ports: which have one, and attaching it.

use super::netlink::{LinkError, Netlink};
use super::observed::Observed;
use crate::guard::{self, Program};

impl Observed {
    /// Looks at what stands in the places of guards, of hostctl's own TAPs.
    ///
    /// # Errors
    /// Where the kernel doesn't answer.
    pub fn look_at_guards(&mut self) -> Result<(), LinkError> {
        let taps = self.links.iter_mut().filter(|(_, link)| link.is_ours() && link.tap.is_some());
        let reader = guard::Reader::open().map_err(LinkError::Socket)?;
        for (name, link) in taps {
            // One that goes meanwhile has none.
            let found = reader.attached(link.index);
            link.guard = Some(found.map_err(|source| LinkError::Guard {
                name: name.clone(),
                source: guard::GuardError::Attach { action: "look at its filters", source },
            })?);
        }
        Ok(())
    }
}

impl Netlink {
    /// Attaches the guard; all ports of one apply share a program.
    pub(super) fn guard(&self, name: &str, index: u32) -> Result<(), LinkError> {
        let failed = |source| LinkError::Guard { name: name.into(), source };
        let mut program = self.program.borrow_mut();
        let program = match &mut *program {
            Some(program) => program,
            none => none.insert(Program::load().map_err(failed)?),
        };
        program.attach(index).map_err(failed)
    }
}

/// Takes the guard away from a port that needs none.
pub(super) fn detach(name: &str, index: u32) -> Result<(), LinkError> {
    guard::detach(index).map_err(|source| LinkError::Guard { name: name.into(), source })
}
