//! What a supervisor says to its log and to systemd. A guest decides how often
//! its state changes, so the log has a budget.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::shown;

use super::control::Status;
use super::state::State;

/// Changes of state that are logged in each [`WINDOW`].
const BUDGET: u32 = 30;
const WINDOW: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Announcer {
    ready: bool,
    last: Option<String>,
    window: Option<Instant>,
    logged: u32,
}

impl Announcer {
    /// Tells of a new status: `STATUS=` always, `READY=1` when the guest
    /// first executes (sd_notify(3)); without systemd, only the log.
    pub fn announce(&mut self, status: &Status) {
        // What a failed QEMU said last is part of it: one line, one assignment.
        let text = shown::line(&status.text());
        let mut notes = vec![NotifyState::Status(&text)];
        if matches!(status.state, State::Running | State::Ready) && !self.ready {
            self.ready = true;
            notes.push(NotifyState::Ready);
        }
        // Nobody to tell is no failure. What a guest can change often is no news.
        if notes.len() > 1 || self.last.as_ref() != Some(&text) {
            let _ = sd_notify::notify(&notes);
        }
        if self.last.as_ref() != Some(&text) && self.within_budget(Instant::now()) {
            tracing::info!(vm = %status.name, pid = status.pid, "{text}");
        }
        self.last = Some(text);
    }

    /// How often systemd wants to hear of a supervisor (`WatchdogSec=`), with
    /// time to spare.
    pub fn heartbeat() -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| limit / 2)
    }

    /// Tells systemd that the supervisor does its work.
    pub fn beat() {
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }

    /// Tells systemd that the guest is gone and the supervisor goes. Not
    /// before: a guest has the time to power off that whoever stops it gives
    /// it, not the unit's.
    pub fn ending() {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }

    fn within_budget(&mut self, now: Instant) -> bool {
        if self.window.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            self.window = Some(now);
            self.logged = 0;
        }
        self.logged = self.logged.saturating_add(1);
        self.logged <= BUDGET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restless_guest_fills_no_log() {
        let mut announcer = Announcer::default();
        let now = Instant::now();
        let logged = (0..1000).filter(|_| announcer.within_budget(now)).count();
        assert_eq!(logged, BUDGET as usize);
        assert!(announcer.within_budget(now + WINDOW));
    }
}
