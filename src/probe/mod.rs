//! One packet's fate: allowed, dropped or rejected. A leaf: for the
//! connectivity test and for the testbed.

mod icmp_error;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr, SocketError};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, getsockopt,
    recv, send, setsockopt, socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::packet::Family;

use icmp_error::IcmpError;

/// How long a probe waits: a SYN is sent again after one second (RFC 6298),
/// and the answer to that one still counts.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(1300);

/// A datagram or an echo request is sent again this often.
const RESEND: Duration = Duration::from_millis(400);

/// How long an open TCP connection is given to say who it is.
const GREETING: Duration = Duration::from_millis(600);

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// A TCP connection. Allowed when it opens.
    Tcp(SocketAddr),
    /// A datagram. Allowed when one comes back.
    Udp(SocketAddr),
    /// An ICMP or ICMPv6 echo request. Allowed when the reply comes.
    Icmp(IpAddr),
    /// An echo request to a link-local address, by the interface's index.
    IcmpScoped(Ipv6Addr, u32),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was answered.
    Allowed {
        /// What the answer was: a service's line, where it sent one.
        detail: String,
    },
    /// Nothing came back in time. Also when the namespace itself found no
    /// neighbour to send to: nobody refused anything then.
    Dropped,
    /// Someone said no.
    Rejected {
        /// `tcp reset`, or the ICMP error and who sent it.
        how: String,
    },
    /// The packet was never sent: no route, no such source address. It says
    /// nothing about the firewall and meets no expectation.
    Unsent {
        /// The error.
        why: String,
    },
}

impl Verdict {
    /// Whether it is [`Verdict::Allowed`].
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// Whether it is [`Verdict::Rejected`].
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }

    pub(crate) fn unsent(error: impl fmt::Display) -> Self {
        Self::Unsent { why: error.to_string() }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { detail } => write!(f, "allowed ({detail})"),
            Self::Dropped => f.write_str("dropped"),
            Self::Rejected { how } => write!(f, "rejected ({how})"),
            Self::Unsent { why } => write!(f, "not sent ({why})"),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(to) => write!(f, "tcp {to}"),
            Self::Udp(to) => write!(f, "udp {to}"),
            Self::Icmp(to) => write!(f, "ping {to}"),
            Self::IcmpScoped(to, scope) => write!(f, "ping {to}%{scope}"),
        }
    }
}

/// Runs a probe in the calling thread's namespace.
pub fn attempt(source: Option<IpAddr>, probe: Probe, timeout: Duration) -> Verdict {
    let end = Instant::now() + timeout;
    let (kind, target) = match probe {
        Probe::Tcp(to) => (SockType::Stream, to),
        Probe::Udp(to) => (SockType::Datagram, to),
        Probe::Icmp(to) => (SockType::Datagram, SocketAddr::new(to, 0)),
        Probe::IcmpScoped(to, scope) => (SockType::Datagram, SocketAddrV6::new(to, 0, 0, scope).into()),
    };
    let icmp = matches!(probe, Probe::Icmp(_) | Probe::IcmpScoped(..));
    let fd = match open(kind, icmp, source, target) {
        Ok(fd) => fd,
        Err(error) => return Verdict::unsent(error),
    };
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(Errno::ECONNREFUSED) => return refused(&fd),
        Err(error) => return Verdict::unsent(error),
    }
    let verdict = match probe {
        Probe::Tcp(_) => await_connection(&fd, end),
        Probe::Udp(_) => exchange(&fd, b"probe\n", end, |answer| {
            let text = String::from_utf8_lossy(answer);
            Some(text.lines().next().unwrap_or_default().to_owned())
        }),
        Probe::Icmp(_) | Probe::IcmpScoped(..) => {
            let (request, reply) = Family::of(target.ip()).echo();
            // The kernel fills in checksum and identifier (RFC 792, RFC 4443).
            let message = [&[request, 0, 0, 0, 0, 0, 0, 1], b"hostctl's probe.".as_slice()].concat();
            exchange(&fd, &message, end, |answer| {
                (answer.first() == Some(&reply)).then(|| format!("echo reply from {}", target.ip()))
            })
        }
    };
    verdict.unwrap_or_else(Verdict::unsent)
}

