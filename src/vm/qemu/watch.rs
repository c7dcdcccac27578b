//! The tasks that watch one QEMU for its supervisor: machine protocol, guest
//! agent, complaints. Each reports, none decides.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::bounded::{new_log, printable, read_bounded};

use super::agent::Agent;
use super::qmp::{Qmp, QmpEvent};
use crate::vm::held::Held;
use crate::vm::runtime_dir::{QMP, RuntimeDir};

/// What is kept of QEMU's own messages, in bytes; a guest can make it talk.
const LOG_MAX: usize = 256 * 1024;

/// How often QEMU is asked how the guest is.
const ASK: Duration = Duration::from_secs(10);

/// What the tasks notice.
#[derive(Debug)]
pub(in crate::vm) enum Noticed {
    /// QEMU answers on its machine protocol.
    Up { qmp: Qmp, held: Option<Held> },
    /// It answered again, and whether the guest is held.
    Answered(Option<Held>),
    /// It didn't answer in time.
    Silent,
    /// It said so there.
    Event(QmpEvent),
    /// The connection ended; another is tried.
    Down,
    /// Whether the guest agent answered.
    Agent(bool),
}

/// Keeps a QMP connection.
pub(in crate::vm) async fn machine(dir: Arc<RuntimeDir>, notices: mpsc::Sender<Noticed>) {
    loop {
        if let Ok(stream) = UnixStream::connect(dir.socket(QMP)).await
            && let Ok((qmp, mut events)) = Qmp::connect(stream).await
            && let Ok(held) = qmp.held().await
        {
            if notices.send(Noticed::Up { qmp: qmp.clone(), held }).await.is_err() {
                return;
            }
            loop {
                let noticed = match timeout(ASK, events.recv()).await {
                    Ok(Some(event)) => Noticed::Event(event),
                    Ok(None) => break,
                    // A flood of events may have lost one.
                    Err(_) => qmp.held().await.map_or(Noticed::Silent, Noticed::Answered),
                };
                if notices.send(noticed).await.is_err() {
                    return;
                }
            }
        }
        if notices.send(Noticed::Down).await.is_err() {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Asks the guest agent for signs of life.
pub(in crate::vm) async fn agent(agent: Agent, notices: mpsc::Sender<Noticed>) {
    agent.reset().await;
    loop {
        let answered = agent.ping(Duration::from_secs(2)).await.is_ok();
        if notices.send(Noticed::Agent(answered)).await.is_err() {
            return;
        }
        sleep(if answered { Duration::from_secs(5) } else { Duration::from_millis(250) }).await;
    }
}

/// Asks the guest to power off, in every way there is, until it does: one
/// that is still booting doesn't hear it yet.
pub(in crate::vm) async fn power_off(qmp: Option<Qmp>, agent: Agent, paused: bool) {
    if let (Some(qmp), true) = (&qmp, paused) {
        let _ = qmp.execute("cont").await;
    }
    loop {
        if let Some(qmp) = &qmp {
            let _ = qmp.execute("system_powerdown").await;
        }
        let _ = agent.shut_down().await;
        sleep(Duration::from_secs(2)).await;
    }
}

/// Writes down what QEMU says, up to [`LOG_MAX`], and reads on to the end.
pub(in crate::vm) async fn complaints(mut stderr: impl AsyncRead + Unpin, path: PathBuf) {
    let mut log = new_log(&path).ok();
    let mut left = LOG_MAX;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let kept = buffer.get(..count.min(left)).unwrap_or_default();
        left -= kept.len();
        if let Some(log) = &mut log {
            let _ = log.write_all(kept);
        }
    }
}

/// The last line that [`complaints`] wrote.
pub(in crate::vm) fn last_complaint(path: &std::path::Path) -> Option<String> {
    let text = read_bounded(path, LOG_MAX as u64).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(printable(line, 300))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_talkative_qemu_fills_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qemu.log");
        let mut text = b"x\n".repeat(LOG_MAX);
        text.extend(b"the end\n");
        complaints(&text[..], path.clone()).await;
        assert_eq!(std::fs::metadata(&path).unwrap().len(), LOG_MAX as u64);
        complaints(&b"first\nqemu: \x1b[1mno\n\n"[..], path.clone()).await;
        assert_eq!(last_complaint(&path).unwrap(), "qemu:  [1mno");
    }
}
