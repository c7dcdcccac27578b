//! Applying until somebody confirms it: who cut their own session gets the
//! host back.

use std::time::{Duration, Instant};

use crate::spec::HostSpec;
use crate::supervise::runtime_dir::{LockError, RuntimeDir};
use crate::topology::{self, Topology};

use super::unconfirmed::{self, Due, Record, Waiting};
use super::watchdog;
use crate::host::apply::observe::observe_surroundings;
use crate::host::apply::prove_first::prove_first;
use crate::host::apply::take_back::with_consequence;
use crate::host::kept::action_log;
use crate::host::kept::generation::{self, Origin};
use crate::host::{Host, HostError, Lock, Outcome, Silent, Watch};

/// How often the watchdog looks whether it was confirmed.
const LOOK: Duration = Duration::from_secs(1);

/// How long it waits after it failed to return.
const AGAIN: Duration = Duration::from_secs(5);

/// How long a watchdog may take to start.
const START: Duration = Duration::from_secs(10);

impl Host {
    /// As [`Host::apply_under`], until `time` has passed after it: then the
    /// host returns to what was confirmed last, unless [`Host::confirm`] came
    /// before. A process of its own sees to that.
    ///
    /// # Errors
    /// Those of [`Host::apply`]; nothing was touched where nobody could see to
    /// it.
    pub async fn apply_unconfirmed(
        &self,
        lock: &Lock,
        (spec, topology): (&HostSpec, &Topology),
        time: Duration,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, HostError> {
        let newest = generation::numbers(&self.root)?.pop();
        let before = match unconfirmed::read(&self.root)? {
            Some(Record::Waiting(waiting)) if waiting.due() == Due::Now => {
                self.return_from(lock, &waiting).await?;
                unconfirmed::read(&self.root)?
            }
            before => before,
        };
        let again = self.compile_again(newest, spec)?;
        let topology = again.as_ref().unwrap_or(topology);
        let back_to = match &before {
            Some(Record::Waiting(waiting)) => waiting.back_to.clone(),
            _ => generation::last(&self.root)?,
        };
        self.ask(spec, watch)?;
        if watch.proves() {
            prove_first(topology, &observe_surroundings(&self.root, topology).await?, watch)?;
        }
        let last = generation::last(&self.root)?.map(|last| last.number);
        let waiting = Waiting::begin(spec, back_to, time);
        unconfirmed::write(&self.root, &Record::Waiting(Box::new(waiting.clone())))?;
        if let Err(error) = self.have_it_watched() {
            unconfirmed::put_back(&self.root, before.as_ref())?;
            return Err(error);
        }
        let origin = Origin::of("apply --confirm");
        let result = self.apply_locked(lock, spec, topology, &origin, watch).await;
        action_log::write(&self.root, &origin.command, &result);
        match &result {
            // Nothing changed: there is nothing to confirm.
            Ok(outcome) if outcome.steps.is_empty() && outcome.generation == last && before.is_none() => {
                unconfirmed::remove(&self.root)?;
            }
            Ok(outcome) => {
                let waiting = waiting.applied(outcome.generation, time);
                if let Err(error) =
                    unconfirmed::write(&self.root, &Record::Waiting(Box::new(waiting.clone())))
                {
                    // Nobody could confirm it. The watchdog sees to what fails here.
                    let consequence = match self.return_from(lock, &waiting).await {
                        Ok(()) => "The host is back at what was confirmed last.".into(),
                        Err(error) => format!("The host returns to what was confirmed last ({error})."),
                    };
                    return Err(with_consequence(error, consequence));
                }
            }
            // The host is what it was; else the watchdog sees to it once this
            // process has ended.
            Err(_) if self.is_back().await => unconfirmed::put_back(&self.root, before.as_ref())?,
            Err(_) => {}
        }
        result
    }

    /// Whether the host is as it was before an apply that failed.
    async fn is_back(&self) -> bool {
        let steps = match generation::last(&self.root) {
            Ok(Some(last)) => match last.compile() {
                Ok(topology) => self.plan(&topology).await,
                Err(error) => Err(error),
            },
            Ok(None) => self.removal().await,
            Err(error) => Err(error),
        };
        steps.is_ok_and(|steps| steps.is_empty())
    }

    /// Keeps what was applied; says which generation it is.
    ///
    /// # Errors
    /// Where nothing waits for it, or it is too late.
    pub fn confirm(&self, watch: &mut dyn Watch) -> Result<u64, HostError> {
        let _lock = self.begin_with("confirm", watch)?;
        match unconfirmed::read(&self.root)? {
            None => Err(HostError::NothingToConfirm),
            Some(Record::Waiting(waiting)) => match (waiting.generation, waiting.due()) {
                (Some(generation), Due::In(_)) => {
                    unconfirmed::remove(&self.root)?;
                    Ok(generation)
                }
                _ => Err(HostError::TooLate),
            },
            Some(Record::Rejected { .. }) => Err(HostError::TooLate),
        }
    }

    /// What has to be settled before another change: nothing may be built on
    /// what isn't confirmed. Gives the spec that wasn't, where there is one.
    pub(in crate::host) async fn settle(&self, lock: &Lock) -> Result<Option<HostSpec>, HostError> {
        match unconfirmed::read(&self.root)? {
            None => Ok(None),
            Some(Record::Rejected { spec, .. }) => Ok(Some(*spec)),
            Some(Record::Waiting(waiting)) => match waiting.due() {
                Due::In(left) => Err(HostError::Unconfirmed {
                    generation: waiting.generation,
                    seconds: left.as_secs() + 1,
                }),
                Due::Now => {
                    self.return_from(lock, &waiting).await?;
                    Ok(Some(waiting.spec))
                }
            },
        }
    }

    /// Makes the host what was confirmed last.
    pub(in crate::host) async fn keep_confirmed(&self) -> Result<(), HostError> {
        match generation::last(&self.root)? {
            // What was taken down stays down.
            Some(last) if last.spec != HostSpec::default() => self.restore(&last).await.map(drop),
            _ => Ok(()),
        }
    }

    /// What was confirmed last, where `wanted` is what nobody confirmed: at
    /// boot nobody is there to do so.
    pub(in crate::host) fn confirmed_instead_of(
        &self,
        wanted: &HostSpec,
    ) -> Result<Option<Topology>, HostError> {
        let (spec, confirmed) = match unconfirmed::read(&self.root)? {
            Some(Record::Rejected { spec, .. }) => (spec, generation::last(&self.root)?),
            Some(Record::Waiting(waiting)) if waiting.due() == Due::Now => {
                (Box::new(waiting.spec), waiting.back_to)
            }
            _ => return Ok(None),
        };
        // However it is written; addresses are another matter.
        let same = || {
            topology::compile(&spec)
                .is_ok_and(|one| topology::compile(wanted).is_ok_and(|other| one == other))
        };
        if *spec != *wanted && !same() {
            return Ok(None);
        }
        confirmed.map_or_else(|| Ok(Topology::empty()), |confirmed| confirmed.compile()).map(Some)
    }

    /// That the spec is the one that nobody confirmed.
    pub(in crate::host) fn rejected(&self) -> Result<HostError, HostError> {
        let generation = match unconfirmed::read(&self.root)? {
            Some(Record::Rejected { generation, .. }) => generation,
            _ => None,
        };
        Ok(HostError::Rejected { generation })
    }

    /// The host isn't any more what waits for a confirmation.
    pub(in crate::host) fn reject_waiting(&self) -> Result<(), HostError> {
        let Some(Record::Waiting(waiting)) = unconfirmed::read(&self.root)? else { return Ok(()) };
        let Waiting { generation, spec, .. } = *waiting;
        let spec = Box::new(spec);
        unconfirmed::write(&self.root, &Record::Rejected { generation, spec })
    }

    /// Makes the host what it was before an apply that nobody confirmed.
    async fn return_from(&self, _lock: &Lock, waiting: &Waiting) -> Result<(), HostError> {
        let which = waiting.generation.map_or("an apply".into(), |number| format!("generation {number}"));
        let origin = |from| Origin { command: format!("{which} wasn't confirmed"), from };
        let result = match &waiting.back_to {
            Some(back_to) => {
                let origin = origin(Some(back_to.number));
                let spec = &back_to.spec;
                self.restore(back_to).await.and_then(|steps| {
                    let drop_in =
                        crate::host::kept::drop_in::read(&self.root).ok().map(Option::unwrap_or_default);
                    let generation =
                        generation::commit(&self.root, (spec, &back_to.allocations()), &origin, drop_in)?;
                    Ok(Outcome { steps, notes: Vec::new(), generation: Some(generation.number) })
                })
            }
            None => self.down_locked(&origin(None), &mut Silent).await,
        };
        action_log::write(&self.root, &origin(None).command, &result);
        result?;
        let (generation, spec) = (waiting.generation, Box::new(waiting.spec.clone()));
        unconfirmed::write(&self.root, &Record::Rejected { generation, spec })
    }

    /// Sees to it that a watchdog runs.
    fn have_it_watched(&self) -> Result<(), HostError> {
        let dir = watchdog::runtime_dir(&self.root)?;
        if dir.lock_holder().is_some() {
            // It reads the record again before it ends.
            return Ok(());
        }
        watchdog::spawn(&self.root, &self.program)?;
        let begun = Instant::now();
        while dir.lock_holder().is_none() {
            if begun.elapsed() > START {
                let log = watchdog::log(&self.root);
                return Err(HostError::NoWatchdog(std::io::Error::other(format!("see {}", log.display()))));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits for the confirmation, and makes the host what it was where none
    /// comes: the watchdog's whole life.
    ///
    /// # Errors
    /// Where it can't become the watchdog.
    pub async fn watch_unconfirmed(&self) -> Result<(), HostError> {
        let dir = watchdog::runtime_dir(&self.root)?;
        loop {
            let mut lock = match dir.lock() {
                Ok(lock) => lock,
                Err(LockError::Held(_)) => return Ok(()),
                Err(LockError::File(error)) => return Err(HostError::NoWatchdog(error.source)),
            };
            lock.sign().map_err(HostError::NoWatchdog)?;
            self.attend().await;
            let ended = leave(&dir);
            drop(lock);
            // One that was written after the last look found a watchdog.
            if !matches!(unconfirmed::read(&self.root), Ok(Some(Record::Waiting(_)))) {
                return ended;
            }
        }
    }

    /// Until nothing is waited for.
    async fn attend(&self) {
        loop {
            let pause = match unconfirmed::read(&self.root) {
                Ok(Some(Record::Waiting(waiting))) => match waiting.due() {
                    Due::In(left) => left.min(LOOK),
                    Due::Now => match self.return_now().await {
                        Ok(()) => continue,
                        Err(HostError::Locked(_)) => LOOK / 4,
                        Err(error) => {
                            tracing::error!("can't return to what was confirmed: {error}");
                            AGAIN
                        }
                    },
                },
                Ok(_) => return,
                Err(error) => {
                    tracing::error!("{error}");
                    AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn return_now(&self) -> Result<(), HostError> {
        // One that is stuck on the terminal that it has cut off.
        if let Ok(Some(Record::Waiting(waiting))) = unconfirmed::read(&self.root)
            && waiting.due() == Due::Now
            && let Some(applier) = waiting.applier()
        {
            applier.signal(rustix::process::Signal::KILL).map_err(HostError::NoWatchdog)?;
        }
        let lock = self.begin("return to what was confirmed")?;
        match unconfirmed::read(&self.root)? {
            Some(Record::Waiting(waiting)) if waiting.due() == Due::Now => {
                self.return_from(&lock, &waiting).await
            }
            _ => Ok(()),
        }
    }
}

fn leave(dir: &RuntimeDir) -> Result<(), HostError> {
    dir.remove_lock().map_err(|error| HostError::NoWatchdog(error.source))
}
