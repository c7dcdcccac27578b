//! Requests to the kernel's netfilter over netlink
//! (`linux/netfilter/nfnetlink.h`).

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

/// `NETLINK_EXT_ACK` errors and one dump's part fit; the kernel sends at most
/// 32 KiB at a time.
const BUFFER: usize = 64 * 1024;

/// A socket of the calling thread's network namespace.
///
/// # Errors
/// Where there is no netlink.
pub(super) fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Sends one request.
///
/// # Errors
/// Where the kernel doesn't take it.
pub(super) fn send(
    socket: &Socket,
    flags: u16,
    family: NetfilterProtoFamily,
    message: impl Into<NetfilterMessageInner>,
) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0).map(drop)
}

/// Calls `each` with every answer, until one says that it was the last.
///
/// # Errors
/// Those of `each`, and where an answer can't be read.
pub(super) fn receive(
    socket: &Socket,
    mut each: impl FnMut(NetlinkPayload<NetfilterMessage>) -> io::Result<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = socket.recv(&mut buffer.as_mut_slice(), 0)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let message: NetlinkMessage<NetfilterMessage> =
                NetlinkMessage::deserialize(rest).map_err(|error| io::Error::other(error.to_string()))?;
            // Messages are aligned to four bytes (netlink(7)).
            let used = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
            rest = if used == 0 { &[] } else { rest.get(used..).unwrap_or_default() };
            if each(message.payload)? {
                return Ok(());
            }
        }
    }
}

/// Whether an answer is the last one.
///
/// # Errors
/// Where it is a refusal.
pub(super) fn is_end(payload: &NetlinkPayload<NetfilterMessage>) -> io::Result<bool> {
    match payload {
        NetlinkPayload::Done(_) => Ok(true),
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        NetlinkPayload::Error(_) => Ok(true),
        _ => Ok(false),
    }
}
