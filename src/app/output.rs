//! What an app says: read from its pipe as fast as it talks, so that it never
//! waits, into a log that can't fill a disk.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

use crate::bounded::{Log, printable};

const CHUNK: usize = 16 * 1024;
/// How much of the end is kept for the last words, in bytes.
const TAIL: usize = 2048;
/// How long the rest may take after the last process ended.
const REST_LIMIT: Duration = Duration::from_secs(1);

/// The task that reads; aborted when it is dropped.
#[derive(Debug)]
pub(super) struct Output(JoinHandle<Vec<u8>>);

impl Output {
    /// Reads `pipe` to its end.
    pub fn read(pipe: Receiver, log: PathBuf) -> Self {
        Self(tokio::spawn(read(pipe, log)))
    }

    /// The last line that it said, made printable.
    pub async fn last_words(mut self) -> Option<String> {
        let tail = tokio::time::timeout(REST_LIMIT, &mut self.0).await.ok()?.ok()?;
        let tail = String::from_utf8_lossy(&tail).into_owned();
        let line = tail.lines().rev().find(|line| !line.trim().is_empty())?;
        Some(printable(line, 300))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read(mut pipe: Receiver, log: PathBuf) -> Vec<u8> {
    let mut log = Log::open(log);
    let mut tail = Vec::new();
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let bytes = buffer.get(..count).unwrap_or_default();
        log.append(bytes);
        tail.extend_from_slice(bytes);
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
    tail
}
