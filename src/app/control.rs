//! What a supervisor can be asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::supervise::client::Told;
use crate::supervise::control::{self, Request, hand, limit, to_value};
use crate::supervise::lifecycle::State;
use crate::topology::{App, Name, NamespaceName};

/// The longest request, in bytes.
const REQUEST_MAX: usize = 4096;

/// What a supervisor says of its app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReport {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The app.
    pub name: Name,
    /// Where it is in its life.
    #[serde(flatten)]
    pub state: State,
    /// Its first process, while there is one.
    pub pid: Option<u32>,
    /// Its supervisor's pid.
    pub supervisor_pid: u32,
    /// When it was started, in seconds after the epoch.
    pub started_at: Option<u64>,
    /// Starts after the first one.
    pub restarts: u32,
    /// Ends in a row.
    pub failures: u32,
    /// In what time it is started again, in milliseconds from when the
    /// supervisor began to wait.
    pub retry_in_ms: Option<u64>,
}

impl AppReport {
    /// Of an app of which nothing is there but this supervisor.
    pub(super) fn new(app: &App) -> Self {
        Self {
            namespace: app.namespace.clone(),
            name: app.name.clone(),
            state: State::Starting,
            pid: None,
            supervisor_pid: std::process::id(),
            started_at: None,
            restarts: 0,
            failures: 0,
            retry_in_ms: None,
        }
    }
}

impl Told for AppReport {
    const REPLY_MAX: u64 = 64 * 1024;

    fn state(&self) -> String {
        self.state.to_string()
    }

    fn given_up(&self) -> Option<&str> {
        match &self.state {
            State::Failed(why) if self.retry_in_ms.is_none() || self.failures >= 3 => Some(why),
            _ => None,
        }
    }
}

/// The app is to end within that time; answered once that has begun.
#[derive(Debug)]
pub(super) struct StopOrder {
    pub limit: Duration,
    pub begun: oneshot::Sender<()>,
}

/// Serves clients until it is dropped.
pub(super) async fn serve(
    listener: UnixListener,
    status: watch::Receiver<AppReport>,
    orders: mpsc::Sender<StopOrder>,
) {
    let answer = move |line: Vec<u8>| {
        let (status, orders) = (status.clone(), orders.clone());
        async move {
            match serde_json::from_slice(&line) {
                Ok(Request::Status) => to_value(&*status.borrow()),
                Ok(Request::Stop { timeout_ms }) => {
                    hand(&orders, |begun| StopOrder { limit: limit(timeout_ms), begun }).await
                }
                Err(error) => Err(format!("not a request: {error}")),
            }
        }
    };
    control::serve(listener, REQUEST_MAX, answer).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_client_writes() {
        let parse = serde_json::from_str::<Request>;
        assert!(matches!(parse(r#"{"command":"status"}"#), Ok(Request::Status)));
        assert!(matches!(parse(r#"{"command":"stop","timeout_ms":5}"#), Ok(Request::Stop { timeout_ms: 5 })));
        assert!(parse(r#"{"command":"exec"}"#).is_err());
    }
}
