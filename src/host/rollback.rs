//! Returning to an earlier generation.

use std::path::PathBuf;

use serde::Serialize;

use crate::root_dir::RootDir;
use crate::spec::{Parsed, Replaced, load, load_checked_with};
use crate::topology;

use super::apply::changes::changes;
use super::confirm::unconfirmed::{self, Record};
use super::kept::generation::{self, Generation, Origin};
use super::kept::{action_log, drop_in::drop_in};
use super::{Host, HostError, Outcome, Preview, Watch};

/// What a rollback did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The generation that the host is as again.
    pub to: u64,
    /// What was done.
    pub outcome: Outcome,
    /// What the spec's files say then.
    pub files: Files,
}

/// What the spec's files say, beside a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Files {
    /// The same.
    Agree,
    /// The same, once the drop-in that commands write is what it was then.
    Restored(PathBuf),
    /// Something else: what an apply of the files would change.
    Differ(Vec<String>),
}

/// What the files say beside `generation`, and what the commands' drop-in has
/// to be where that brings them in line: all or nothing, since half of an old
/// spec and half of a new one is neither.
pub(super) fn files(root: &RootDir, generation: &Generation) -> (Files, Option<String>) {
    let now = load(None, root).map(|loaded| loaded.spec);
    if now.as_ref().is_ok_and(|spec| spec == &generation.spec) {
        return (Files::Agree, None);
    }
    let path = drop_in(root);
    if let Some(kept) = &generation.drop_in {
        let text = if kept.is_empty() { "{}" } else { kept };
        let given = generation.allocations();
        let compile = |spec: &_| topology::compile_keeping(spec, &given);
        let then = load_checked_with(
            None,
            root,
            Some(Replaced { path: &path, text }),
            &mut Parsed::default(),
            compile,
        );
        if then.is_ok_and(|then| then.spec == generation.spec) {
            return (Files::Restored(path), Some(kept.clone()));
        }
    }
    let differ = match now {
        Ok(spec) => changes(&generation.spec, &spec),
        Err(_) => vec!["they aren't valid (hostctl check)".into()],
    };
    (Files::Differ(differ), None)
}

impl Host {
    /// Makes the host what generation `to` says, as a new generation. Without
    /// a number it is the one before the current one; where the current one
    /// is itself a rollback, the one before that to which it returned; where the
    /// current one isn't confirmed, what was confirmed last.
    ///
    /// # Errors
    /// Where there is no such generation; else those of [`Host::apply`].
    pub async fn rollback(&self, to: Option<u64>, watch: &mut dyn Watch) -> Result<RolledBack, HostError> {
        let lock = self.begin_with("rollback", watch)?;
        let target = target(&self.root, to)?;
        let topology = target.compile()?;
        let origin = Origin { command: format!("rollback to {}", target.number), from: Some(target.number) };
        let (files, text) = files(&self.root, &target);
        let outcome = match &text {
            Some(text) => {
                let text = (!text.is_empty()).then_some(text.as_str());
                self.apply_with_drop_in(&lock, text, (&target.spec, &topology), &origin, watch).await
            }
            None => self.apply_locked(&lock, &target.spec, &topology, &origin, watch).await,
        };
        action_log::write(&self.root, &origin.command, &outcome);
        if outcome.is_ok() {
            match unconfirmed::read(&self.root)? {
                // It is what the host is now, by somebody's own word.
                Some(Record::Rejected { spec, .. }) if *spec == target.spec => {
                    unconfirmed::remove(&self.root)?
                }
                Some(Record::Waiting(waiting)) if waiting.spec == target.spec => {
                    unconfirmed::remove(&self.root)?;
                }
                _ => self.reject_waiting()?,
            }
        }
        Ok(RolledBack { to: target.number, outcome: outcome?, files })
    }

