//! QEMU's machine protocol (QEMU: docs/interop/qmp-spec.txt). QEMU runs what
//! the guest says and may be in its hands: lines are bounded, every command
//! has a deadline, what isn't known is ignored.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use crate::bounded::{Lines, printable};

use crate::vm::error::VmError;
use crate::vm::held::{Held, IoError};

const LINE_MAX: usize = 1024 * 1024;
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// QEMU under load takes this long to say hello.
const GREETING_LIMIT: Duration = Duration::from_secs(20);
const PEER: &str = "QEMU's machine protocol";

/// What QEMU reports of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::vm) enum QmpEvent {
    /// It will end: powered off by the guest itself.
    GuestShutdown,
    /// It will end: the guest's kernel panicked.
    GuestPanic,
    /// It will end, by command or signal.
    HostShutdown,
    /// The guest reboots.
    Reset,
    /// The guest is stopped.
    Paused,
    /// It goes on.
    Resumed,
    /// A disk failed.
    IoError(IoError),
}

/// A connection in command mode. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::vm) struct Qmp {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    writer: OwnedWriteHalf,
    replies: mpsc::Receiver<(u64, Result<Value, String>)>,
    next_id: u64,
}

#[derive(Debug, Deserialize)]
struct Message {
    event: Option<String>,
    #[serde(default)]
    data: Value,
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<ErrorBody>,
    id: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    desc: String,
}

impl Qmp {
    /// Greets QEMU; its events arrive on the channel, which ends with the
    /// connection.
    pub async fn connect(stream: UnixStream) -> Result<(Self, mpsc::Receiver<QmpEvent>), VmError> {
        let (reader, writer) = stream.into_split();
        let mut lines = Lines::new(BufReader::new(reader), LINE_MAX);
        let limit = GREETING_LIMIT;
        let greeting = timeout(limit, lines.next());
        let greeting = greeting.await.map_err(|_| VmError::late(format!("{PEER}'s greeting"), limit))?;
        let greeting = greeting.map_err(|error| VmError::protocol(PEER, error.to_string()))?;
        let greeting = greeting.ok_or_else(|| VmError::protocol(PEER, "closed before a greeting"))?;
        let greeting: Value = serde_json::from_slice(&greeting).unwrap_or_default();
        if greeting.get("QMP").is_none() {
            return Err(VmError::protocol(PEER, "no greeting"));
        }
        let (reply, replies) = mpsc::channel(4);
        let (event, events) = mpsc::channel(64);
        tokio::spawn(read(lines, reply, event));
        let qmp = Self { shared: Arc::new(Mutex::new(Shared { writer, replies, next_id: 0 })) };
        qmp.execute("qmp_capabilities").await?;
        Ok((qmp, events))
    }

    /// Runs a command that has no arguments.
    pub async fn execute(&self, command: &'static str) -> Result<Value, VmError> {
        let what = || VmError::late(format!("QEMU's answer to {command}"), COMMAND_LIMIT);
        timeout(COMMAND_LIMIT, self.exchange(command)).await.map_err(|_| what())?
    }

    async fn exchange(&self, command: &str) -> Result<Value, VmError> {
        let mut shared = self.shared.lock().await;
        let id = shared.next_id;
        shared.next_id += 1;
        let line = format!("{}\n", json!({ "execute": command, "id": id }));
        let sent = shared.writer.write_all(line.as_bytes()).await;
        sent.map_err(|error| VmError::protocol(PEER, error.to_string()))?;
        loop {
            // A reply to a command that nobody waits for any more has an older id.
            match shared.replies.recv().await {
                None => return Err(VmError::protocol(PEER, "the connection is closed")),
                Some((found, _)) if found != id => {}
                Some((_, Ok(value))) => return Ok(value),
                Some((_, Err(message))) => return Err(VmError::Refused { peer: "QEMU", message }),
            }
        }
    }

    /// Why the guest is held, where it is.
    pub async fn held(&self) -> Result<Option<Held>, VmError> {
        let status = self.execute("query-status").await?;
        let held = status.get("status").and_then(Value::as_str).and_then(Held::of);
        match held {
            Some(held) if held.state == "io-error" => {
                Ok(Some(held.blame(&self.execute("query-block").await?)))
            }
            held => Ok(held),
        }
    }
}

async fn read(
    mut lines: Lines<BufReader<OwnedReadHalf>>,
    replies: mpsc::Sender<(u64, Result<Value, String>)>,
    events: mpsc::Sender<QmpEvent>,
) {
    while let Ok(Some(line)) = lines.next().await {
        let Ok(message) = serde_json::from_slice::<Message>(&line) else { break };
        if let Some(event) = message.event.as_deref().and_then(|name| event(name, &message.data)) {
            // Never waits: a flood of events loses events, not replies.
            let _ = events.try_send(event);
        }
        let Some(id) = message.id else { continue };
        let reply = match (message.result, message.error) {
            (_, Some(error)) => Err(printable(&error.desc, 500)),
            (result, None) => Ok(result.unwrap_or_default()),
        };
        let _ = replies.try_send((id, reply));
    }
}

fn event(name: &str, data: &Value) -> Option<QmpEvent> {
    Some(match name {
        "SHUTDOWN" => match data.get("reason").and_then(Value::as_str) {
            Some("guest-shutdown") => QmpEvent::GuestShutdown,
            Some("guest-panic") => QmpEvent::GuestPanic,
            _ => QmpEvent::HostShutdown,
        },
        "RESET" => QmpEvent::Reset,
        "STOP" => QmpEvent::Paused,
        "RESUME" => QmpEvent::Resumed,
        "BLOCK_IO_ERROR" => QmpEvent::IoError(IoError::of(data)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn peer(script: Vec<u8>) -> Result<(Qmp, mpsc::Receiver<QmpEvent>), VmError> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            theirs.write_all(&script).await.unwrap();
            let mut rest = Vec::new();
            let _ = theirs.read_to_end(&mut rest).await;
        });
        Qmp::connect(ours).await
    }

    #[tokio::test]
    async fn events_and_replies_are_told_apart() {
        let script = concat!(
            "{\"QMP\": {}}\n{\"return\": {}, \"id\": 0}\n",
            "{\"event\": \"NEW_IN_QEMU_99\", \"data\": 1}\n",
            "{\"event\": \"RESET\"}\n",
            "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\n",
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\u001b[2J\"}, \"id\": 1}\n",
        );
        let (qmp, mut events) = peer(script.into()).await.unwrap();
        let refused = qmp.execute("system_powerdown").await.unwrap_err().to_string();
        assert_eq!(refused, "QEMU refused: no [2J");
        assert_eq!(events.recv().await, Some(QmpEvent::Reset));
        assert_eq!(events.recv().await, Some(QmpEvent::GuestShutdown));
    }

    #[tokio::test]
    async fn a_peer_that_breaks_the_protocol_is_left() {
        for script in [b"hello\n".to_vec(), b"{\"QMP\":1}\nnot json\n".to_vec(), vec![b'x'; LINE_MAX + 2]] {
            assert!(matches!(peer(script).await, Err(VmError::Protocol { .. })));
        }
    }
}
