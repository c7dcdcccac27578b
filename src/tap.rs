//! TAP devices: the kernel's end of a guest's network card.
//!
//! A device is made once, persistent, before any guest runs; a supervisor
//! attaches to it and hands QEMU the descriptor. QEMU itself never needs
//! `/dev/net/tun` (kernel: Documentation/networking/tuntap.rst).
//!
//! **A virtio header** (`IFF_VNET_HDR`) makes a guest twice as fast. Who writes
//! one names a place in the frame (`csum_start`, `csum_offset`) at which the
//! kernel writes 16 bits after every netfilter hook, when the packet meets a
//! device that doesn't compute checksums: a packet that was judged as one to port
//! 80 arrives as one to port 22, and an IPv6 source is rewritten on the way out.
//! GSO headers are the same hole. So frames carry one only where the device has a
//! [guard](crate::guard), which judges it before the first hook, or where the
//! spec trusts the guest.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc::{c_int, c_short};
use nix::net::if_::if_nametoindex;

use crate::spec::IfName;

/// `linux/if_tun.h`.
const IFF_TAP: c_short = 0x0002;
const IFF_NO_PI: c_short = 0x1000;
const IFF_PERSIST: c_short = 0x0800;
const IFF_VNET_HDR: c_short = 0x4000;
const IFF_TUN_EXCL: c_short = c_short::MIN;

/// Why a TAP device can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The kernel has no TUN driver, or hostctl may not use it.
    #[error("can't open /dev/net/tun: {0}; load the tun module and run hostctl as root")]
    Driver(#[source] io::Error),
    /// Nothing of that name in this network namespace.
    #[error("there is no interface {0}: `hostctl apply` makes it")]
    Missing(IfName),
    /// A link of that name that no guest can use.
    #[error("{0} exists and isn't a persistent single-queue TAP device: remove it with `ip link del {0}`")]
    Foreign(IfName),
    /// Something else holds the device.
    #[error("{0} is in use: another process (a QEMU of the same name?) is attached to it")]
    Busy(IfName),
    /// The kernel refused.
    #[error("can't {action} {name}: {source}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// The device.
        name: IfName,
        /// The kernel's answer.
        source: Errno,
    },
}

/// `struct ifreq` of `linux/if.h`, as far as the TUN driver reads it.
#[repr(C)]
#[derive(Default)]
pub struct IfReq {
    name: [u8; 16],
    flags: c_short,
    rest: [u8; 22],
}

impl IfReq {
    fn tap(name: &IfName) -> Self {
        let mut request = Self { flags: IFF_TAP | IFF_NO_PI, ..Self::default() };
        // An IfName has at most 15 bytes, so the final NUL stays.
        for (to, from) in request.name.iter_mut().take(15).zip(name.as_str().bytes()) {
            *to = from;
        }
        request
    }
}

#[allow(unsafe_code, missing_docs)]
mod ioctl {
    use nix::{
        ioctl_read_bad, ioctl_write_int_bad, ioctl_write_ptr_bad, request_code_read, request_code_write,
    };

    use super::{IfReq, c_int};

    // The kernel's definitions name `int`, whatever is really passed.
    ioctl_write_ptr_bad!(tun_set_iff, request_code_write!(b'T', 202, size_of::<c_int>()), IfReq);
    ioctl_write_int_bad!(tun_set_persist, request_code_write!(b'T', 203, size_of::<c_int>()));
    ioctl_write_int_bad!(tun_set_owner, request_code_write!(b'T', 204, size_of::<c_int>()));
    ioctl_write_int_bad!(tun_set_group, request_code_write!(b'T', 206, size_of::<c_int>()));
    ioctl_write_int_bad!(tun_set_offload, request_code_write!(b'T', 208, size_of::<c_int>()));
    ioctl_write_ptr_bad!(tun_set_header_size, request_code_write!(b'T', 216, size_of::<c_int>()), c_int);
    ioctl_read_bad!(tun_get_iff, request_code_read!(b'T', 210, size_of::<c_int>()), IfReq);
}

/// Makes the persistent TAP device `name` in the calling thread's network
/// namespace, owned by root. One that is there already stays as it is.
///
/// # Errors
/// Where a link of that name exists and isn't such a device, or the kernel
/// refuses.
pub fn create(name: &IfName) -> Result<(), TapError> {
    let driver = open_driver()?;
    match set_iff(&driver, IfReq::tap(name), name) {
        Err(TapError::Busy(_)) => Ok(()),
        result => result.and_then(|()| Passing { driver, name: name.clone() }.persist()),
    }
}

/// A TAP device that goes with this, unless it is made persistent.
#[derive(Debug)]
pub struct Passing {
    driver: File,
    name: IfName,
}

/// Makes the TAP device `name` in the calling thread's network namespace.
///
/// # Errors
/// Where there is a link of that name, or the kernel refuses.
pub fn begin(name: &IfName) -> Result<Passing, TapError> {
    let driver = open_driver()?;
    let mut request = IfReq::tap(name);
    request.flags |= IFF_TUN_EXCL;
    set_iff(&driver, request, name)?;
    Ok(Passing { driver, name: name.clone() })
}