    /// What [`Host::rollback`] would do, the generation that it
    /// would return to, and what the files would say then.
    ///
    /// # Errors
    /// As [`Host::rollback`]; nothing is changed.
    pub async fn plan_rollback(&self, to: Option<u64>) -> Result<(u64, Preview, Files), HostError> {
        Self::check_root()?;
        let target = target(&self.root, to)?;
        let preview = self.preview(&target.spec, &target.compile()?, true).await?;
        Ok((target.number, preview, files(&self.root, &target).0))
    }
}

/// The generation to return to.
fn target(root: &RootDir, to: Option<u64>) -> Result<Generation, HostError> {
    if let Some(number) = to {
        return generation::read(root, number);
    }
    if let Some(Record::Waiting(waiting)) = unconfirmed::read(root)? {
        return waiting.back_to.ok_or(HostError::NoEarlier);
    }
    let current = generation::last(root)?.ok_or(HostError::NoEarlier)?;
    let above = current.from.unwrap_or(current.number);
    let before = generation::numbers(root)?.into_iter().filter(|number| *number < above).max();
    generation::read(root, before.ok_or(HostError::NoEarlier)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::HostSpec;

    fn spec(cidr: &str) -> HostSpec {
        toml::from_str(&format!("[networks.a]\ncidr = \"{cidr}\"")).unwrap()
    }

    #[test]
    fn without_a_number_it_goes_further_back_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        assert!(matches!(target(&root, None), Err(HostError::NoEarlier)));
        let commit = |number: u8, from: Option<u64>| {
            let origin = Origin { command: "apply".into(), from };
            generation::commit(
                &root,
                (&spec(&format!("10.{number}.0.0/24")), &Default::default()),
                &origin,
                None,
            )
            .unwrap();
        };
        commit(1, None);
        assert!(matches!(target(&root, None), Err(HostError::NoEarlier)));
        commit(2, None);
        commit(3, None);
        assert_eq!(target(&root, None).unwrap().number, 2);
        commit(2, Some(2));
        assert_eq!(target(&root, None).unwrap().number, 1);
        assert_eq!(target(&root, Some(3)).unwrap().number, 3);
        assert!(matches!(target(&root, Some(9)), Err(HostError::NoGeneration { number: 9, .. })));
        commit(4, None);
        assert_eq!(target(&root, None).unwrap().number, 4);
    }

    #[test]
    fn the_drop_in_is_brought_back_where_that_brings_the_files_in_line() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        let text = |cidr: &str| serde_json::to_string(&spec(cidr)).unwrap();
        let generation = |cidr: &str, drop_in: Option<String>| Generation {
            version: Default::default(),
            number: 1,
            applied_at: 0,
            command: None,
            from: None,
            drop_in,
            spec: spec(cidr),
            allocations: None,
        };
        let path = drop_in(&root);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text("10.1.0.0/24")).unwrap();
        let old = generation("10.1.0.0/24", Some(text("10.1.0.0/24")));
        assert_eq!(files(&root, &old), (Files::Agree, None));
        std::fs::write(&path, text("10.2.0.0/24")).unwrap();
        assert_eq!(files(&root, &old), (Files::Restored(path.clone()), Some(text("10.1.0.0/24"))));
        // An earlier version didn't keep it.
        let unkept = generation("10.1.0.0/24", None);
        assert_eq!(files(&root, &unkept), (Files::Differ(vec!["~network a".into()]), None));
        // Another file says so.
        let empty =
            Generation { spec: HostSpec::default(), ..generation("10.1.0.0/24", Some(String::new())) };
        assert_eq!(files(&root, &empty), (Files::Restored(path.clone()), Some(String::new())));
        std::fs::create_dir_all(directory.path().join("etc/hostctl")).unwrap();
        std::fs::write(root.host_spec(), "[networks.b]\ncidr = \"10.9.0.0/24\"").unwrap();
        let (found, text) = files(&root, &old);
        assert_eq!((found, text), (Files::Differ(vec!["+network b".into(), "~network a".into()]), None));
        std::fs::write(root.host_spec(), "[networks").unwrap();
        assert!(matches!(files(&root, &old), (Files::Differ(_), None)));
    }
}
