//! The guest agent (QEMU: docs/interop/qemu-ga-ref). It runs inside the guest
//! and is the guest's to forge: replies are bounded, have deadlines, and what
//! they say is never more than the guest's word.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::bounded::{Lines, printable};

use crate::supervise::error::SystemError;
use crate::vm::error::VmError;
use crate::vm::program::{CALL_LIMIT, GuestCall};
use crate::vm::runtime_dir::{AGENT, RuntimeDir};

/// What a command in the guest may print, in bytes, on each of its outputs.
pub const OUTPUT_MAX: usize = 1024 * 1024;
/// Two such outputs in base64, and the rest of the reply.
const LINE_MAX: usize = 2 * OUTPUT_MAX.div_ceil(3) * 4 + 64 * 1024;
const REPLY_LIMIT: Duration = Duration::from_secs(5);
const PEER: &str = "guest agent";

/// How a command in the guest ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutput {
    /// Its exit status, where it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, where one did.
    pub signal: Option<i32>,
    /// What it wrote, in base64 where this is serialised.
    #[serde(with = "base64_bytes")]
    pub stdout: Vec<u8>,
    /// What it complained of, in base64 where this is serialised.
    #[serde(with = "base64_bytes")]
    pub stderr: Vec<u8>,
    /// Whether the agent left part of the output out.
    #[serde(default)]
    pub truncated: bool,
}

/// A command to run in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::vm) struct Exec {
    pub path: String,
    #[serde(default)]
    pub args: Vec<String>,
    pub timeout_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
}

/// One VM's guest agent, whether it answers or not. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::vm) struct Agent {
    dir: Arc<RuntimeDir>,
    connection: Arc<Mutex<Option<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

#[derive(Debug, Deserialize)]
struct Reply {
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<ErrorBody>,
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    desc: String,
}

#[derive(Debug, Deserialize)]
struct ExecStatus {
    exited: bool,
    exitcode: Option<i32>,
    signal: Option<i32>,
    #[serde(rename = "out-data", default, with = "base64_bytes")]
    out_data: Vec<u8>,
    #[serde(rename = "err-data", default, with = "base64_bytes")]
    err_data: Vec<u8>,
    #[serde(rename = "out-truncated", default)]
    out_truncated: bool,
    #[serde(rename = "err-truncated", default)]
    err_truncated: bool,
}

impl Agent {
    pub fn new(dir: Arc<RuntimeDir>) -> Self {
        Self { dir, connection: Arc::default() }
    }

    /// Asks for a sign of life.
    pub async fn ping(&self, limit: Duration) -> Result<(), VmError> {
        self.request(json!({ "execute": "guest-ping" }), limit).await.map(drop)
    }

