//! Who holds hostctl's tables, so that no other program's `flush ruleset`
//! takes them: a process of its own ([`serve`]) with the netlink socket that
//! they belong to. Whoever changes them asks it for a copy of that socket.
//!
//! How tables can be changed ([`way`]) follows from what the kernel says of them
//! and from whether a holder answers:
//!
//! ```text
//!                      load by the holder's socket
//!   no tables, open ────────────────────────────────► held by the holder
//!     │  ▲                                             │            ▲
//!     │  │ flush, down                  the holder     │            │ a new holder
//!     ▼  │                              ends           ▼            │ adopts them
//!   tables that anybody may change                  orphaned: they stay (`persist`),
//!     └── a holder comes: loaded again ──► held     and a flush may take them
//! ```
//!
//! In each state but `held` a flush can take the tables. What then stands
//! between networks is routing (`link::apart`), and who puts the tables back is
//! the holder itself, where this kernel can't hold tables, or
//! `audit --watch --repair`; the next apply does in any case.

mod protection;
mod put_back;
mod serve;

use std::fs;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::{Deserialize, Serialize};

use crate::firewall::{Delta, Owner, Tables, nft};
use crate::root_dir::RootDir;
use crate::supervise::runtime_dir::RuntimeDir;

use super::HostError;

pub use protection::{FlushProtection, Guard};
pub(super) use protection::{unable, watch_dir};
pub(super) use put_back::{PutBack, keep_beside};
pub use serve::HoldNews;

const SOCKET: &str = "socket";
/// It answers at once, or hangs.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_MAX: u64 = 4096;

/// What the holder says of itself; the socket comes with it where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    /// Its network namespace: device and inode.
    namespace: (u64, u64),
    /// Why it can't hold tables, and only puts them back; nothing where it can.
    unable: Option<String>,
}

/// A process that guards the tables against other programs' flushes.
#[derive(Debug)]
pub(super) struct Holder {
    /// What the tables belong to, or shall.
    pub owner: Option<Owner>,
    /// Why there is none.
    pub unable: Option<String>,
}

fn namespace() -> io::Result<(u64, u64)> {
    let namespace = fs::metadata("/proc/thread-self/ns/net")?;
    Ok((namespace.dev(), namespace.ino()))
}

/// The holder of this network namespace; none where nobody answers.
pub(super) fn holder(root: &RootDir) -> Option<Holder> {
    let directory = RuntimeDir::open(root.hold()).ok()??;
    let stream = directory.connect(SOCKET).ok()?;
    let (answer, socket) = receive(stream).ok()?;
    // One of another namespace has tables of its own.
    (answer.namespace == namespace().ok()?).then(|| Holder {
        owner: socket.and_then(|socket| Owner::received(socket).ok()),
        unable: answer.unable,
    })
}

fn receive(stream: UnixStream) -> io::Result<(Answer, Option<OwnedFd>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = vec![0; 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut text)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let socket = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    text.truncate(got.bytes);
    stream.take(ANSWER_MAX).read_to_end(&mut text)?;
    Ok((serde_json::from_slice(&text)?, socket))
}

/// How the tables can be changed.
#[derive(Debug)]
pub(super) enum Way {
    /// By anybody.
    Open,
    /// By the holder's socket; what is loaded is held.
    Held(Owner),
    /// As those that outlived their holder; what is loaded isn't held.
    Orphaned(Owner),
}

/// How to change the tables now.
///
/// # Errors
/// Where they belong to somebody who doesn't answer.
pub(super) fn way(root: &RootDir) -> Result<Way, HostError> {
    // Where the kernel doesn't tell, nothing can be held.
    let Ok(tables) = Tables::read() else { return Ok(Way::Open) };
    let held = holder(root).and_then(|holder| holder.owner);
    let port = held.as_ref().and_then(|owner| owner.port().ok());
    match (tables.owner(), held) {
        (Some(stranger), _) if port != Some(stranger) => Err(HostError::HeldByAnother(stranger)),
        (_, Some(owner)) => {
            // What outlived an earlier holder can't be anybody else's meanwhile.
            owner.adopt().map_err(HostError::Hold)?;
            Ok(Way::Held(owner))
        }
        (None, None) if tables.persist() => Ok(Way::Orphaned(Owner::open().map_err(HostError::Hold)?)),
        _ => Ok(Way::Open),
    }
}

impl Way {
    /// Loads a text in one transaction.
    ///
    /// # Errors
    /// As [`nft::load`].
    pub fn load(&self, text: &str) -> Result<(), HostError> {
        Ok(match self {
            Self::Open => nft::load(text),
            Self::Held(owner) => owner.load(text, true),
            Self::Orphaned(owner) => owner.load(text, false),
        }?)
    }

    /// Changes the tables in one transaction.
    ///
    /// # Errors
    /// As [`nft::change`].
    pub fn change(&self, delta: &Delta) -> Result<(), HostError> {
        Ok(match self {
            Self::Open => nft::change(delta),
            Self::Held(owner) => owner.change(delta, true),
            Self::Orphaned(owner) => owner.change(delta, false),
        }?)
    }
}

/// Whether there are tables that could be held and aren't: loaded before the
/// holder came.
pub(super) fn is_missed(root: &RootDir) -> bool {
    Tables::read().is_ok_and(|tables| !tables.are_guarded())
        && holder(root).is_some_and(|holder| holder.owner.is_some())
}
