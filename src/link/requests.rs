//! Requests to rtnetlink that are sent many at a time, and answered then.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::net::netdevice::name_to_index;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// What is sent at once; the kernel takes twice as much by default, and its
/// answers fit.
const BYTES_MAX: usize = 64 * 1024;
const COUNT_MAX: usize = 128;
/// An answer has the request that was refused.
const ANSWER_MAX: usize = BYTES_MAX + 4096;

/// Why a request wasn't done.
#[derive(Debug)]
pub(super) enum Failed<T> {
    /// The kernel refused the request that this is about. Those that were sent
    /// with it are done, or refused too; none after them was sent.
    Refused(T, rtnetlink::Error),
    /// Nobody knows what of it was done.
    Socket(io::Error),
}

/// Where requests are sent to: a network namespace's links.
pub(super) struct Line {
    socket: OwnedFd,
    /// For the numbers of links (netdevice(7)).
    asking: OwnedFd,
    /// The number of the last request.
    sequence: Cell<u32>,
}

impl Line {
    /// To the calling thread's network namespace.
    ///
    /// # Errors
    /// Where there is no netlink.
    pub fn open() -> io::Result<Self> {
        // NETLINK_ROUTE is 0.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        // Of a family that hostctl's units may have sockets of.
        let asking = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, asking, sequence: Cell::new(0) })
    }

    /// The kernel's number for a link.
    ///
    /// # Errors
    /// Where there is none.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        Ok(name_to_index(self.asking.as_fd(), name)?)
    }
}

/// What waits to be sent. Each request is about a `T`.
pub(super) struct Requests<'l, T> {
    line: &'l Line,
    bytes: Vec<u8>,
    waiting: BTreeMap<u32, T>,
    /// A refusal that is none, of a request of that sort.
    is_done: fn(&T, &rtnetlink::Error) -> bool,
}

impl<'l, T> Requests<'l, T> {
    /// None yet.
    pub fn new(line: &'l Line, is_done: fn(&T, &rtnetlink::Error) -> bool) -> Self {
        Self { line, bytes: Vec::new(), waiting: BTreeMap::new(), is_done }
    }

    /// Adds a request; sends what there is where it is enough.
    ///
    /// # Errors
    /// Where one that was sent was refused.
    pub fn push(&mut self, about: T, message: RouteNetlinkMessage, flags: u16) -> Result<(), Failed<T>> {
        let sequence = self.line.sequence.get().wrapping_add(1);
        self.line.sequence.set(sequence);
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        packet.header.sequence_number = sequence;
        packet.finalize();
        let begin = self.bytes.len();
        self.bytes.resize(begin + packet.buffer_len().next_multiple_of(4), 0);
        packet.serialize(self.bytes.get_mut(begin..).unwrap_or_default());
        self.waiting.insert(sequence, about);
        if self.bytes.len() > BYTES_MAX / 2 || self.waiting.len() >= COUNT_MAX { self.send() } else { Ok(()) }
    }

    /// Sends what there is, and waits for the answers.
    ///
    /// # Errors
    /// The first that was refused.
    pub fn send(&mut self) -> Result<(), Failed<T>> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.bytes);
        again(|| send(&self.line.socket, &bytes, SendFlags::empty())).map_err(Failed::Socket)?;
        let mut buffer = vec![0; ANSWER_MAX];
        let mut refused = None;
        while !self.waiting.is_empty() {
            let (length, whole) = again(|| recv(&self.line.socket, &mut buffer[..], RecvFlags::TRUNC))
                .map_err(Failed::Socket)?;
            let cut = || Failed::Socket(io::Error::other("the kernel's answer is cut short"));
            let mut rest = buffer.get(..length).filter(|_| length == whole).ok_or_else(cut)?;
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|error| Failed::Socket(io::Error::other(error.to_string())))?;
                let used = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
                rest = if used == 0 { &[] } else { rest.get(used..).unwrap_or_default() };
                let NetlinkPayload::Error(answer) = message.payload else { continue };
                let Some(about) = self.waiting.remove(&message.header.sequence_number) else { continue };
                if answer.code.is_some() {
                    let error = rtnetlink::Error::NetlinkError(answer);
                    if !(self.is_done)(&about, &error) && refused.is_none() {
                        refused = Some((about, error));
                    }
                }
            }
        }
        refused.map_or(Ok(()), |(about, error)| Err(Failed::Refused(about, error)))
    }
}

fn again<R>(mut call: impl FnMut() -> rustix::io::Result<R>) -> io::Result<R> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::{CloneFlags, unshare};
    use rtnetlink::LinkUnspec;

    use super::*;

    #[test]
    fn the_first_refusal_is_told_and_no_later_request_is_sent() {
        let thread = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let line = Line::open().unwrap();
            let mut requests = Requests::new(&line, |_, _| false);
            let alias = |link: &str, alias: &str| {
                RouteNetlinkMessage::SetLink(LinkUnspec::new_with_name(link).alias(alias).build())
            };
            for number in 0..1000 {
                requests.push(number, alias("lo", "known"), 0).unwrap();
            }
            requests.send().unwrap();
            assert!(requests.waiting.is_empty());
            let mut pushed = 0;
            let refused = (0..1000).find_map(|number| {
                pushed = number;
                requests.push(number, alias(if number >= 7 { "none" } else { "lo" }, "x"), 0).err()
            });
            let Some(Failed::Refused(7, error)) = refused else { panic!("{refused:?}") };
            assert!(error.to_string().contains("No such device"), "{error}");
            assert!(pushed < COUNT_MAX);
        });
        thread.join().unwrap();
    }
}
