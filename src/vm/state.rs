//! The life of a VM as its supervisor sees it: events in, state and next step
//! out. Pure; time is passed in.
//!
//! ```text
//!            Up (its image has an agent)            AgentAnswered
//!   starting ──────────────────────────► running ───────────────► ready
//!     ▲  │                                │   ▲ ◄──── Reset ────── │ ▲
//!     │  │ Up (paused)             Paused │   │ Resumed     Paused │ │ Up (no agent),
//!     │  │                                ▼   │                    ▼ │ Resumed
//!     │  └──────────────────────────────►  paused  ◄─────────────────┘
//!     │
//!     │  from each of these, while there is a QEMU:
//!     │    StopRequested, RestartRequested, GuestShutdown ──► stopping
//!     │      stopping ── Exited ──► stopped, and the supervisor leaves
//!     ├───── stopping ── Exited, where a restart was asked for, at once
//!     │    Exited, which nobody asked for ──► failed
//!     ├───── failed ── after 1, 2, 4 … 60 s (`restart = true`)
//!     │      failed ──► the supervisor leaves (`restart = false`, or the very
//!     │                 first start couldn't be)
//!     └───── failed ── RestartRequested, at once; StopRequested ──► stopped
//! ```
//!
//! A stop wins over a restart that is asked for later: whoever wants the guest
//! gone is not overruled by whoever wants it anew. A QEMU that ends while it
//! is being stopped has not crashed, however it ended.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::supervise::lifecycle::{Next, Runs};

/// Where a VM is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", content = "why", rename_all = "lowercase")]
pub enum State {
    /// Its QEMU isn't there yet.
    Starting,
    /// The guest executes.
    Running,
    /// Its agent answered since it booted; without an agent in its image:
    /// the guest executes.
    Ready,
    /// QEMU holds the guest's processors.
    Paused,
    /// It was told to power off.
    Stopping,
    /// It ended as it should.
    Stopped,
    /// It ended as it shouldn't, and why. A supervisor may be about to start
    /// it again: see [`VmReport::retry_in_ms`](super::VmReport::retry_in_ms).
    Failed(String),
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Ready => f.write_str("ready"),
            Self::Paused => f.write_str("paused"),
            Self::Stopping => f.write_str("stopping"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// There is a QEMU: started, or an earlier supervisor's.
    Spawned,
    /// It answers, and the guest executes.
    Up {
        /// The guest's processors are held.
        paused: bool,
        /// Its image has a guest agent.
        agent: bool,
    },
    /// QEMU couldn't be started.
    LaunchFailed(String),
    /// The guest agent answered.
    AgentAnswered,
    /// The guest boots anew, in the same process.
    Reset,
    /// The processors are held.
    Paused,
    /// They run on.
    Resumed,
    /// It is to end.
    StopRequested,
    /// It is to end and start again.
    RestartRequested,
    /// The guest powered itself off.
    GuestShutdown,
    /// QEMU is gone; how it ended.
    Exited(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// By the guest itself or on request.
    Stop,
    /// On request, and then from the beginning.
    Restart,
}

/// The life of one VM.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub state: State,
    pub runs: Runs,
    /// Whether a crash is followed by a new start.
    pub restart: bool,
    agent: bool,
    ending: Ending,
}

impl Lifecycle {
    /// A VM that isn't started yet. `restart`: whether a crash is followed by
    /// a new start.
    pub fn new(restart: bool) -> Self {
        Self { state: State::Starting, runs: Runs::default(), restart, agent: false, ending: Ending::No }
    }

    /// Takes note of what happened at `now`.
    pub fn on(&mut self, event: Event, now: Instant) -> Next {
        match event {
            Event::Spawned => {
                self.runs.began(now);
                self.state = State::Starting;
            }
            // Where it is to end already, it goes on ending.
            Event::Up { paused, agent } if self.state == State::Starting => {
                self.agent = agent;
                self.state = if paused { State::Paused } else { self.alive() };
            }
            Event::LaunchFailed(why) if self.runs.ever_began() => return self.crashed(why),
            Event::LaunchFailed(why) => {
                self.state = State::Failed(why.clone());
                return Next::Failed(why);
            }
            Event::AgentAnswered if self.state == State::Running => self.state = State::Ready,
            Event::Reset if self.state == State::Ready => self.state = self.alive(),
            Event::Paused if matches!(self.state, State::Running | State::Ready) => {
                self.state = State::Paused
            }
            Event::Resumed if self.state == State::Paused => self.state = self.alive(),
            Event::StopRequested => return self.stop(Ending::Stop),
            Event::RestartRequested if self.ending == Ending::Stop => {}
            Event::RestartRequested => return self.stop(Ending::Restart),
            Event::GuestShutdown => {
                if self.ending == Ending::No {
                    self.ending = Ending::Stop;
                }
                self.state = State::Stopping;
            }
            Event::Exited(why) => return self.exited(why, now),
            Event::Up { .. } | Event::AgentAnswered | Event::Reset | Event::Paused | Event::Resumed => {}
        }
        Next::Wait
    }

    fn alive(&self) -> State {
        if self.agent { State::Running } else { State::Ready }
    }

    fn stop(&mut self, ending: Ending) -> Next {
        self.ending = ending;
        match (self.runs.is_running(), ending) {
            (true, _) => {
                self.state = State::Stopping;
                Next::Stop
            }
            // It waits for a new start.
            (false, Ending::Restart) => self.start_again(),
            (false, _) => {
                self.state = State::Stopped;
                Next::Stopped
            }
        }
    }

    fn exited(&mut self, why: String, now: Instant) -> Next {
        self.runs.ended(now);
        match self.ending {
            Ending::Restart => self.start_again(),
            Ending::Stop => {
                self.state = State::Stopped;
                Next::Stopped
            }
            Ending::No => self.crashed(why),
        }
    }

