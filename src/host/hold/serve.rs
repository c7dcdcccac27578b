//! The holder: `hostctl firewall hold`.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};
use sd_notify::NotifyState;
use serde::Serialize;

use crate::firewall::{Owner, probe_guard};
use crate::host::{Host, HostError};
use crate::supervise::runtime_dir::{LockError, RuntimeDir};

use super::put_back::{PutBack, keep};
use super::{Answer, SOCKET, namespace};

/// The name under which systemd keeps the socket while this process is away.
const STORED: &str = "owner";
const PATIENCE: Duration = Duration::from_secs(5);

/// What the holder has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum HoldNews {
    /// It holds what is loaded, and what will be.
    Holding {
        /// The netlink port that tables belong to, as the kernel names it.
        port: u32,
    },
    /// Tables can't be held here: it puts them back when they are gone.
    Watching {
        /// Why.
        reason: String,
    },
    /// Tables that were gone are back, or that weren't held are.
    Loaded(PutBack),
    /// They can't be put back; it is tried again.
    Failed {
        /// Why.
        error: String,
    },
}

impl Host {
    /// Holds hostctl's tables until telling fails.
    ///
    /// # Errors
    /// Where the caller isn't root, another holder runs, or telling fails.
    pub async fn hold(
        &self,
        tell: &mut dyn FnMut(HoldNews) -> Result<(), HostError>,
    ) -> Result<(), HostError> {
        Self::check_root()?;
        let failed = |error: crate::supervise::runtime_dir::FileError| HostError::File {
            path: error.path,
            source: error.source,
        };
        let directory = RuntimeDir::create(&self.root, self.root.hold()).map_err(failed)?;
        let mut lock = directory.lock().map_err(|error| match error {
            LockError::Held(pid) => HostError::HolderRuns(pid),
            LockError::File(error) => failed(error),
        })?;
        lock.sign().map_err(HostError::Hold)?;
        let owner = match probe_guard() {
            Ok(()) => Ok(socket()?),
            Err(error) => Err(error.to_string()),
        };
        let answer = Answer {
            namespace: namespace().map_err(HostError::Hold)?,
            unable: owner.as_ref().err().cloned(),
        };
        let answer = serde_json::to_vec(&answer).map_err(|error| HostError::Hold(error.into()))?;
        let listener = directory.listen(SOCKET).map_err(failed)?;
        let news = match &owner {
            Ok(owner) => {
                owner.adopt().map_err(HostError::Hold)?;
                HoldNews::Holding { port: owner.port().map_err(HostError::Hold)? }
            }
            Err(reason) => HoldNews::Watching { reason: reason.clone() },
        };
        thread::spawn(move || serve(&listener, &answer, owner.as_ref().ok()));
        tell(news)?;
        // Without a service manager nobody waits for it.
        _ = sd_notify::notify(&[NotifyState::Ready]);
        keep(self, |result| {
            tell(match result {
                Ok(done) => HoldNews::Loaded(done),
                Err(error) => HoldNews::Failed { error: error.to_string() },
            })
        })
        .await
    }
}

/// The socket that systemd kept, so that the tables were somebody's all the
/// time, or a new one, which it keeps from now on (sd_pid_notify_with_fds(3)).
fn socket() -> Result<Owner, HostError> {
    if let Some(owner) = stored() {
        return Ok(owner);
    }
    let owner = Owner::open().map_err(HostError::Hold)?;
    let state = [NotifyState::FdStore, NotifyState::FdName(STORED)];
    // Where nobody keeps it, tables outlive this process unheld.
    _ = sd_notify::notify_with_fds(&state, &[owner.as_fd()]);
    Ok(owner)
}

fn stored() -> Option<Owner> {
    let descriptors = sd_notify::listen_fds_with_names().ok()?;
    let (number, _) = descriptors.into_iter().find(|(_, name)| name == STORED)?;
    // SAFETY: systemd opened it for this process, which takes it once.
    #[allow(unsafe_code)]
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // Of another namespace, or of another kind, it is of no use.
    Owner::received(socket).ok()
}

/// Gives root a copy of the socket, whenever it asks.
fn serve(listener: &UnixListener, answer: &[u8], owner: Option<&Owner>) {
    for stream in listener.incoming() {
        match stream {
            // Who went away meanwhile needs no answer.
            Ok(stream) => _ = hand_over(&stream, answer, owner),
            // Out of descriptors: some will be given back.
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn hand_over(stream: &UnixStream, answer: &[u8], owner: Option<&Owner>) -> std::io::Result<()> {
    // The directory is root's alone; who gets here by another way gets nothing.
    if !sockopt::socket_peercred(stream)?.uid.is_root() {
        return Ok(());
    }
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors = owner.map(|owner| [owner.as_fd()]);
    if let Some(descriptors) = &descriptors {
        beside.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(stream, &[IoSlice::new(answer)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}