impl Passing {
    /// Lets it stay, owned by root.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn persist(self) -> Result<(), TapError> {
        let fd = self.driver.as_raw_fd();
        // SAFETY: both take an int and no pointer; `fd` is open.
        #[allow(unsafe_code)]
        let result = unsafe { ioctl::tun_set_owner(fd, 0).and_then(|_| ioctl::tun_set_persist(fd, 1)) };
        let kernel = |source| TapError::Kernel { action: "make persistent", name: self.name, source };
        result.map(drop).map_err(kernel)
    }
}

/// Makes the persistent TAP device `name`, to which nobody is attached, root's
/// alone again, whatever was done to it.
///
/// # Errors
/// Where it isn't there, is another sort of link, or somebody is attached to
/// it.
pub fn reclaim(name: &IfName) -> Result<(), TapError> {
    let driver = attach_driver(name, false)?;
    own(&driver, name)?;
    // No group can't be had again once there was one; root's will do.
    // SAFETY: it takes a number and no pointer; `driver` is open.
    #[allow(unsafe_code)]
    let result = unsafe { ioctl::tun_set_group(driver.as_raw_fd(), 0) };
    result.map(drop).map_err(|source| TapError::Kernel { action: "make root's", name: name.clone(), source })
}

/// Attaches to the persistent TAP device `name` of the calling thread's
/// network namespace. The descriptor carries whole Ethernet frames, without a
/// header, and keeps working in a process of another namespace.
///
/// # Errors
/// Where there is no such device, it is another sort of link, or somebody is
/// attached to it.
pub fn attach(name: &IfName) -> Result<OwnedFd, TapError> {
    attach_as(name, false)
}

/// As [`attach`], with a virtio header before each frame: only where a guard
/// judges it, or its writer is trusted.
///
/// # Errors
/// As [`attach`].
pub fn attach_with_header(name: &IfName) -> Result<OwnedFd, TapError> {
    attach_as(name, true)
}

fn attach_as(name: &IfName, header: bool) -> Result<OwnedFd, TapError> {
    let driver = attach_driver(name, header)?;
    // What an earlier holder changed is nobody's who comes after it.
    own(&driver, name)?;
    if header {
        // SAFETY: the kernel reads one int; `driver` is open.
        #[allow(unsafe_code)]
        let result = unsafe { ioctl::tun_set_header_size(driver.as_raw_fd(), &raw const HEADER_SIZE) };
        result.map_err(|source| TapError::Kernel {
            action: "set the header's size of",
            name: name.clone(),
            source,
        })?;
    }
    Ok(driver.into())
}

/// `struct virtio_net_hdr`, which QEMU begins with.
static HEADER_SIZE: c_int = 10;

fn attach_driver(name: &IfName, header: bool) -> Result<File, TapError> {
    // TUNSETIFF would make one that doesn't exist.
    if if_nametoindex(name.as_str()).is_err() {
        return Err(TapError::Missing(name.clone()));
    }
    let driver = open_driver()?;
    let mut request = IfReq::tap(name);
    if header {
        request.flags |= IFF_VNET_HDR;
    }
    set_iff(&driver, request, name)?;
    let mut found = IfReq::default();
    // SAFETY: the kernel writes one `struct ifreq`, which `IfReq` is as long
    // as; `driver` is open.
    #[allow(unsafe_code)]
    let result = unsafe { ioctl::tun_get_iff(driver.as_raw_fd(), &raw mut found) };
    result.map_err(|source| TapError::Kernel { action: "look at", name: name.clone(), source })?;
    // It went away in between and TUNSETIFF made another: closing removes it.
    if found.flags & IFF_PERSIST == 0 {
        return Err(TapError::Missing(name.clone()));
    }
    Ok(driver)
}

/// Owned by root, persistent, and without offloads towards the guest.
fn own(driver: &File, name: &IfName) -> Result<(), TapError> {
    let fd = driver.as_raw_fd();
    // SAFETY: all take a number and no pointer; `fd` is open.
    #[allow(unsafe_code)]
    let result = unsafe {
        ioctl::tun_set_owner(fd, 0)
            .and_then(|_| ioctl::tun_set_offload(fd, 0))
            .and_then(|_| ioctl::tun_set_persist(fd, 1))
    };
    let kernel = |source| TapError::Kernel { action: "make root's", name: name.clone(), source };
    result.map(drop).map_err(kernel)
}

fn open_driver() -> Result<File, TapError> {
    OpenOptions::new().read(true).write(true).open("/dev/net/tun").map_err(TapError::Driver)
}

fn set_iff(driver: &File, request: IfReq, name: &IfName) -> Result<(), TapError> {
    // SAFETY: the kernel reads and writes one `struct ifreq`, which `IfReq` is
    // as long as, and copies the name back over itself; `driver` is open.
    #[allow(unsafe_code)]
    let result = unsafe { ioctl::tun_set_iff(driver.as_raw_fd(), &raw const request) };
    match result {
        Ok(_) => Ok(()),
        Err(Errno::EINVAL) => Err(TapError::Foreign(name.clone())),
        Err(Errno::EBUSY) => Err(TapError::Busy(name.clone())),
        Err(source) => Err(TapError::Kernel { action: "attach to", name: name.clone(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_long_as_the_kernels() {
        assert_eq!(size_of::<IfReq>(), 40);
        let request = IfReq::tap(&IfName::new("vm-fifteen-byte").unwrap());
        assert_eq!(&request.name, b"vm-fifteen-byte\0");
        assert_eq!(request.rest, [0; 22]);
    }
}