    /// Asks the guest to power off; it doesn't answer when it does.
    pub async fn shut_down(&self) -> Result<(), VmError> {
        let request = json!({ "execute": "guest-shutdown", "arguments": { "mode": "powerdown" } });
        match self.request(request, Duration::from_secs(2)).await {
            Err(VmError::System(SystemError::Timeout { .. })) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Runs a command in the guest and waits for its end.
    pub async fn exec(&self, exec: &Exec) -> Result<ExecOutput, VmError> {
        let limit = Duration::from_millis(exec.timeout_ms);
        let deadline = Instant::now() + limit;
        let mut arguments = json!({ "path": exec.path, "arg": exec.args, "capture-output": true });
        if let (Some(input), Some(arguments)) = (&exec.input, arguments.as_object_mut()) {
            arguments.insert("input-data".into(), BASE64.encode(input).into());
        }
        let started =
            self.request(json!({ "execute": "guest-exec", "arguments": arguments }), REPLY_LIMIT).await?;
        let pid = started.get("pid").and_then(Value::as_i64);
        let pid = pid.ok_or_else(|| VmError::protocol(PEER, "guest-exec returned no pid"))?;
        let mut pause = Duration::from_millis(20);
        loop {
            let request = json!({ "execute": "guest-exec-status", "arguments": { "pid": pid } });
            let status = self.request(request, REPLY_LIMIT).await?;
            let status: ExecStatus = serde_json::from_value(status)
                .map_err(|error| VmError::protocol(PEER, printable(&error.to_string(), 200)))?;
            if status.exited {
                return Ok(ExecOutput {
                    exit_code: status.exitcode,
                    signal: status.signal,
                    stdout: status.out_data,
                    stderr: status.err_data,
                    truncated: status.out_truncated || status.err_truncated,
                });
            }
            if Instant::now() + pause > deadline {
                let what =
                    format!("{} in the guest (it still runs, as pid {pid})", printable(&exec.path, 100));
                return Err(VmError::late(what, limit));
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// One call of a client's; the answer is the guest's word.
    pub async fn call(&self, call: &GuestCall) -> Result<Value, VmError> {
        self.request(call.request(), CALL_LIMIT).await
    }

    /// Forgets the connection, as QEMU's end of it is another process now.
    pub async fn reset(&self) {
        *self.connection.lock().await = None;
    }

    async fn request(&self, request: Value, limit: Duration) -> Result<Value, VmError> {
        let exchange = async {
            let mut slot = self.connection.lock().await;
            // Taken, so that a broken or late exchange drops the connection:
            // the next one begins in step.
            let mut connection = match slot.take() {
                Some(connection) => connection,
                None => Connection::open(&self.dir).await?,
            };
            let reply = connection.exchange(&request).await?;
            *slot = Some(connection);
            Ok::<_, VmError>(reply)
        };
        let late = |_| VmError::late("the guest agent's answer", limit);
        let reply: Reply = timeout(limit, exchange).await.map_err(late)??;
        match (reply.result, reply.error) {
            (_, Some(error)) => Err(VmError::Refused { peer: PEER, message: printable(&error.desc, 500) }),
            (Some(result), None) => Ok(result),
            (None, None) => Err(VmError::protocol(PEER, "a reply that is none")),
        }
    }
}

impl Connection {
    async fn open(dir: &RuntimeDir) -> Result<Self, VmError> {
        let stream = UnixStream::connect(dir.socket(AGENT)).await;
        let stream = stream.map_err(VmError::file("connect to", dir.path(AGENT)))?;
        Self::synchronise(stream).await
    }

    /// The agent may be in the middle of somebody else's reply: what comes
    /// before the delimiter and our number isn't ours (guest-sync-delimited).
    async fn synchronise(stream: UnixStream) -> Result<Self, VmError> {
        let (reader, writer) = stream.into_split();
        let mut connection = Self { lines: Lines::new(BufReader::new(reader), LINE_MAX), writer };
        // Told apart from a number of before is all it has to be.
        let number = RandomState::new().build_hasher().finish() & u64::from(u32::MAX);
        // 0xff isn't valid in JSON: it ends what an earlier peer left unfinished.
        connection.write(b"\xff").await?;
        let request = json!({ "execute": "guest-sync-delimited", "arguments": { "id": number } });
        connection.send(&request).await?;
        loop {
            let line = connection.line().await?;
            let reply = line.rsplit(|byte| *byte == 0xff).next().unwrap_or_default();
            let reply = serde_json::from_slice::<Reply>(reply).ok().and_then(|reply| reply.result);
            if reply.and_then(|value| value.as_u64()) == Some(number) {
                return Ok(connection);
            }
        }
    }

    async fn exchange(&mut self, request: &Value) -> Result<Reply, VmError> {
        self.send(request).await?;
        let line = self.line().await?;
        serde_json::from_slice(&line).map_err(|_| VmError::protocol(PEER, "a reply that isn't JSON"))
    }

    async fn line(&mut self) -> Result<Vec<u8>, VmError> {
        match self.lines.next().await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(VmError::protocol(PEER, "the connection is closed")),
            Err(error) => Err(VmError::protocol(PEER, error.to_string())),
        }
    }

    async fn send(&mut self, request: &Value) -> Result<(), VmError> {
        self.write(format!("{request}\n").as_bytes()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), VmError> {
        let written = self.writer.write_all(bytes).await;
        written.map_err(|error| VmError::protocol(PEER, error.to_string()))
    }
}

mod base64_bytes {
    use base64::Engine;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{BASE64, OUTPUT_MAX};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = BASE64.decode(text).map_err(D::Error::custom)?;
        bytes.truncate(OUTPUT_MAX);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// An agent that answers each line with what `answer` says.
    fn forge(answer: impl Fn(&Value) -> Vec<u8> + Send + 'static) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let (reader, mut writer) = theirs.into_split();
            let mut lines = Lines::new(BufReader::new(reader), LINE_MAX);
            while let Ok(Some(line)) = lines.next().await {
                let line = line.strip_prefix(b"\xff").unwrap_or(&line);
                let request = serde_json::from_slice(line).unwrap();
                writer.write_all(&answer(&request)).await.unwrap();
            }
        });
        ours
    }

    #[tokio::test]
    async fn what_was_left_in_the_line_isnt_taken_for_an_answer() {
        let stream = forge(|request| {
            let id = &request["arguments"]["id"];
            format!("{{\"return\": {{\"old\": 1}}}}\n{{\"ret\u{7f}\n\n{{\"return\": {id}}}\n").into_bytes()
        });
        let mut connection = Connection::synchronise(stream).await.unwrap();
        let reply = connection.exchange(&json!({ "execute": "x", "arguments": { "id": 7 } })).await.unwrap();
        assert_eq!(reply.result.unwrap(), json!({ "old": 1 }));
    }

    #[tokio::test]
    async fn an_endless_line_ends_the_connection() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let chunk = vec![b'a'; 64 * 1024];
            while theirs.write_all(&chunk).await.is_ok() {}
            let _ = theirs.read(&mut [0; 16]).await;
        });
        let error = Connection::synchronise(ours).await.unwrap_err();
        assert!(matches!(error, VmError::Protocol { .. }), "{error}");
    }

    #[test]
    fn output_is_decoded_and_may_be_absent() {
        let status: ExecStatus =
            serde_json::from_str(r#"{"exited":true,"exitcode":3,"out-data":"aGk="}"#).unwrap();
        assert_eq!(
            (status.exitcode, status.out_data.as_slice(), status.err_data.as_slice()),
            (Some(3), &b"hi"[..], &b""[..])
        );
        assert!(serde_json::from_str::<ExecStatus>(r#"{"exited":true,"out-data":"%"}"#).is_err());
    }
}
