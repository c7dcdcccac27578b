//! Who writes a packet's checksum: the kernel before it leaves a link, or
//! whoever comes later (ethtool(8), `-K … tx`).
//!
//! "Later" is after the firewall. Who sends on a packet(7) socket with a
//! virtio header names the place (`csum_start`, `csum_offset`) at which 16
//! bits are then written: a packet that was judged as one to port 80 arrived
//! as one to port 22. Written early, they are there when it is judged.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// `linux/ethtool.h`: `ETHTOOL_GTXCSUM`, `ETHTOOL_STXCSUM`.
const GET_TX_CHECKSUMS: u32 = 0x16;
const SET_TX_CHECKSUMS: u32 = 0x17;

/// Whether the link `name` of the calling thread's network namespace leaves
/// checksums for later.
///
/// # Errors
/// Where there is no such link, or the kernel refuses.
pub(super) fn is_late(name: &str) -> io::Result<bool> {
    Ok(ask(name, GET_TX_CHECKSUMS)? != 0)
}

/// Has the checksums of the link `name` written before packets leave it, and
/// packets cut to its size.
///
/// # Errors
/// Where there is no such link, the kernel refuses, or does something else.
pub(super) fn write_early(name: &str) -> io::Result<()> {
    ask(name, SET_TX_CHECKSUMS)?;
    if is_late(name)? {
        return Err(io::Error::other("the link goes on as before"));
    }
    Ok(())
}

/// `struct ethtool_value`: a command, and 0 or what the kernel answers.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ifreq`, with a pointer in its union.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: *mut Value,
    rest: [u8; 16],
}

fn ask(name: &str, command: u32) -> io::Result<u32> {
    let socket: OwnedFd = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut value = Value { command, data: 0 };
    let mut request = Request { name: [0; libc::IFNAMSIZ], value: &raw mut value, rest: [0; 16] };
    if name.len() >= request.name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.name.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the kernel reads one `struct ifreq`, which `Request` is as long
    // as, and reads and writes the value that it points to; both live here.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<Request>(), 40);
        assert!(is_late("a-name-of-sixteen").is_err());
        assert!(is_late("none-such").is_err());
    }
}
