//! The filter by which a TAP runs the guard (tc-bpf(8)), over rtnetlink.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::{GuardError, Program, Tag};

/// What a filter is called by, for `tc filter show`.
const NAME: &str = "hostctl_guard";
/// The queueing discipline that does nothing but run filters (tc-clsact).
const CLSACT: &str = "clsact";
const INGRESS: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS };
/// Before every other filter.
const PRIORITY: u32 = 1 << 16;
/// `ETH_P_ALL`, in the network's order.
const EVERY_PROTOCOL: u32 = 0x0003_u16.to_be() as u32;
const HANDLE: u32 = 1;
/// A dump's part; the kernel sends at most 32 KiB at a time.
const BUFFER: usize = 64 * 1024;

/// What is attached to the place of a link's guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// Nothing.
    Nothing,
    /// A program with this tag, before every other, as hostctl attaches it.
    Program(Tag),
    /// Something else.
    Other,
}

/// What is attached at the ingress of the link with that number, in the calling
/// thread's network namespace, before all else.
///
/// # Errors
/// Where there is no netlink, or the kernel refuses.
pub fn attached(index: u32) -> io::Result<Attached> {
    Reader::open()?.attached(index)
}

/// Asks what is attached to several links.
pub struct Reader(Socket);

impl Reader {
    /// In the calling thread's network namespace.
    ///
    /// # Errors
    /// Where there is no netlink.
    pub fn open() -> io::Result<Self> {
        open().map(Self)
    }

    /// As [`attached`]; a link that is gone has nothing.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn attached(&self, index: u32) -> io::Result<Attached> {
        let mut found = Attached::Nothing;
        send(&self.0, NLM_F_DUMP, RouteNetlinkMessage::GetTrafficFilter(message(index, INGRESS)))?;
        receive(&self.0, |message| {
            let RouteNetlinkMessage::NewTrafficFilter(filter) = message else { return };
            // The kernel speaks of the place for filters, too, which isn't one.
            if u32::from(filter.header.handle) == 0 || filter.header.info >> 16 > PRIORITY >> 16 {
                return;
            }
            found = match (found, program(&filter)) {
                (Attached::Nothing, Some(tag)) => Attached::Program(tag),
                // Two at one place: who comes first isn't said.
                _ => Attached::Other,
            };
        })?;
        Ok(found)
    }
}

/// The program that a filter runs, where it is one as hostctl makes them.
fn program(filter: &TcMessage) -> Option<Tag> {
    if filter.header.info != PRIORITY | EVERY_PROTOCOL || u32::from(filter.header.handle) != HANDLE {
        return None;
    }
    let bpf = filter.attributes.contains(&TcAttribute::Kind(TcFilterBpf::KIND.into()));
    let options = filter.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) if bpf => Some(options),
        _ => None,
    })?;
    let (mut tag, mut acts) = (None, false);
    for option in options {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgTag(found)) => tag = Some(Tag(*found)),
            TcOption::Bpf(TcFilterBpfOption::Flags(flags)) => acts = *flags == TcBpfFlags::DirectAction,
            _ => {}
        }
    }
    tag.filter(|_| acts)
}

impl Program {
    /// Runs it on whatever comes in by the link with that number, of the calling
    /// thread's network namespace, before every other filter. What stood in its
    /// place goes; in between nothing is marked.
    ///
    /// # Errors
    /// Where the kernel refuses, or has no such filters.
    pub fn attach(&self, index: u32) -> Result<(), GuardError> {
        let failed = |action| move |source| GuardError::Attach { action, source };
        let fd = self.fd().ok_or_else(|| GuardError::Refused("it isn't loaded".into()))?.as_raw_fd();
        let socket = open().map_err(failed("ask the kernel"))?;
        make_room(&socket, index).map_err(failed("make room for the guard"))?;
        remove(&socket, index).map_err(failed("remove a filter before the guard"))?;
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
        let filter = RouteNetlinkMessage::NewTrafficFilter(filter(index, fd));
        ask(&socket, flags, filter).map_err(failed("attach the guard"))
    }
}

/// Takes away what stands in the place of a link's guard.
///
/// # Errors
/// Where the kernel refuses.
pub fn detach(index: u32) -> Result<(), GuardError> {
    let removed = open().and_then(|socket| remove(&socket, index));
    removed.map_err(|source| GuardError::Attach { action: "remove the guard", source })
}

/// The place that filters are attached to; one of somebody else's will do.
fn make_room(socket: &Socket, index: u32) -> io::Result<()> {
    let mut place = message(index, TcHandle::CLSACT);
    place.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    place.attributes.push(TcAttribute::Kind(CLSACT.into()));
    let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
    match ask(socket, flags, RouteNetlinkMessage::NewQueueDiscipline(place)) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// Every filter of that priority.
fn remove(socket: &Socket, index: u32) -> io::Result<()> {
    let mut filters = message(index, INGRESS);
    filters.header.info = PRIORITY;
    match ask(socket, NLM_F_ACK, RouteNetlinkMessage::DelTrafficFilter(filters)) {
        // None of that priority, or no place for any.
        Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::EINVAL)) => Ok(()),
        result => result,
    }
}

fn filter(index: u32, fd: RawFd) -> TcMessage {
    let mut filter = message(index, INGRESS);
    filter.header.handle = HANDLE.into();
    filter.header.info = PRIORITY | EVERY_PROTOCOL;
    filter.attributes = vec![
        TcAttribute::Kind(TcFilterBpf::KIND.into()),
        TcAttribute::Options(vec![
            // A descriptor's number isn't negative.
            TcOption::Bpf(TcFilterBpfOption::ProgFd(fd.unsigned_abs())),
            TcOption::Bpf(TcFilterBpfOption::ProgName(NAME.into())),
            TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
        ]),
    ];
    filter
}

fn message(index: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(i32::try_from(index).unwrap_or(i32::MAX));
    message.header.parent = parent;
    message
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn ask(socket: &Socket, flags: u16, message: RouteNetlinkMessage) -> io::Result<()> {
    send(socket, flags, message)?;
    receive(socket, |_| ())
}

fn send(socket: &Socket, flags: u16, message: RouteNetlinkMessage) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0).map(drop)
}

/// Calls `each` with every answer up to the last.
fn receive(socket: &Socket, mut each: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = socket.recv(&mut buffer.as_mut_slice(), 0)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let answer: NetlinkMessage<RouteNetlinkMessage> =
                NetlinkMessage::deserialize(rest).map_err(|error| io::Error::other(error.to_string()))?;
            // Messages are aligned to four bytes (netlink(7)).
            let used = usize::try_from(answer.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
            rest = if used == 0 { &[] } else { rest.get(used..).unwrap_or_default() };
            match answer.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) => return Ok(()),
                NetlinkPayload::InnerMessage(message) => each(message),
                _ => {}
            }
        }
    }
}
