//! The life of a program as its supervisor sees it: events in, state and next
//! step out. Pure; time is passed in. What has more states than this (a VM)
//! has a life of its own that counts by [`Runs`].
//!
//! ```text
//!             Launched            StopRequested             Exited
//!   starting ──────────► running ───────────────► stopping ────────► stopped
//!     ▲                     │ Exited
//!     │                     ▼
//!     │         started again, by `Again` and how it ended?
//!     │           yes, with status 0 ──► starting ┐ the next start is after
//!     └───────────yes, else ───────────► failed   ┘ 1, 2, 4 … 60 s
//!                 no, with status 0 ───► stopped, and the supervisor leaves
//!                 no, else ────────────► failed, and the supervisor leaves
//! ```
//!
//! While it waits to start again, StopRequested makes it stopped at once. A
//! first start that fails is failed for good: the program isn't there.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::backoff::backoff;

/// Where a program is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", content = "why", rename_all = "lowercase")]
pub enum State {
    /// It isn't there, or not yet again.
    Starting,
    /// It executes.
    Running,
    /// It was told to end.
    Stopping,
    /// It ended as it should.
    Stopped,
    /// It ended as it shouldn't, and why. A supervisor may be about to start
    /// it again: its status says in what time.
    Failed(String),
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Stopping => f.write_str("stopping"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// What lived this long ends as if for the first time.
pub(crate) const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The program executes.
    Launched,
    /// It couldn't be started.
    LaunchFailed(String),
    /// It is to end.
    StopRequested,
    /// The program and all that it left are gone; how it ended.
    Exited {
        /// With status 0.
        success: bool,
        /// In words.
        why: String,
    },
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    Wait,
    /// Have it end, and see to it.
    Stop,
    /// Start it after that time.
    LaunchIn(Duration),
    /// Leave: it ended as it should.
    Stopped,
    /// Leave: it failed and isn't to be started again.
    Failed(String),
}

/// After which ends a program is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Again {
    pub after_success: bool,
    pub after_failure: bool,
}

/// Starts and ends, counted.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// Starts after the first one.
    pub restarts: u32,
    /// Ends in a row, since it was last healthy.
    pub failures: u32,
    since: Option<Instant>,
    ever: bool,
}

impl Runs {
    /// It was started.
    pub fn began(&mut self, now: Instant) {
        self.since = Some(now);
        self.ever = true;
    }

    /// Whether it was started and hasn't ended.
    pub fn is_running(&self) -> bool {
        self.since.is_some()
    }

    /// Whether it was ever started.
    pub fn ever_began(&self) -> bool {
        self.ever
    }

    /// It ended. Where it was healthy, earlier ends don't count any more.
    pub fn ended(&mut self, now: Instant) {
        let lived = self.since.take().map(|since| now.saturating_duration_since(since));
        if lived.is_some_and(|lived| lived >= HEALTHY_AFTER) {
            self.failures = 0;
        }
    }

    /// One more end that nobody asked for.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// It is started again: after a pause that grows with its failures, at once
    /// where there are none.
    pub fn start_again(&mut self) -> Next {
        self.restarts = self.restarts.saturating_add(1);
        Next::LaunchIn(if self.failures == 0 { Duration::ZERO } else { backoff(self.failures) })
    }
}

/// The life of one program.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    pub state: State,
    pub runs: Runs,
    again: Again,
    stopping: bool,
}

impl Lifecycle {
    /// A program that isn't started yet.
    pub fn new(again: Again) -> Self {
        Self { state: State::Starting, runs: Runs::default(), again, stopping: false }
    }

    /// Takes note of what happened at `now`.
    pub fn on(&mut self, event: Event, now: Instant) -> Next {
        match event {
            Event::Launched => {
                self.runs.began(now);
                self.state = State::Running;
                Next::Wait
            }
            Event::LaunchFailed(why) if self.runs.ever_began() => self.ended(false, why),
            // It never ran as it is described: more of the same won't help.
            Event::LaunchFailed(why) => {
                self.state = State::Failed(why.clone());
                Next::Failed(why)
            }
            Event::StopRequested => {
                self.stopping = true;
                if self.runs.is_running() {
                    self.state = State::Stopping;
                    return Next::Stop;
                }
                self.state = State::Stopped;
                Next::Stopped
            }
            Event::Exited { success, why } => {
                self.runs.ended(now);
                if self.stopping {
                    self.state = State::Stopped;
                    return Next::Stopped;
                }
                self.ended(success, why)
            }
        }
    }

