//! Audits again whenever the kernel says that something changed, and every few
//! seconds for what it doesn't tell of; says what appeared and what vanished;
//! puts it back where it is told to.
//!
//! ```text
//!   wait ── an event, a crowd of them, or the interval ──► audit
//!     ▲                                                     │
//!     ├── nothing is wrong; another hostctl is at it ◄──────┤
//!     │                                                     │ drift, --repair
//!     │                              the pause isn't over   ▼
//!     ├── paused ◄─────────────────────────────────────── may it be repaired?
//!     │   (none for the first two in a row, then            │ yes
//!     │   1, 2, 4 … 60 s; forgotten after two               ▼
//!     │   minutes of peace)                              repair ──► audit again
//! ```
//!
//! The pauses are there because two programs that each repair what the other
//! does would else use up the machine.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::link::namespace;
use crate::supervise::backoff::backoff;
use crate::supervise::runtime_dir::{RuntimeDir, SupervisorLock};

use super::{Audit, Finding, Remembered, applied, audit_again, drift};
use crate::host::hold::{PutBack, keep_beside, watch_dir};
use crate::host::{Events, Host, HostError, Lock, Silent};

/// Changes come in crowds: after one, this much quiet is waited for …
const QUIET: Duration = Duration::from_millis(50);
/// … and not longer than this.
const CROWD: Duration = Duration::from_millis(250);
/// While another hostctl changes the host, it is asked this often whether it
/// is through.
const BUSY: Duration = Duration::from_millis(200);
/// What failed, because somebody changed something on the way, is tried again
/// so soon.
const AGAIN: Duration = Duration::from_millis(500);
/// The host is repaired at once so often in a row; then something else keeps
/// changing it, and the pauses grow.
const PATIENCE: u32 = 2;
/// After so much peace, a change is nobody's fight any more.
const PEACE: Duration = Duration::from_secs(120);

/// How to watch.
#[derive(Debug, Clone, Copy)]
pub struct WatchOptions {
    /// How long at most between two audits: the kernel doesn't tell of each
    /// setting.
    pub interval: Duration,
    /// Whether drift is put back.
    pub repair: bool,
}

/// Something that the watch has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum News {
    /// The first audit is done.
    Watching {
        /// The generation that the host is compared with.
        generation: Option<u64>,
        /// How many findings there are; each is told of before.
        findings: usize,
    },
    /// A finding that wasn't there before.
    Appeared {
        /// The finding.
        finding: Finding,
    },
    /// A finding that isn't there any more.
    Vanished {
        /// The finding.
        finding: Finding,
    },
    /// Drift was put back.
    Repaired {
        /// How many steps it took.
        steps: usize,
    },
    /// The next repair waits: something keeps changing the host.
    Paused {
        /// How often it was repaired in a row.
        repairs: u32,
        /// How long it waits, in seconds.
        seconds: u64,
    },
    /// An audit or a repair failed; it is tried again.
    Failed {
        /// Why.
        error: String,
    },
    /// The kernel had more to tell than it could keep; everything was looked
    /// at again.
    Overrun,
}

/// Who is told; an error ends the watch.
pub type Tell<'t> = &'t mut dyn FnMut(News) -> Result<(), HostError>;

/// Watches until telling fails.
///
/// # Errors
/// Where the caller isn't root, netlink can't be listened to, or telling
/// fails.
pub async fn watch(host: &Host, options: WatchOptions, tell: Tell<'_>) -> Result<(), HostError> {
    Host::check_root()?;
    // What happens from here on is heard of; what was before, the first audit
    // sees.
    let mut events = Events::open().map_err(HostError::Events)?;
    // Tables that are gone don't wait for an audit, nor for its pauses.
    let (sender, kept) = channel();
    let mut sign = None;
    if options.repair {
        sign = watching(host);
        let host = host.clone();
        let tell = move |done| sender.send(done).map_err(|error| HostError::Told(error.to_string()));
        thread::spawn(move || keep_beside(&host, tell));
    }
    let mut state = State {
        host,
        options,
        remembered: Remembered::default(),
        known: None,
        pace: Pace::default(),
        failure: None,
        kept,
    };
    let _sign = sign;
    let mut overruns = 0;
    loop {
        let began = Instant::now();
        let next = state.look(tell).await?;
        events.follow(namespace::names().unwrap_or_default().iter().map(String::as_str));
        // Audits take at most half of the time, however much changes; after a
        // repair it looks at once.
        let rest = if next.is_zero() { Duration::ZERO } else { began.elapsed() };
        sleep(rest.min(options.interval)).await;
        match timeout(next, events.changed()).await {
            Err(_) => continue,
            Ok(changed) => changed.map_err(HostError::Events)?,
        }
        let crowd = Instant::now();
        while crowd.elapsed() < CROWD && matches!(timeout(QUIET, events.changed()).await, Ok(Ok(()))) {}
        if events.overruns() > overruns {
            overruns = events.overruns();
            tell(News::Overrun)?;
        }
    }
}

/// Says to `status` that somebody puts back what is gone; the first one does.
fn watching(host: &Host) -> Option<SupervisorLock> {
    let directory = RuntimeDir::create(&host.root, watch_dir(&host.root)).ok()?;
    let mut lock = directory.lock().ok()?;
    lock.sign().ok()?;
    Some(lock)
}

