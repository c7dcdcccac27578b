//! A supervisor's control socket, both ends: JSON lines, a request and its
//! answer. What is asked is the rooms' own affair.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::bounded::Lines;

const CLIENTS_MAX: usize = 32;
/// A silent client gives its place to another.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest time that whatever is asked for is given.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// A living supervisor answers at once.
pub(crate) const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// What every supervisor can be asked; what one can be asked besides stands in
/// its room.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Request {
    Status,
    Stop { timeout_ms: u64 },
}

/// The time that a request gives, of which there is an end.
pub(crate) fn limit(timeout_ms: u64) -> Duration {
    Duration::from_millis(timeout_ms).min(TIMEOUT_MAX)
}

/// Hands an order to the supervisor, and answers once that has begun it.
pub(crate) async fn hand<O>(
    orders: &mpsc::Sender<O>,
    make: impl FnOnce(oneshot::Sender<()>) -> O,
) -> Result<Value, String> {
    let (done, begun) = oneshot::channel();
    orders.send(make(done)).await.map_err(|_| "the supervisor is leaving")?;
    // It may leave before it answers: the order is carried out then.
    let _ = begun.await;
    Ok(Value::Null)
}

/// Serves clients until it is dropped: `answer` gets each line, which is at
/// most `request_max` bytes long.
pub(crate) async fn serve<A, F>(listener: UnixListener, request_max: usize, answer: A)
where
    A: Fn(Vec<u8>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Value, String>> + Send,
{
    let permits = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut tasks = JoinSet::new();
    loop {
        // Further clients wait in the socket's queue.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: some will be given back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while tasks.try_join_next().is_some() {}
        let answer = answer.clone();
        tasks.spawn(async move {
            let _permit = permit;
            client(stream, request_max, answer).await;
        });
    }
}

async fn client<A, F>(stream: tokio::net::UnixStream, request_max: usize, answer: A)
where
    A: Fn(Vec<u8>) -> F,
    F: Future<Output = Result<Value, String>>,
{
    let (reader, mut writer) = stream.into_split();
    let mut lines = Lines::new(tokio::io::BufReader::new(reader), request_max);
    while let Ok(Ok(Some(line))) = tokio::time::timeout(PATIENCE, lines.next()).await {
        let reply = match answer(line).await {
            Ok(value) => json!({ "ok": value }),
            Err(message) => json!({ "error": message }),
        };
        let reply = format!("{reply}\n");
        let sent = writer.write_all(reply.as_bytes());
        if !matches!(tokio::time::timeout(PATIENCE, sent).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// The supervisor's end of an answer, from a value of the room's.
pub(crate) fn to_value<T: Serialize>(value: &T) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}

/// Why a supervisor was asked in vain.
#[derive(Debug)]
pub(crate) enum AskError {
    /// It broke the protocol, or is gone.
    Protocol(String),
    /// It said no, in these words.
    Refused(String),
    /// It took longer than that.
    Timeout(Duration),
}

/// The client's end. Blocks.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
    reply_max: u64,
}

#[derive(Deserialize)]
struct Reply {
    ok: Option<Value>,
    error: Option<String>,
}

impl Connection {
    /// Expects replies of at most `reply_max` bytes.
    pub fn new(stream: UnixStream, reply_max: u64) -> Self {
        Self { stream: BufReader::new(stream), reply_max }
    }

    /// Asks, and waits for the answer for at most `limit`.
    pub fn request<T: DeserializeOwned>(
        &mut self,
        request: &impl Serialize,
        limit: Duration,
    ) -> Result<T, AskError> {
        let broken = |error: std::io::Error| AskError::Protocol(error.to_string());
        let mut line = serde_json::to_vec(request).map_err(|error| broken(error.into()))?;
        line.push(b'\n');
        self.stream.get_ref().set_write_timeout(Some(REPLY_LIMIT)).map_err(broken)?;
        self.stream.get_mut().write_all(&line).map_err(broken)?;
        let line = self.line(limit)?;
        let reply: Reply = serde_json::from_slice(&line).map_err(|error| broken(error.into()))?;
        match (reply.ok, reply.error) {
            (_, Some(message)) => Err(AskError::Refused(message)),
            (value, None) => {
                serde_json::from_value(value.unwrap_or_default()).map_err(|error| broken(error.into()))
            }
        }
    }

    /// Has what is supervised end: by itself within `timeout`, then by force.
    /// Returns when the supervisor is gone.
    pub fn stop(&mut self, timeout: Duration) -> Result<(), AskError> {
        let request = Request::Stop { timeout_ms: millis(timeout) };
        self.request::<Option<()>>(&request, REPLY_LIMIT)?;
        self.wait_stopped(timeout)
    }

    /// Waits until the supervisor is gone, which was told to stop.
    pub fn wait_stopped(&mut self, timeout: Duration) -> Result<(), AskError> {
        // Force comes after the time that was given.
        self.wait_closed(timeout.saturating_add(REPLY_LIMIT))
    }

    /// Waits until the supervisor is gone.
    fn wait_closed(&mut self, limit: Duration) -> Result<(), AskError> {
        let deadline = Instant::now() + limit;
        let mut rest = [0; 64];
        loop {
            self.deadline(deadline, limit)?;
            match self.stream.read(&mut rest) {
                Ok(1..) => {}
                Ok(0) => return Ok(()),
                Err(error) if is_timeout(&error) => {}
                // It left without a word.
                Err(_) => return Ok(()),
            }
        }
    }

    fn line(&mut self, limit: Duration) -> Result<Vec<u8>, AskError> {
        let deadline = Instant::now() + limit;
        let mut line = Vec::new();
        loop {
            self.deadline(deadline, limit)?;
            let left = self.reply_max.saturating_sub(line.len() as u64);
            match (&mut self.stream).take(left).read_until(b'\n', &mut line) {
                Ok(_) if line.last() == Some(&b'\n') => return Ok(line),
                Ok(_) => return Err(AskError::Protocol("the connection is closed".into())),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(AskError::Protocol(error.to_string())),
            }
        }
    }

    /// Lets the next read wait until `deadline`.
    fn deadline(&self, deadline: Instant, limit: Duration) -> Result<(), AskError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(AskError::Timeout(limit));
        }
        let set = self.stream.get_ref().set_read_timeout(Some(left));
        set.map_err(|error| AskError::Protocol(error.to_string()))
    }
}

/// Whole milliseconds, as requests carry them.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
