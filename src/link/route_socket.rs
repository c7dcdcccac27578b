//! Questions to the kernel about single objects, over rtnetlink (rtnetlink(7)):
//! what is asked for by name, index or key is all that is answered. The rest of
//! hostctl asks by `rtnetlink`, which lists and filters then.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::libc;

/// `struct nlmsghdr`'s and `struct nlattr`'s lengths.
const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
/// One part of an answer fits: the kernel sends at most 32 KiB at a time.
const BUFFER: usize = 64 * 1024;

/// A socket of the calling thread's network namespace, on which the kernel
/// refuses a filter that it doesn't know, instead of ignoring it.
#[derive(Debug)]
pub(super) struct RouteSocket {
    socket: Socket,
    buffer: Vec<u8>,
    /// How many messages were read, and how many bytes.
    pub read: (usize, usize),
}

impl RouteSocket {
    /// Opens it.
    ///
    /// # Errors
    /// Where there is no netlink, or the kernel knows no such filters (before
    /// Linux 4.20).
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { socket, buffer: vec![0; BUFFER], read: (0, 0) })
    }

    /// Asks, and calls `each` with every message of the answer and its type.
    ///
    /// # Errors
    /// Those of `each`, and the kernel's own: what isn't there is one.
    pub fn ask(
        &mut self,
        kind: u16,
        dump: bool,
        body: &[u8],
        mut each: impl FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let flags = libc::NLM_F_REQUEST | if dump { libc::NLM_F_DUMP } else { 0 };
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut request = length.to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend(u16::try_from(flags).unwrap_or_default().to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        self.socket.send(&request, 0)?;
        loop {
            let length = self.socket.recv(&mut self.buffer.as_mut_slice(), 0)?;
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while let Some((message, length)) = first(rest) {
                self.read = (self.read.0 + 1, self.read.1 + length);
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => return refused(message.body),
                    _ if message.flags & libc::NLM_F_DUMP_INTR != 0 => {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    _ => each(message.kind, message.body)?,
                }
                if message.flags & libc::NLM_F_MULTI == 0 {
                    return Ok(());
                }
            }
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: i32,
    body: &'a [u8],
}

fn first(bytes: &[u8]) -> Option<(Message<'_>, usize)> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let body = bytes.get(HEADER..length)?;
    Some((Message { kind: u16_at(bytes, 4)?, flags: i32::from(u16_at(bytes, 6)?), body }, length))
}

/// `struct nlmsgerr` begins with the error; 0 is none.
fn refused(body: &[u8]) -> io::Result<()> {
    match u32_at(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// An attribute, padded.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes in `bytes`: the type without its flags, and the value.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const TYPE: u16 = 0x3fff;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & TYPE;
        let value = rest.get(ATTRIBUTE..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = [attribute(3, b"br-a\0"), attribute(29, &7_u32.to_ne_bytes())].concat();
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(3, &b"br-a\0"[..]), (29, &7_u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn an_absence_is_an_error_and_a_link_is_found() {
        let mut socket = RouteSocket::open().unwrap();
        let ask = |socket: &mut RouteSocket, name: &str| {
            let mut found = 0;
            let body = [&[0; 16][..], &attribute(libc::IFLA_IFNAME, format!("{name}\0").as_bytes())].concat();
            let answer = socket.ask(libc::RTM_GETLINK, false, &body, |_, _| {
                found += 1;
                Ok(())
            });
            (answer.map_err(|error| error.raw_os_error()), found)
        };
        assert_eq!(ask(&mut socket, "none-such"), (Err(Some(libc::ENODEV)), 0));
        assert_eq!(ask(&mut socket, "lo"), (Ok(()), 1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            attributes(&bytes).count();
            _ = first(&bytes);
            _ = refused(&bytes);
        }
    }
}
