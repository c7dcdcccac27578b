//! What a supervisor waits for: times that may not be set, and signals.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// Waits until then; for ever where there is no such time.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// When what is supervised is started again.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    at: Option<Instant>,
    pause: Option<Duration>,
}

impl Retry {
    /// After a pause that begins now.
    pub fn after(pause: Duration) -> Self {
        Self { at: Some(Instant::now() + pause), pause: (!pause.is_zero()).then_some(pause) }
    }

    /// Waits until then.
    pub async fn due(&self) {
        until(self.at).await;
    }

    /// The pause in milliseconds, as it is told; none where there is none.
    pub fn pause_ms(&self) -> Option<u64> {
        self.pause.map(super::control::millis)
    }
}

/// SIGTERM and SIGINT: the supervisor is to stop what it supervises, and leave.
#[derive(Debug)]
pub(crate) struct StopSignals([Signal; 2]);

impl StopSignals {
    pub fn catch() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?]))
    }

    /// Waits for one.
    pub async fn received(&mut self) {
        let Self([terminate, interrupt]) = self;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
