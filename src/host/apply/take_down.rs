//! From what the host is to nothing of hostctl's.

use std::fs;
use std::io;

use crate::app;
use crate::spec::HostSpec;
use crate::topology::Topology;

use super::observe::observe;
use super::plan::removal;
use crate::host::kept::generation::{self, Origin};
use crate::host::kept::{action_log, drop_in, forwarding, loaded};
use crate::host::{Host, HostError, Outcome, Step, Watch};

impl Host {
    /// Removes everything of hostctl's, found by its marks.
    ///
    /// # Errors
    /// Where a step fails; the rest is still there.
    pub async fn down(&self, watch: &mut dyn Watch) -> Result<Outcome, HostError> {
        Self::check_root()?;
        let _lock = self.begin_with("down", watch)?;
        let result = self.down_locked(&Origin::of("down"), watch).await;
        action_log::write(&self.root, "down", &result);
        if result.is_ok() {
            self.reject_waiting()?;
        }
        result
    }

    pub(in crate::host) async fn down_locked(
        &self,
        origin: &Origin,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, HostError> {
        let steps = self.removal().await?;
        self.execute(&steps, watch).await?;
        // What apps left that lost their supervisors.
        app::reap_strays(&self.root)?;
        // Nothing runs any more that these files are about.
        for path in [self.root.vms(), self.root.apps()] {
            match fs::remove_dir_all(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(HostError::File { path, source });
                }
                _ => {}
            }
        }
        // A later apply that fails shall not bring back what was taken down.
        if let Ok(Some(last)) = generation::last(&self.root) {
            // Guests that come back have what they had.
            let kept = last.allocations();
            let drop_in = drop_in::read(&self.root).ok().map(Option::unwrap_or_default);
            generation::commit(&self.root, (&HostSpec::default(), &kept), origin, drop_in)?;
        }
        forwarding::remove(&self.root)?;
        loaded::forget(&self.root);
        Ok(Outcome { steps, notes: Vec::new(), generation: None })
    }

    /// The steps that [`Host::down`] would do.
    ///
    /// # Errors
    /// Where the host can't be read.
    pub async fn removal(&self) -> Result<Vec<Step>, HostError> {
        Self::check_root()?;
        Ok(removal(&observe(&self.root, &Topology::empty()).await?))
    }
}
