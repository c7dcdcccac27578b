//! The supervisor's control socket: JSON lines, a request and its answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::supervise::client::Told;
use crate::supervise::control::{self, hand, limit, millis};
use crate::supervise::error::SystemError;
use crate::topology::Name;

use super::error::VmError;
use super::held::{DiskErrors, Held};
use super::program::GuestCall;
use super::qemu::agent::{Agent, Exec};
use super::qemu::card::Card;
use super::qemu::command_line::Accelerator;
use super::state::State;

/// The longest request, in bytes; the input of `exec` is part of it.
pub(super) const REQUEST_MAX: usize = 1024 * 1024;

/// What a supervisor says of its VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmReport {
    /// The VM.
    pub name: Name,
    /// Where it is in its life.
    #[serde(flatten)]
    pub state: State,
    /// Its QEMU's pid, while there is one.
    pub pid: Option<u32>,
    /// Its supervisor's pid.
    pub supervisor_pid: u32,
    /// What executes the guest, once that is decided.
    pub accel: Option<Accelerator>,
    /// Why that.
    pub accel_reason: Option<String>,
    /// How its disks are read and written, where it has any.
    #[serde(default)]
    pub disk_io: Option<String>,
    /// How frames come from it, once that is decided.
    #[serde(default)]
    pub card: Option<Card>,
    /// When its QEMU was started, in seconds after the epoch.
    pub started_at: Option<u64>,
    /// Starts after the first one.
    pub restarts: u32,
    /// Crashes in a row.
    pub failures: u32,
    /// In what time it is started again, in milliseconds from when the
    /// supervisor began to wait; only in [`State::Failed`].
    pub retry_in_ms: Option<u64>,
    /// Whether the guest agent answered when it was last asked.
    pub agent: bool,
    /// Since when it is in that state, in seconds after the epoch.
    #[serde(default)]
    pub since: Option<u64>,
    /// Why the guest is held; only in [`State::Paused`].
    #[serde(default)]
    pub held: Option<Held>,
    /// The disk because of which it is held: the spec's key, and its file.
    #[serde(default)]
    pub disk: Option<String>,
    /// How it failed the last time since it was last healthy.
    #[serde(default)]
    pub last_failure: Option<String>,
    /// Errors of disks that the guest was told of.
    #[serde(default)]
    pub disk_errors: Option<DiskErrors>,
    /// Since when QEMU doesn't answer, in seconds after the epoch.
    #[serde(default)]
    pub silent_since: Option<u64>,
}

impl VmReport {
    /// Of a VM of which nothing is there but this supervisor.
    pub(super) fn new(name: &Name) -> Self {
        Self {
            name: name.clone(),
            state: State::Starting,
            pid: None,
            supervisor_pid: std::process::id(),
            accel: None,
            accel_reason: None,
            disk_io: None,
            card: None,
            started_at: None,
            restarts: 0,
            failures: 0,
            retry_in_ms: None,
            agent: false,
            since: None,
            held: None,
            disk: None,
            last_failure: None,
            disk_errors: None,
            silent_since: None,
        }
    }

    /// The state in words, with the reason where there is one.
    pub fn text(&self) -> String {
        let (State::Paused, Some(held)) = (&self.state, &self.held) else { return self.state.to_string() };
        let disk = self.disk.as_ref().or(held.disk.as_ref()).map_or("a disk", String::as_str);
        match held.state.as_str() {
            "paused" => "paused".into(),
            "io-error" if held.no_space => format!("paused: no room is left for {disk}"),
            "io-error" => {
                let reason = held.reason.as_deref().unwrap_or("an error");
                format!("paused: {disk} failed ({reason})")
            }
            state => format!("paused: QEMU says {state}"),
        }
    }
}

