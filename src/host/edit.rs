//! Commands that change the spec: they write a drop-in and apply it.

use std::sync::Arc;

use crate::spec::{
    Before, Checked, EditError, HostSpec, Loaded, Parsed, Replaced, SpecEdit, SpecPath, load_checked_with,
    load_drop_in, load_parsed,
};
use crate::topology::Topology;
use crate::whole_file;

use super::apply::changes::changes;
use super::confirm::unconfirmed::{self, Record};
use super::kept::generation::Origin;
use super::kept::{action_log, drop_in, generation};
use super::{Host, HostError, Lock, Outcome, Preview, Watch};

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// What the apply did.
    pub outcome: Outcome,
    /// What went besides what the change names.
    pub also: Vec<String>,
    /// Whether the spec said already what was asked for.
    pub same: bool,
    /// The host before and after, as the spec has it.
    pub compared: Compared,
}

/// What an edit would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEdit {
    /// The steps, and the addresses.
    pub preview: Preview,
    /// The host before and after, as the spec has it.
    pub compared: Compared,
}

/// A host before an edit and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// What the files said before.
    pub before: Arc<Topology>,
    /// What they say then.
    pub after: Topology,
}

/// The drop-in as it shall be, and the host that follows from it.
struct Draft {
    checked: Checked<Topology>,
    /// None where nothing is left to say.
    text: Option<String>,
    also: Vec<String>,
    same: bool,
    before: Arc<Topology>,
}

impl Host {
    /// Changes the spec and makes the host what it says then. Where that
    /// fails the drop-in is as it was, and the host as after a failed
    /// [`Host::apply`].
    ///
    /// # Errors
    /// Where the change is refused, nothing was touched; else those of
    /// [`Host::apply`].
    pub async fn edit(&self, change: &SpecEdit, watch: &mut dyn Watch) -> Result<Edited, HostError> {
        let lock = self.begin_with(&change.to_string(), watch)?;
        let rejected = self.settle(&lock).await?;
        let Draft { checked, text, also, same, before } = self.draft(change)?;
        let command = if same { change.unchanged() } else { change.to_string() };
        let (spec, topology, origin) = (&checked.spec, &checked.compiled, Origin::of(&command));
        // Also where the spec says so already: the host may not be so.
        let outcome = if same {
            self.apply_locked(&lock, spec, topology, &origin, watch).await
        } else {
            self.apply_with_drop_in(&lock, text.as_deref(), (spec, topology), &origin, watch).await
        };
        action_log::write(&self.root, &command, &outcome);
        if outcome.is_ok() && rejected.is_some() {
            unconfirmed::remove(&self.root)?;
        }
        let compared = Compared { before, after: checked.compiled };
        Ok(Edited { outcome: outcome?, also, same, compared })
    }

    /// Writes the drop-in, or removes it where there is no text, and applies.
    /// Where that fails, or is killed, the drop-in is as it was.
    pub(super) async fn apply_with_drop_in(
        &self,
        lock: &Lock,
        text: Option<&str>,
        (spec, topology): (&HostSpec, &Topology),
        origin: &Origin,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, HostError> {
        let written = drop_in::write(&self.root, &origin.command, text)?;
        match self.apply_locked(lock, spec, topology, origin, watch).await {
            Ok(outcome) => {
                written.keep();
                Ok(outcome)
            }
            Err(cause) => match written.take_back() {
                Ok(()) => Err(cause),
                Err(error) => {
                    let (cause, error) = (Box::new(cause), Box::new(error));
                    Err(HostError::Unrestored { cause, path: drop_in::drop_in(&self.root), error })
                }
            },
        }
    }

    /// Removes what commands wrote; the host stays as it is.
    ///
    /// # Errors
    /// Where another hostctl is at it, or the file can't be removed.
    pub fn forget_commands(&self, watch: &mut dyn Watch) -> Result<(), HostError> {
        let _lock = self.lock("cleanup", watch)?;
        let path = drop_in::drop_in(&self.root);
        whole_file::remove(&path).map_err(|source| HostError::File { path, source })?;
        unconfirmed::remove(&self.root)
    }

    /// What [`Host::edit`] would do.
    ///
    /// # Errors
    /// Where the change is refused, or the host can't be read.
    pub async fn plan_edit(&self, change: &SpecEdit) -> Result<PlannedEdit, HostError> {
        Self::check_root()?;
        let Draft { checked, before, .. } = self.draft(change)?;
        let preview = self.preview(&checked.spec, &checked.compiled, false).await?;
        Ok(PlannedEdit { preview, compared: Compared { before, after: checked.compiled } })
    }

    fn draft(&self, change: &SpecEdit) -> Result<Draft, HostError> {
        let path = drop_in::drop_in(&self.root);
        let mut parsed = Parsed::default();
        let Loaded { spec: whole, sources } = load_parsed(None, &self.root, &mut parsed)?;
        let read = generation::last_once(&self.root)?;
        let last = read.as_ref().map(|read| &read.generation);
        if let Some(Record::Rejected { generation, spec }) = unconfirmed::read(&self.root)?
            && *spec == whole
        {
            return Err(HostError::Rejected { generation });
        }
        // What was rolled back shall not come back with something else.
        if let Some(last) = last.filter(|last| last.from.is_some() && last.spec != whole) {
            return Err(HostError::FilesDiffer { number: last.number, changes: changes(&last.spec, &whole) });
        }
        let unsaid = last.map(|last| unsaid(&last.spec, &whole)).unwrap_or_default();
        if !unsaid.is_empty() {
            let file = self.root.host_spec().display().to_string();
            return Err(EditError::Unsaid { what: unsaid, file }.into());
        }
        let place =
            |path: &SpecPath| sources.line(path).map(|(file, line)| format!("{}:{line}", file.display()));
        // What isn't valid as it is may become so by this change.
        let applied = read.as_ref().filter(|read| read.generation.spec == whole);
        let before = applied.and_then(|read| read.compile().ok()).unwrap_or_else(|| {
            let compiled = generation::compile(&self.root, &whole);
            Arc::new(compiled.unwrap_or_else(|_| Topology::empty()))
        });
        let written = load_drop_in(&path, &mut parsed)?;
        let after = change.apply(Before { drop_in: &written, whole: &whole, place: &place })?;
        let text = serde_json::to_string_pretty(&after.drop_in)
            .map_err(|error| HostError::File { path: path.clone(), source: error.into() })?;
        let replaced = Replaced { path: &path, text: &text };
        let checked = load_checked_with(None, &self.root, Some(replaced), &mut parsed, |spec| {
            generation::compile(&self.root, spec)
        })?;
        let text = (after.drop_in != HostSpec::default()).then_some(text);
        Ok(Draft { checked, text, also: after.also, same: after.same, before })
    }
}

/// What was applied and isn't said any more: a change of something else
/// shouldn't be what removes it.
fn unsaid(applied: &HostSpec, whole: &HostSpec) -> Vec<String> {
    let networks = applied.networks.keys().filter(|name| !whole.networks.contains_key(*name));
    let vms = applied.vms.keys().filter(|name| !whole.vms.contains_key(*name));
    networks
        .map(|name| format!("the network {name}"))
        .chain(vms.map(|name| format!("the VM {name}")))
        .collect()
}
