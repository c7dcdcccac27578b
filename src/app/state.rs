//! The life of an app as its supervisor sees it: events in, state and next
//! step out. Pure; time is passed in.
//!
//! ```text
//!             Launched            StopRequested             Exited
//!   starting ──────────► running ───────────────► stopping ────────► stopped
//!     ▲                     │ Exited
//!     │                     ▼
//!     │         started again, by `restart` and how it ended?
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

use crate::supervise::backoff::backoff;
use crate::topology::AppRestart;

/// Where an app is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", content = "why", rename_all = "lowercase")]
pub enum State {
    /// Its program isn't there, or not yet again.
    Starting,
    /// Its program executes.
    Running,
    /// It was told to end.
    Stopping,
    /// It ended as it should.
    Stopped,
    /// It ended as it shouldn't, and why. A supervisor may be about to start
    /// it again: see [`Status::retry_in_ms`](super::Status::retry_in_ms).
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

/// An app that lived this long ends as if for the first time.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The program executes.
    Launched,
    /// It couldn't be started.
    LaunchFailed(String),
    /// The app is to end.
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
pub(super) enum Next {
    /// Nothing.
    Wait,
    /// End every process of the app.
    Stop,
    /// Start the program after that time.
    LaunchIn(Duration),
    /// Leave: the app ended as it should.
    Stopped,
    /// Leave: it failed and isn't to be started again.
    Failed(String),
}

/// The life of one app.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub state: State,
    /// Starts after the first one.
    pub restarts: u32,
    /// Ends since it was last healthy.
    pub failures: u32,
    restart: AppRestart,
    stopping: bool,
    launched: Option<Instant>,
    ever_launched: bool,
}

impl Lifecycle {
    /// An app that isn't started yet.
    pub fn new(restart: AppRestart) -> Self {
        Self {
            state: State::Starting,
            restarts: 0,
            failures: 0,
            restart,
            stopping: false,
            launched: None,
            ever_launched: false,
        }
    }

    /// Takes note of what happened at `now`.
    pub fn on(&mut self, event: Event, now: Instant) -> Next {
        match event {
            Event::Launched => {
                self.launched = Some(now);
                self.ever_launched = true;
                self.state = State::Running;
                Next::Wait
            }
            Event::LaunchFailed(why) if self.ever_launched => self.ended(false, why),
            // It never ran as it is described: more of the same won't help.
            Event::LaunchFailed(why) => {
                self.state = State::Failed(why.clone());
                Next::Failed(why)
            }
            Event::StopRequested => {
                self.stopping = true;
                if self.launched.is_some() {
                    self.state = State::Stopping;
                    return Next::Stop;
                }
                self.state = State::Stopped;
                Next::Stopped
            }
            Event::Exited { success, why } => {
                let lived = self.launched.take().map(|at| now.saturating_duration_since(at));
                if self.stopping {
                    self.state = State::Stopped;
                    return Next::Stopped;
                }
                if lived.is_some_and(|lived| lived >= HEALTHY_AFTER) {
                    self.failures = 0;
                }
                self.ended(success, why)
            }
        }
    }

    fn ended(&mut self, success: bool, why: String) -> Next {
        match (self.restart, success) {
            (AppRestart::Never | AppRestart::OnFailure, true) => {
                self.state = State::Stopped;
                return Next::Stopped;
            }
            (AppRestart::Never, false) => {
                self.state = State::Failed(why.clone());
                return Next::Failed(why);
            }
            (_, true) => self.state = State::Starting,
            (_, false) => self.state = State::Failed(why),
        }
        self.failures = self.failures.saturating_add(1);
        self.restarts = self.restarts.saturating_add(1);
        Next::LaunchIn(backoff(self.failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(success: bool) -> Event {
        Event::Exited { success, why: "why".into() }
    }

    fn after(restart: AppRestart, success: bool) -> Next {
        let mut life = Lifecycle::new(restart);
        let now = Instant::now();
        life.on(Event::Launched, now);
        life.on(exited(success), now)
    }

    #[test]
    fn the_policy_decides_who_is_started_again() {
        let again = Next::LaunchIn(Duration::from_secs(1));
        assert_eq!(after(AppRestart::Always, true), again);
        assert_eq!(after(AppRestart::Always, false), again);
        assert_eq!(after(AppRestart::OnFailure, false), again);
        assert_eq!(after(AppRestart::OnFailure, true), Next::Stopped);
        assert_eq!(after(AppRestart::Never, true), Next::Stopped);
        assert_eq!(after(AppRestart::Never, false), Next::Failed("why".into()));
    }

    #[test]
    fn pauses_grow_until_it_was_healthy() {
        let mut life = Lifecycle::new(AppRestart::OnFailure);
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
        assert_eq!(life.restarts, 9);
    }

    #[test]
    fn a_stopped_app_stays_stopped() {
        let now = Instant::now();
        let mut life = Lifecycle::new(AppRestart::Always);
        life.on(Event::Launched, now);
        assert_eq!(life.on(Event::StopRequested, now), Next::Stop);
        assert_eq!(life.state, State::Stopping);
        assert_eq!(life.on(exited(false), now), Next::Stopped);

        let mut waiting = Lifecycle::new(AppRestart::Always);
        waiting.on(Event::Launched, now);
        waiting.on(exited(false), now);
        assert_eq!(waiting.on(Event::StopRequested, now), Next::Stopped);
    }

    #[test]
    fn a_first_start_that_fails_is_the_end_and_a_later_one_isnt() {
        let now = Instant::now();
        let failed = || Event::LaunchFailed("no such file".into());
        let mut life = Lifecycle::new(AppRestart::Always);
        assert!(matches!(life.on(failed(), now), Next::Failed(_)));
        let mut life = Lifecycle::new(AppRestart::Always);
        life.on(Event::Launched, now);
        life.on(exited(true), now);
        assert_eq!(life.on(failed(), now), Next::LaunchIn(Duration::from_secs(2)));
    }
}