    fn start_again(&mut self) -> Next {
        self.ending = Ending::No;
        self.runs.failures = 0;
        self.state = State::Starting;
        self.runs.start_again()
    }

    fn crashed(&mut self, why: String) -> Next {
        self.runs.failed();
        self.state = State::Failed(why.clone());
        if !self.restart {
            return Next::Failed(why);
        }
        self.runs.start_again()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn crash() -> Event {
        Event::Exited("killed".into())
    }

    fn launched(life: &mut Lifecycle, now: Instant) {
        life.on(Event::Spawned, now);
        assert_eq!(life.state, State::Starting);
        assert_eq!(life.on(Event::Up { paused: false, agent: true }, now), Next::Wait);
    }

    #[test]
    fn a_vm_becomes_ready_by_its_agent_or_without_one() {
        let now = Instant::now();
        let mut life = Lifecycle::new(true);
        assert_eq!(life.state, State::Starting);
        launched(&mut life, now);
        assert_eq!(life.state, State::Running);
        life.on(Event::AgentAnswered, now);
        assert_eq!(life.state, State::Ready);
        life.on(Event::Reset, now);
        assert_eq!(life.state, State::Running);
        let mut life = Lifecycle::new(true);
        life.on(Event::Spawned, now);
        life.on(Event::Up { paused: false, agent: false }, now);
        assert_eq!(life.state, State::Ready);
    }

    #[test]
    fn crashes_are_followed_by_ever_later_starts() {
        let now = Instant::now();
        let mut life = Lifecycle::new(true);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            launched(&mut life, now);
            let Next::LaunchIn(pause) = life.on(crash(), now) else { panic!("no new start") };
            pauses.push(pause.as_secs());
            assert_eq!(life.state, State::Failed("killed".into()));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!((life.runs.restarts, life.runs.failures), (9, 9));
        launched(&mut life, now);
        let next = life.on(crash(), now + Duration::from_secs(60));
        assert_eq!(next, Next::LaunchIn(Duration::from_secs(1)));
    }

    #[test]
    fn a_guests_own_power_off_is_a_stop() {
        let now = Instant::now();
        let mut life = Lifecycle::new(true);
        launched(&mut life, now);
        life.on(Event::GuestShutdown, now);
        assert_eq!(life.on(crash(), now), Next::Stopped);
        assert_eq!(life.state, State::Stopped);
    }

    #[test]
    fn a_requested_stop_is_no_crash_and_a_restart_starts_again() {
        let now = Instant::now();
        let mut life = Lifecycle::new(true);
        launched(&mut life, now);
        assert_eq!(life.on(Event::RestartRequested, now), Next::Stop);
        assert_eq!(life.on(crash(), now), Next::LaunchIn(Duration::ZERO));
        launched(&mut life, now);
        assert_eq!(life.on(Event::StopRequested, now), Next::Stop);
        // Whoever asks later doesn't undo it.
        assert_eq!(life.on(Event::RestartRequested, now), Next::Wait);
        assert_eq!(life.on(crash(), now), Next::Stopped);
    }

    #[test]
    fn a_restart_survives_the_guests_power_off() {
        let now = Instant::now();
        let mut life = Lifecycle::new(true);
        launched(&mut life, now);
        life.on(Event::RestartRequested, now);
        life.on(Event::GuestShutdown, now);
        assert_eq!(life.on(crash(), now), Next::LaunchIn(Duration::ZERO));
    }

    #[test]
    fn a_stop_during_the_back_off_is_immediate() {
        let now = Instant::now();
        let mut life = Lifecycle::new(true);
        launched(&mut life, now);
        life.on(crash(), now);
        assert_eq!(life.on(Event::StopRequested, now), Next::Stopped);
    }

    #[test]
    fn a_qemu_that_doesnt_answer_yet_is_stopped_like_any_other() {
        let now = Instant::now();
        let mut life = Lifecycle::new(true);
        life.on(Event::Spawned, now);
        assert_eq!(life.on(Event::StopRequested, now), Next::Stop);
        life.on(Event::Up { paused: false, agent: true }, now);
        assert_eq!(life.state, State::Stopping);
        assert_eq!(life.on(crash(), now), Next::Stopped);
    }

    #[test]
    fn without_restart_a_crash_is_the_end_and_so_is_a_failed_first_start() {
        let now = Instant::now();
        let mut life = Lifecycle::new(false);
        launched(&mut life, now);
        assert_eq!(life.on(crash(), now), Next::Failed("killed".into()));
        let mut life = Lifecycle::new(true);
        assert_eq!(life.on(Event::LaunchFailed("no".into()), now), Next::Failed("no".into()));
        let mut life = Lifecycle::new(true);
        launched(&mut life, now);
        life.on(crash(), now);
        let again = life.on(Event::LaunchFailed("no".into()), now);
        assert_eq!(again, Next::LaunchIn(Duration::from_secs(2)));
    }

    #[test]
    fn pausing_is_seen_and_undone() {
        let now = Instant::now();
        let mut life = Lifecycle::new(true);
        launched(&mut life, now);
        life.on(Event::Paused, now);
        assert_eq!(life.state, State::Paused);
        life.on(Event::AgentAnswered, now);
        assert_eq!(life.state, State::Paused);
        life.on(Event::Resumed, now);
        assert_eq!(life.state, State::Running);
    }

    #[test]
    fn states_are_written_as_words() {
        let text = |state: &State| serde_json::to_string(state).unwrap();
        assert_eq!(text(&State::Ready), r#"{"state":"ready"}"#);
        assert_eq!(text(&State::Failed("x".into())), r#"{"state":"failed","why":"x"}"#);
    }
}
