//! The QEMU that a supervisor watches.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::Arc;

use rustix::process::Signal;
use tokio::io::unix::AsyncFd;
use tokio::process::ChildStderr;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::supervise::process::Process;

use super::error::VmError;
use super::qemu::agent::Agent;
use super::qemu::launch::Launched;
use super::qemu::qmp::Qmp;
use super::qemu::watch::{self, Noticed};
use super::record::LaunchRecord;
use super::runtime_dir::{QEMU_LOG, RuntimeDir};

/// A QEMU, and the tasks that watch it; they end when it is dropped, it
/// doesn't.
pub(super) struct Qemu {
    process: AsyncFd<Process>,
    child: Option<Child>,
    pub record: LaunchRecord,
    /// While the connection lasts.
    pub qmp: Option<Qmp>,
    pub notices: mpsc::Receiver<Noticed>,
    /// When it has to answer; never where it was taken over.
    pub answer_by: Option<Instant>,
    tasks: JoinSet<()>,
}

impl Qemu {
    /// Starts to watch it.
    pub fn watch(launched: Launched, dir: &Arc<RuntimeDir>, agent: &Agent) -> Result<Self, VmError> {
        let Launched { record, process, child, stderr } = launched;
        let process = process.watch().map_err(VmError::kernel("watch QEMU"))?;
        let (sender, notices) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(watch::machine(dir.clone(), sender.clone()));
        tasks.spawn(watch::agent(agent.clone(), sender));
        if let Some(stderr) = stderr.and_then(|stderr| ChildStderr::from_std(stderr).ok()) {
            tasks.spawn(watch::complaints(stderr, dir.path(QEMU_LOG)));
        }
        Ok(Self { process, child, record, qmp: None, notices, answer_by: None, tasks })
    }

    /// Runs beside it, and ends with it.
    pub fn accompany(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Waits for its next notice; `None` when it ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Noticed> {
        tokio::select! {
            biased;
            Some(noticed) = self.notices.recv() => Some(noticed),
            // A pid file descriptor is readable when its process ended.
            _ = self.process.readable() => None,
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.get_ref().pid
    }

    /// Ends it at once. Where even that fails nothing is left to try; the
    /// supervisor comes again.
    pub fn kill(&self) {
        let _ = self.process.get_ref().signal(Signal::KILL);
    }

    /// How it ended, once it did.
    pub fn obituary(&mut self, dir: &RuntimeDir) -> String {
        let status = self.child.as_mut().and_then(|child| child.wait().ok());
        let how = describe(status);
        match watch::last_complaint(&dir.path(QEMU_LOG)) {
            Some(line) => format!("{how}; its last words: {line}"),
            None => how,
        }
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("QEMU exited with status {code}"),
        Some((_, Some(signal))) => format!("QEMU was killed by signal {signal}"),
        _ => "QEMU ended".into(),
    }
}
