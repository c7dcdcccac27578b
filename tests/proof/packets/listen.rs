//! Listens everywhere at once.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hostctl::testbed::Netns;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Protocol, RecvFlags, SocketFlags, SocketType, ipproto, socket_with};

use super::wire::{EXPERIMENT, Sight, in_frame, in_packet, in_segment};

/// An end by its name: a guest's port, or one of these.
pub type End = String;

pub const HOST: &str = "host";
pub const INTERNET: &str = "internet";
pub const METADATA: &str = "metadata";
pub const LAPTOP: &str = "laptop";

/// Bytes that wait while the listener is busy.
const BUFFER: usize = 64 << 20;

/// What was seen so far, by the probe's number.
#[derive(Debug, Default)]
pub struct Seen {
    /// Where it arrived, and whom it came from.
    pub arrived: HashMap<u32, HashSet<(End, IpAddr)>>,
    /// Where an answer to it arrived.
    pub answered: HashMap<u32, HashSet<End>>,
    /// Whether it entered the host at all.
    pub entered: HashSet<u32>,
    /// When something new was last seen.
    last: Option<Instant>,
}

enum Kind {
    /// Frames, at an end.
    Frames(End),
    /// Frames that enter the host, before any hook.
    Entering,
    /// IPv4 packets that the host's own programs get.
    Packets4,
    /// IPv6 segments likewise, of this protocol.
    Segments6(u8),
}

/// Sockets, and a thread that reads them.
pub struct Listener {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens at these ends, and at the host.
    pub fn start(ends: &[(End, Netns)], host: &Netns) -> io::Result<Self> {
        let mut sockets = Vec::new();
        for (end, netns) in ends {
            sockets.push((Kind::Frames(end.clone()), frames(netns)?));
        }
        sockets.push((Kind::Entering, frames(host)?));
        let experiment = Protocol::from_raw(u32::from(EXPERIMENT).try_into().unwrap());
        for protocol in [ipproto::ICMP, ipproto::TCP, ipproto::UDP, experiment] {
            sockets.push((Kind::Packets4, raw(host, rustix::net::AddressFamily::INET, protocol)?));
        }
        for (number, protocol) in
            [(58, ipproto::ICMPV6), (6, ipproto::TCP), (17, ipproto::UDP), (EXPERIMENT, experiment)]
        {
            let socket = raw(host, rustix::net::AddressFamily::INET6, protocol)?;
            sockets.push((Kind::Segments6(number), socket));
        }
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let (theirs, told) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || listen(&sockets, &theirs, &told));
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// Waits until nothing new has been seen for `quiet`.
    pub fn quiet(&self, quiet: Duration) {
        self.seen.lock().unwrap().last = Some(Instant::now());
        loop {
            let since = self.seen.lock().unwrap().last.map_or(quiet, |last| last.elapsed());
            let Some(left) = quiet.checked_sub(since).filter(|left| !left.is_zero()) else { return };
            std::thread::sleep(left);
        }
    }

    pub fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.seen.lock().unwrap())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn frames(netns: &Netns) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let open = || socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll);
    let fd = netns.try_run(open)??;
    setsockopt(&fd, RcvBufForce, &BUFFER)?;
    Ok(fd)
}

fn raw(netns: &Netns, family: rustix::net::AddressFamily, protocol: Protocol) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = netns.try_run(|| socket_with(family, SocketType::RAW, flags, Some(protocol)))??;
    setsockopt(&fd, RcvBufForce, &BUFFER)?;
    Ok(fd)
}

fn listen(sockets: &[(Kind, OwnedFd)], seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    let timeout = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while !stop.load(Ordering::Relaxed) {
        let mut polled: Vec<PollFd<'_>> =
            sockets.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
        if poll(&mut polled, Some(&timeout)).is_err() {
            continue;
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        for ((kind, fd), _) in sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
            while let Some(sight) = receive(kind, fd, &mut buffer) {
                if let Some(sight) = sight {
                    seen.lock().unwrap().add(kind, sight);
                }
            }
        }
    }
}

/// Takes one message off a socket, if one is there: what it says of a probe.
fn receive(kind: &Kind, fd: &OwnedFd, buffer: &mut [u8]) -> Option<Option<Sight>> {
    match kind {
        Kind::Frames(_) | Kind::Entering => {
            let (length, from) = recvfrom::<LinkAddr>(fd.as_raw_fd(), buffer).ok()?;
            // What goes out is none of an end's arrivals (PACKET_OUTGOING).
            let incoming = from.is_some_and(|from| from.pkttype() != 4);
            Some(incoming.then(|| in_frame(&buffer[..length])).flatten())
        }
        Kind::Packets4 => {
            let (length, _, _) = rustix::net::recvfrom(fd, &mut *buffer, RecvFlags::empty()).ok()?;
            Some(in_packet(&buffer[..length]))
        }
        Kind::Segments6(protocol) => {
            let (length, _, from) = rustix::net::recvfrom(fd, &mut *buffer, RecvFlags::empty()).ok()?;
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            Some(from.and_then(|from| in_segment(*protocol, &buffer[..length], from.ip())))
        }
    }
}

impl Seen {
    fn add(&mut self, kind: &Kind, sight: Sight) {
        let end = match kind {
            Kind::Frames(end) => end.clone(),
            Kind::Entering => {
                if let Sight::Probe(number, _) = sight {
                    self.entered.insert(number);
                }
                return;
            }
            Kind::Packets4 | Kind::Segments6(_) => HOST.into(),
        };
        let fresh = match sight {
            Sight::Probe(number, source) => self.arrived.entry(number).or_default().insert((end, source)),
            Sight::Answer(number) => self.answered.entry(number).or_default().insert(end),
        };
        if fresh {
            self.last = Some(Instant::now());
        }
    }
}
