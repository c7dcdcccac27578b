//! One end of a TAP: what a virtual machine would hold.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use tun_tap::{Iface, Mode};

use super::netns::Netns;

/// Longest frame taken from a TAP: 64 KiB of payload, its Ethernet header and
/// two VLAN tags.
pub(super) const MAX_FRAME: usize = 65_536 + 14 + 8;

/// The ioctls of linux/if_tun.h that tun-tap leaves out.
mod ioctl {
    nix::ioctl_write_int!(tunsetpersist, b'T', 203);
    nix::ioctl_write_int!(tunsetoffload, b'T', 208);
}

/// An open TAP without packet information. A TAP that this opened and that
/// nobody made persistent is gone when it is dropped.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    name: String,
}

impl Tap {
    /// Attaches to the TAP `name` of a namespace, or makes it.
    ///
    /// # Errors
    /// Those of the TUNSETIFF ioctl: EBUSY where another process holds it.
    pub fn open(netns: &Netns, name: &str) -> io::Result<Self> {
        let interface = netns
            .try_run(|| Iface::without_packet_info(name, Mode::Tap))?
            .map_err(|error| io::Error::new(error.kind(), format!("can't open the TAP {name}: {error}")))?;
        let name = interface.name().to_owned();
        let fd = owned(interface);
        rustix::io::ioctl_fionbio(&fd, true)?;
        no_offloads(&fd)?;
        Ok(Self { fd, name })
    }

    /// Lets the interface outlive this, as long as its namespace does.
    ///
    /// # Errors
    /// Those of the TUNSETPERSIST ioctl.
    #[expect(unsafe_code, reason = "an ioctl")]
    pub fn persist(&self) -> io::Result<()> {
        // SAFETY: the ioctl takes a number, no pointer.
        unsafe { ioctl::tunsetpersist(self.fd.as_raw_fd(), 1) }?;
        Ok(())
    }

    /// Its interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes one frame, as if the guest had sent it.
    ///
    /// # Errors
    /// Those of write(2): EIO while the interface is down, EINVAL for less
    /// than an Ethernet header.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.fd, frame)?;
        Ok(())
    }

    /// Reads one frame that was delivered to the guest, if one is waiting.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match rustix::io::read(&self.fd, &mut *buffer) {
            Ok(length) => Ok(buffer.get(..length)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Asks for whole checksums and frames of the link's size: who held the TAP
/// before may have agreed to less, and that stays with the interface.
#[expect(unsafe_code, reason = "an ioctl")]
fn no_offloads(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: the ioctl takes a number, no pointer.
    unsafe { ioctl::tunsetoffload(fd.as_raw_fd(), 0) }?;
    Ok(())
}

#[expect(unsafe_code, reason = "tun-tap gives its descriptor only as a number")]
fn owned(interface: Iface) -> OwnedFd {
    // SAFETY: into_raw_fd gives up the open descriptor, so nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(interface.into_raw_fd()) }
}