    fn ended(&mut self, success: bool, why: String) -> Next {
        match (self.again, success) {
            (Again { after_success: false, .. }, true) => {
                self.state = State::Stopped;
                return Next::Stopped;
            }
            (Again { after_failure: false, .. }, false) => {
                self.state = State::Failed(why.clone());
                return Next::Failed(why);
            }
            (_, true) => self.state = State::Starting,
            (_, false) => self.state = State::Failed(why),
        }
        self.runs.failed();
        self.runs.start_again()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: Again = Again { after_success: true, after_failure: true };
    const ON_FAILURE: Again = Again { after_success: false, after_failure: true };
    const NEVER: Again = Again { after_success: false, after_failure: false };

    fn exited(success: bool) -> Event {
        Event::Exited { success, why: "why".into() }
    }

    fn after(again: Again, success: bool) -> Next {
        let mut life = Lifecycle::new(again);
        let now = Instant::now();
        life.on(Event::Launched, now);
        life.on(exited(success), now)
    }

    #[test]
    fn the_policy_decides_who_is_started_again() {
        let again = Next::LaunchIn(Duration::from_secs(1));
        assert_eq!(after(ALWAYS, true), again);
        assert_eq!(after(ALWAYS, false), again);
        assert_eq!(after(ON_FAILURE, false), again);
        assert_eq!(after(ON_FAILURE, true), Next::Stopped);
        assert_eq!(after(NEVER, true), Next::Stopped);
        assert_eq!(after(NEVER, false), Next::Failed("why".into()));
    }

    #[test]
    fn pauses_grow_until_it_was_healthy() {
        let mut life = Lifecycle::new(ON_FAILURE);
        let now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            life.on(Event::Launched, now);
            pauses.push(match life.on(exited(false), now) {
                Next::LaunchIn(pause) => pause.as_secs(),
                next => panic!("{next:?}"),
            });
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        life.on(Event::Launched, now);
        assert_eq!(life.on(exited(false), now + HEALTHY_AFTER), Next::LaunchIn(Duration::from_secs(1)));
        assert_eq!(life.runs.restarts, 9);
    }

    #[test]
    fn a_stopped_program_stays_stopped() {
        let now = Instant::now();
        let mut life = Lifecycle::new(ALWAYS);
        life.on(Event::Launched, now);
        assert_eq!(life.on(Event::StopRequested, now), Next::Stop);
        assert_eq!(life.state, State::Stopping);
        assert_eq!(life.on(exited(false), now), Next::Stopped);

        let mut waiting = Lifecycle::new(ALWAYS);
        waiting.on(Event::Launched, now);
        waiting.on(exited(false), now);
        assert_eq!(waiting.on(Event::StopRequested, now), Next::Stopped);
    }

    #[test]
    fn a_first_start_that_fails_is_the_end_and_a_later_one_isnt() {
        let now = Instant::now();
        let failed = || Event::LaunchFailed("no such file".into());
        let mut life = Lifecycle::new(ALWAYS);
        assert!(matches!(life.on(failed(), now), Next::Failed(_)));
        let mut life = Lifecycle::new(ALWAYS);
        life.on(Event::Launched, now);
        life.on(exited(true), now);
        assert_eq!(life.on(failed(), now), Next::LaunchIn(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_started_anew_by_request_starts_at_once() {
        let now = Instant::now();
        let mut runs = Runs::default();
        runs.began(now);
        assert!(runs.is_running() && runs.ever_began());
        runs.ended(now);
        assert!(!runs.is_running());
        assert_eq!((runs.start_again(), runs.restarts), (Next::LaunchIn(Duration::ZERO), 1));
    }
}
