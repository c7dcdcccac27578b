//! Puts the host back to the last generation.

use crate::host::kept::action_log;
use crate::host::kept::generation::{self, Origin};
use crate::host::{Host, HostError, Outcome, Watch};

impl Host {
    /// Applies the last generation again, which is read under the lock, so that
    /// a newer one isn't taken back. Does nothing where nothing was applied.
    ///
    /// # Errors
    /// As [`Host::apply`].
    pub async fn repair(&self, watch: &mut dyn Watch) -> Result<Option<Outcome>, HostError> {
        Self::check_root()?;
        let lock = self.lock("audit --repair", watch)?;
        let Some(last) = generation::last(&self.root)? else { return Ok(None) };
        let (topology, origin) = (last.compile()?, Origin::of("audit --repair"));
        let result = self.apply_locked(&lock, &last.spec, &topology, &origin, watch).await;
        // What needed no repair is nothing to write down.
        if !result.as_ref().is_ok_and(|outcome| outcome.steps.is_empty()) {
            action_log::write(&self.root, "audit --repair", &result);
        }
        result.map(Some)
    }
}