struct State<'h> {
    host: &'h Host,
    options: WatchOptions,
    remembered: Remembered,
    /// What the last audit found; none before the first.
    known: Option<BTreeSet<Finding>>,
    pace: Pace,
    /// The last failure, which isn't told of twice.
    failure: Option<String>,
    /// Tables that were put back at once.
    kept: Receiver<Result<PutBack, HostError>>,
}

impl State<'_> {
    /// Audits, and repairs where that is due; says how long to wait at most.
    async fn look(&mut self, tell: Tell<'_>) -> Result<Duration, HostError> {
        while let Ok(kept) = self.kept.try_recv() {
            match kept {
                Ok(done) => self.was_put_back(done, tell)?,
                Err(error) => self.fail(&error, tell)?,
            }
        }
        let audit = match self.audit().await {
            Ok(Some(audit)) => audit,
            Ok(None) => return Ok(BUSY),
            Err(error) => {
                self.fail(&error, tell)?;
                return Ok(AGAIN.min(self.options.interval));
            }
        };
        self.failure = None;
        self.compare(&audit, tell)?;
        if !(self.options.repair && audit.has_drift()) {
            return Ok(self.options.interval);
        }
        let wait = self.pace.wait(Instant::now());
        if !wait.is_zero() {
            return Ok(wait.min(self.options.interval));
        }
        match self.host.repair(&mut Silent).await {
            Ok(outcome) => {
                let steps = outcome.map_or(0, |outcome| outcome.steps.len());
                tell(News::Repaired { steps })?;
            }
            // Somebody else began meanwhile: that is not our failure.
            Err(HostError::Locked(_)) => return Ok(BUSY),
            Err(error) => self.fail(&error, tell)?,
        }
        if let Some((repairs, pause)) = self.pace.repaired(Instant::now()) {
            tell(News::Paused { repairs, seconds: pause.as_secs() })?;
        }
        // Its own changes are among the next events; this looks at once.
        Ok(Duration::ZERO)
    }

    /// That tables were gone is told of as if an audit had seen it.
    fn was_put_back(&mut self, done: PutBack, tell: Tell<'_>) -> Result<(), HostError> {
        if let Some(known) = self.known.as_mut().filter(|_| done.gone) {
            for finding in drift::tables_gone() {
                if known.insert(finding.clone()) {
                    tell(News::Appeared { finding })?;
                }
            }
        }
        tell(News::Repaired { steps: 1 + usize::from(done.gone) })
    }

    /// An audit of a host that nobody was changing meanwhile.
    async fn audit(&mut self) -> Result<Option<Audit>, HostError> {
        let root = &self.host.root;
        if Lock::is_held(root) {
            return Ok(None);
        }
        let audit = audit_again(root, &mut self.remembered).await?;
        let (generation, _) = applied(root)?;
        Ok((!Lock::is_held(root) && generation == audit.generation).then_some(audit))
    }

    fn compare(&mut self, audit: &Audit, tell: Tell<'_>) -> Result<(), HostError> {
        let found: BTreeSet<Finding> = audit.findings.iter().cloned().collect();
        let first = self.known.is_none();
        let known = self.known.take().unwrap_or_default();
        let mut told = Ok(());
        for finding in known.difference(&found) {
            told = told.and_then(|()| tell(News::Vanished { finding: finding.clone() }));
        }
        // The worst first.
        for finding in audit.findings.iter().filter(|finding| !known.contains(*finding)) {
            told = told.and_then(|()| tell(News::Appeared { finding: finding.clone() }));
        }
        if first {
            let (generation, findings) = (audit.generation, found.len());
            told = told.and_then(|()| tell(News::Watching { generation, findings }));
        }
        self.known = Some(found);
        told
    }

    fn fail(&mut self, error: &HostError, tell: Tell<'_>) -> Result<(), HostError> {
        let error = error.to_string();
        if self.failure.as_ref() == Some(&error) {
            return Ok(());
        }
        self.failure = Some(error.clone());
        tell(News::Failed { error })
    }
}

/// When the next repair may be. Pure: it is told the time.
#[derive(Debug, Default)]
struct Pace {
    repairs: u32,
    last: Option<Instant>,
}

impl Pace {
    fn pause(&self) -> Duration {
        if self.repairs <= PATIENCE { Duration::ZERO } else { backoff(self.repairs - PATIENCE) }
    }

    /// How long to wait before the next repair.
    fn wait(&self, now: Instant) -> Duration {
        let since = self.last.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        self.pause().saturating_sub(since)
    }

    /// Counts a repair. Gives the number in a row, and the pause before the
    /// next one, where there is one.
    fn repaired(&mut self, now: Instant) -> Option<(u32, Duration)> {
        let peace = self.last.is_none_or(|last| now.saturating_duration_since(last) > PEACE + self.pause());
        self.repairs = if peace { 1 } else { self.repairs.saturating_add(1) };
        self.last = Some(now);
        let pause = self.pause();
        (!pause.is_zero()).then_some((self.repairs, pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_is_given_ever_more_time_and_forgotten_after_peace() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        assert_eq!(pace.wait(start), Duration::ZERO);
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            now += pace.wait(now);
            pauses.push(pace.repaired(now).map_or(0, |(_, pause)| pause.as_secs()));
        }
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pace.wait(now + Duration::from_secs(59)), Duration::from_secs(1));
        now += PEACE + Duration::from_secs(61);
        assert_eq!((pace.wait(now), pace.repaired(now)), (Duration::ZERO, None));
    }
}
