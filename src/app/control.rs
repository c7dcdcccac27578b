//! What a supervisor can be asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::supervise::control::{self, to_value};
use crate::topology::{App, Name, NamespaceName};

use super::state::State;

/// The longest request, in bytes.
const REQUEST_MAX: usize = 4096;
/// The longest time that a stop is given.
const STOP_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a supervisor says of its app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
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

impl Status {
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

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Request {
    Status,
    Stop { timeout_ms: u64 },
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
    status: watch::Receiver<Status>,
    orders: mpsc::Sender<StopOrder>,
) {
    let answer = move |line: Vec<u8>| {
        let (status, orders) = (status.clone(), orders.clone());
        async move {
            match serde_json::from_slice(&line) {
                Ok(Request::Status) => to_value(&*status.borrow()),
                Ok(Request::Stop { timeout_ms }) => {
                    let (begun, done) = oneshot::channel();
                    let limit = Duration::from_millis(timeout_ms).min(STOP_MAX);
                    let order = StopOrder { limit, begun };
                    orders.send(order).await.map_err(|_| "the supervisor is leaving")?;
                    // It may leave before it answers: it is carried out then.
                    let _ = done.await;
                    Ok(Value::Null)
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