impl Told for VmReport {
    /// Two outputs of a command, twice in base64, and the rest.
    const REPLY_MAX: u64 = 4 * super::qemu::agent::OUTPUT_MAX as u64;

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

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Request {
    Status,
    Stop { timeout_ms: u64 },
    Restart { timeout_ms: u64 },
    Resume,
    Exec(Exec),
    Agent(GuestCall),
}

/// What the supervisor is asked to do; it answers once it has begun.
#[derive(Debug)]
pub(super) enum Order {
    Stop(Duration, oneshot::Sender<()>),
    Restart(Duration, oneshot::Sender<()>),
    Resume(oneshot::Sender<()>),
}

/// What a client may ask for.
#[derive(Debug, Clone)]
pub(super) struct Office {
    pub status: watch::Receiver<VmReport>,
    pub orders: mpsc::Sender<Order>,
    pub agent: Agent,
}

/// Serves clients until it is dropped.
pub(super) async fn serve(listener: UnixListener, office: Office) {
    let answer = move |line: Vec<u8>| {
        let office = office.clone();
        async move {
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) => answer(request, &office).await,
                Err(error) => Err(format!("not a request: {error}")),
            }
        }
    };
    control::serve(listener, REQUEST_MAX, answer).await;
}

async fn answer(request: Request, office: &Office) -> Result<Value, String> {
    match request {
        Request::Status => control::to_value(&*office.status.borrow()),
        Request::Stop { timeout_ms } => {
            hand(&office.orders, |begun| Order::Stop(limit(timeout_ms), begun)).await
        }
        Request::Restart { timeout_ms } => {
            hand(&office.orders, |begun| Order::Restart(limit(timeout_ms), begun)).await
        }
        Request::Resume => hand(&office.orders, Order::Resume).await,
        Request::Exec(mut exec) => {
            exec.timeout_ms = millis(limit(exec.timeout_ms));
            let output = office.agent.exec(&exec).await.map_err(|error: VmError| error.to_string())?;
            control::to_value(&output)
        }
        Request::Agent(call) => match office.agent.call(&call).await {
            Ok(answer) => Ok(json!({ "answer": answer })),
            // A client tells the agent's no from its silence.
            Err(VmError::Refused { message, .. }) => Ok(json!({ "refused": message })),
            Err(VmError::System(SystemError::Timeout { .. })) => Ok(json!({ "late": true })),
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_client_writes() {
        let parse = serde_json::from_str::<Request>;
        assert!(matches!(parse(r#"{"command":"status"}"#), Ok(Request::Status)));
        assert!(matches!(parse(r#"{"command":"stop","timeout_ms":5}"#), Ok(Request::Stop { timeout_ms: 5 })));
        let exec = r#"{"command":"exec","path":"/bin/id","args":["-u"],"timeout_ms":9}"#;
        assert!(matches!(parse(exec), Ok(Request::Exec(exec)) if exec.args == ["-u"]));
        assert!(parse(r#"{"command":"format"}"#).is_err());
    }

    #[tokio::test]
    async fn nonsense_is_answered_and_an_endless_request_is_cut_off() {
        use std::sync::Arc;

        use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
        use tokio::net::UnixStream;

        use crate::bounded::Lines;

        let dir = tempfile::tempdir().unwrap();
        let root = crate::root_dir::RootDir::new(dir.path());
        let name = Name::new("vm1").unwrap();
        let runtime_dir = Arc::new(super::super::runtime_dir::RuntimeDir::create(&root, &name).unwrap());
        let (_status, status) = watch::channel(VmReport::new(&name));
        let (orders, _orders) = mpsc::channel(1);
        let path = dir.path().join("control.sock");
        let office = Office { status, orders, agent: Agent::new(runtime_dir) };
        tokio::spawn(serve(UnixListener::bind(&path).unwrap(), office));

        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"{\"command\":\"format\"}\n{\"command\":\"status\"}\n").await.unwrap();
        let (reader, _writer) = stream.split();
        let mut lines = Lines::new(BufReader::new(reader), REQUEST_MAX);
        let nonsense = lines.next().await.unwrap().unwrap();
        assert!(nonsense.starts_with(b"{\"error\":\"not a request"), "{nonsense:?}");
        let status: Value = serde_json::from_slice(&lines.next().await.unwrap().unwrap()).unwrap();
        assert_eq!(status["ok"]["state"], "starting");

        let mut endless = UnixStream::connect(&path).await.unwrap();
        let chunk = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        while endless.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
            assert!(sent < 8 * REQUEST_MAX);
        }
        assert!(!matches!(endless.read(&mut [0; 1]).await, Ok(1..)));
    }
}
