//! What passes an interface, kept for a test to look at.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket};

use super::netns::Netns;
use super::tap::MAX_FRAME;
use super::worker::Worker;

/// Frames kept; older ones go first.
const KEPT: usize = 4096;

/// A bounded record of frames that a thread fills and tests wait on.
#[derive(Debug, Default)]
pub struct FrameLog {
    frames: Mutex<VecDeque<Vec<u8>>>,
    arrived: Condvar,
}

impl FrameLog {
    pub(super) fn push(&self, frame: &[u8]) {
        let mut frames = self.lock();
        if frames.len() == KEPT {
            frames.pop_front();
        }
        frames.push_back(frame.to_vec());
        self.arrived.notify_all();
    }

    /// The frames seen, oldest first; at most 4096 of them.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.lock().iter().cloned().collect()
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// The first frame that `wanted` holds for: one already seen, or one that
    /// comes before `timeout` is over.
    pub fn wait_for(&self, wanted: impl Fn(&[u8]) -> bool, timeout: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + timeout;
        let mut frames = self.lock();
        loop {
            if let Some(frame) = frames.iter().find(|frame| wanted(frame)) {
                return Some(frame.clone());
            }
            let left = end.checked_duration_since(Instant::now())?;
            frames = self.arrived.wait_timeout(frames, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// That no frame for which `unwanted` holds was seen or comes within
    /// `timeout`.
    ///
    /// # Errors
    /// The first such frame.
    pub fn none_within(&self, unwanted: impl Fn(&[u8]) -> bool, timeout: Duration) -> Result<(), Vec<u8>> {
        self.wait_for(unwanted, timeout).map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A packet(7) socket on one interface: every frame that comes in (before any
/// nftables hook) and every frame that goes out (after all of them). The
/// kernel has taken the outermost VLAN tag off; a guest's own view,
/// [`super::FakeGuest::received`], has it.
#[derive(Debug)]
pub struct Capture {
    log: Arc<FrameLog>,
    _worker: Worker,
}

impl Capture {
    /// Starts to listen; frames from now on are seen.
    ///
    /// # Errors
    /// When there is no such interface, and those of socket(2).
    pub fn start(netns: &Netns, interface: &str) -> io::Result<Self> {
        let index = netns.ifindex(interface)?;
        let fd = netns.try_run(open)??;
        let log = Arc::new(FrameLog::default());
        let theirs = Arc::clone(&log);
        let worker = Worker::spawn("capture", move |stop| {
            let mut buffer = vec![0; MAX_FRAME];
            while stop.wait_readable([fd.as_fd()]).is_some() {
                // The socket sees the namespace's every interface: bind(2) to
                // one of them has no safe wrapper, the sender's index has.
                let Ok((length, from)) = recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer) else { continue };
                let ours = from.is_some_and(|from| u32::try_from(from.ifindex()) == Ok(index));
                if let (true, Some(frame)) = (ours, buffer.get(..length)) {
                    theirs.push(frame);
                }
            }
        })?;
        Ok(Self { log, _worker: worker })
    }
}

impl std::ops::Deref for Capture {
    type Target = FrameLog;

    fn deref(&self) -> &FrameLog {
        &self.log
    }
}

fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?)
}
