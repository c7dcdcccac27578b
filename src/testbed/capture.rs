//! What passes an interface, kept for a test to look at.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, socket,
};

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
/// nftables hook) and every frame that goes out (after all of them), with its
/// VLAN tags.
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
                if let Ok(Some(frame)) = receive(&fd, index, &mut buffer) {
                    theirs.push(&frame);
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
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    keep_vlan_tags(&fd)?;
    Ok(fd)
}

/// Asks for the VLAN tag that the kernel takes off each frame (packet(7)).
#[expect(unsafe_code, reason = "no crate has PACKET_AUXDATA")]
fn keep_vlan_tags(fd: &OwnedFd) -> nix::Result<()> {
    let on: c_int = 1;
    // SAFETY: the option's value is an int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_AUXDATA,
            (&raw const on).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

/// Takes a frame off the socket; `None` where it passed another interface.
/// The socket sees all of the namespace's: bind(2) to one of them has no safe
/// wrapper, the index in the sender's address has.
fn receive(fd: &OwnedFd, index: u32, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
    let mut control = nix::cmsg_space!([u8; AUXDATA_LEN]);
    let (length, from, tag) = {
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<LinkAddr>(fd.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let tag = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::Unknown(part) => vlan_tag(&part.data_bytes),
            _ => None,
        });
        (message.bytes, message.address, tag)
    };
    if from.is_none_or(|from| u32::try_from(from.ifindex()) != Ok(index)) {
        return Ok(None);
    }
    let frame = buffer.get(..length).unwrap_or_default();
    let (addresses, rest) = frame.split_at_checked(12).unwrap_or((frame, &[]));
    Ok(Some(match tag {
        Some(tag) => [addresses, &tag, rest].concat(),
        None => frame.to_vec(),
    }))
}

/// Size of `struct tpacket_auxdata` (linux/if_packet.h), in bytes.
const AUXDATA_LEN: usize = 20;

/// The tag that a `struct tpacket_auxdata` tells of, as it stood in the
/// frame. The status flags are TP_STATUS_VLAN_VALID and _TPID_VALID.
fn vlan_tag(auxdata: &[u8]) -> Option<[u8; 4]> {
    let (status, _) = auxdata.split_first_chunk::<4>()?;
    let &[t0, t1, p0, p1] = auxdata.get(16..AUXDATA_LEN)? else { return None };
    let both = 1 << 4 | 1 << 6;
    if u32::from_ne_bytes(*status) & both != both {
        return None;
    }
    let [[a, b], [c, d]] = [[p0, p1], [t0, t1]].map(|pair| u16::from_ne_bytes(pair).to_be_bytes());
    Some([a, b, c, d])
}