fn open(kind: SockType, icmp: bool, source: Option<IpAddr>, target: SocketAddr) -> io::Result<OwnedFd> {
    let (family, protocol) = match target {
        SocketAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        SocketAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, kind, flags, icmp.then_some(protocol))?;
    match target {
        SocketAddr::V4(_) => setsockopt(&fd, Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&fd, Ipv6RecvErr, &true)?,
    }
    if let Some(source) = source {
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
    }
    Ok(fd)
}

/// Waits for a connection to open, and for the service's line.
fn await_connection(fd: &OwnedFd, end: Instant) -> io::Result<Verdict> {
    if !wait(fd, PollFlags::OUT, end)? {
        return Ok(Verdict::Dropped);
    }
    match getsockopt(fd, SocketError)? {
        0 => {}
        error => return failed(fd, Errno::from_raw(error)),
    }
    let mut line = [0; 256];
    wait(fd, PollFlags::IN, Instant::now() + GREETING)?;
    // An open connection is an open connection, whatever comes next.
    let length = recv(fd.as_raw_fd(), &mut line, MsgFlags::MSG_DONTWAIT).unwrap_or(0);
    let text = String::from_utf8_lossy(line.get(..length).unwrap_or_default());
    let detail = text.lines().next().filter(|line| !line.is_empty()).unwrap_or("connected").to_owned();
    Ok(Verdict::Allowed { detail })
}

/// Sends a message, again every [`RESEND`], until an answer that `accept`
/// takes or an error comes.
fn exchange(
    fd: &OwnedFd,
    message: &[u8],
    end: Instant,
    accept: impl Fn(&[u8]) -> Option<String>,
) -> io::Result<Verdict> {
    let mut answer = [0; 2048];
    let mut resend = Instant::now();
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(Verdict::Dropped);
        }
        if now >= resend {
            resend = now + RESEND;
            match send(fd.as_raw_fd(), message, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::EAGAIN) => {}
                // What an output chain's drop looks like.
                Err(Errno::EPERM) => return Ok(Verdict::Dropped),
                Err(error) => return failed(fd, error),
            }
        }
        if !wait(fd, PollFlags::IN, resend.min(end))? {
            continue;
        }
        match recv(fd.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                if let Some(detail) = accept(answer.get(..length).unwrap_or_default()) {
                    return Ok(Verdict::Allowed { detail });
                }
            }
            Err(Errno::EAGAIN) => {
                if let Some(error) = IcmpError::take(fd.as_fd()) {
                    return Ok(judge(error));
                }
            }
            Err(error) => return failed(fd, error),
        }
    }
}

/// What a socket error means, with the ICMP error behind it where one is.
fn failed(fd: &OwnedFd, error: Errno) -> io::Result<Verdict> {
    match (IcmpError::take(fd.as_fd()), error) {
        (Some(icmp), _) => Ok(judge(icmp)),
        (None, Errno::ECONNREFUSED) => Ok(refused(fd)),
        (None, Errno::ETIMEDOUT) => Ok(Verdict::Dropped),
        (None, error) => Err(error.into()),
    }
}

fn refused(fd: &OwnedFd) -> Verdict {
    match IcmpError::take(fd.as_fd()) {
        Some(error) => judge(error),
        None => Verdict::Rejected { how: "tcp reset".into() },
    }
}

fn judge(error: IcmpError) -> Verdict {
    if error.is_own_neighbour_failure() {
        Verdict::Dropped
    } else {
        Verdict::Rejected { how: error.describe() }
    }
}

/// Waits for events (errors are always among them). Whether any came.
fn wait(fd: &OwnedFd, events: PollFlags, end: Instant) -> io::Result<bool> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(fd, events)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
