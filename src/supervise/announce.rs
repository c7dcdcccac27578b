//! What a supervisor says to its log and to systemd. What it supervises decides
//! how often its state changes, so the log has a budget.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::own_memory;
use crate::shown;

/// Changes of state that are logged in each [`WINDOW`].
const BUDGET: u32 = 30;
const WINDOW: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(crate) struct Announcer {
    ready: bool,
    last: Option<String>,
    window: Option<Instant>,
    logged: u32,
}

impl Announcer {
    /// Tells of a new status: `STATUS=` always, `READY=1` when what is
    /// supervised first executes, is `up` (sd_notify(3)); without systemd, only
    /// by `log`.
    pub fn announce(&mut self, text: &str, up: bool, log: impl FnOnce(&str)) {
        // What a failed program said last is part of it: one line, one assignment.
        let text = shown::line(text);
        let mut notes = vec![NotifyState::Status(&text)];
        if up && !self.ready {
            self.ready = true;
            notes.push(NotifyState::Ready);
        }
        // Nobody to tell is no failure. What changes often is no news.
        if notes.len() > 1 || self.last.as_ref() != Some(&text) {
            let _ = sd_notify::notify(&notes);
        }
        if self.last.as_ref() != Some(&text) && self.within_budget(Instant::now()) {
            log(&text);
            if up {
                // From here on it waits, mostly.
                own_memory::give_back();
            }
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

    /// Tells systemd that what was supervised is gone and the supervisor goes.
    /// Not before: it has the time to end that whoever stops it gives it, not
    /// the unit's.
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
