//! What an ICMP error says about a probe (RFC 792, RFC 4443).

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc::{sock_extended_err, sockaddr_in, sockaddr_in6};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use crate::packet::Family;

/// SO_EE_ORIGIN_ICMP and SO_EE_ORIGIN_ICMP6 of linux/errqueue.h.
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;

/// An ICMP error that belongs to a socket's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IcmpError {
    family: Family,
    kind: u8,
    code: u8,
    from: IpAddr,
}

impl IcmpError {
    /// Takes the next one from a socket's error queue (IP_RECVERR of ip(7)).
    pub(super) fn take(fd: BorrowedFd<'_>) -> Option<Self> {
        let mut buffer = [0; 512];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let mut control = nix::cmsg_space!(sock_extended_err, sockaddr_in6);
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrStorage>(fd.as_raw_fd(), &mut parts, Some(&mut control), flags).ok()?;
        message.cmsgs().ok()?.find_map(|part| match part {
            ControlMessageOwned::Ipv4RecvErr(error, Some(from)) => Self::new(error, address4(from)),
            ControlMessageOwned::Ipv6RecvErr(error, Some(from)) => Self::new(error, address6(from)),
            _ => None,
        })
    }

    fn new(error: sock_extended_err, from: IpAddr) -> Option<Self> {
        let family = match error.ee_origin {
            ORIGIN_ICMP => Family::V4,
            ORIGIN_ICMP6 => Family::V6,
            _ => return None,
        };
        Some(Self { family, kind: error.ee_type, code: error.ee_code, from })
    }

    /// Whether the namespace told itself that nobody answered its ARP or
    /// neighbour solicitation. To be called inside the namespace.
    ///
    /// A local output chain that rejects with exactly this code looks alike.
    pub(super) fn is_own_neighbour_failure(self) -> bool {
        let host_unreachable = self.family.pick([(3, 1), (1, 3)]);
        (self.kind, self.code) == host_unreachable && is_local(self.from)
    }

    /// What it says, and who.
    pub(super) fn describe(self) -> String {
        use Family::{V4, V6};

        let name = match (self.family, self.kind, self.code) {
            (V4, 3, 0) => "network-unreachable",
            (V4, 3, 1) => "host-unreachable",
            (V4, 3, 2) => "protocol-unreachable",
            (V4, 3, 3) | (V6, 1, 4) => "port-unreachable",
            (V4, 3, 9) => "network-prohibited",
            (V4, 3, 10) => "host-prohibited",
            (V4, 3, 13) | (V6, 1, 1) => "admin-prohibited",
            (V4, 11, _) | (V6, 3, _) => "time-exceeded",
            (V6, 1, 0) => "no-route",
            (V6, 1, 2) => "beyond-scope",
            (V6, 1, 3) => "address-unreachable",
            (V6, 1, 5) => "policy-fail",
            (V6, 1, 6) => "reject-route",
            _ => "",
        };
        let Self { family, kind, code, from } = self;
        let protocol = family.pick(["icmp", "icmpv6"]);
        if name.is_empty() {
            format!("{protocol} type {kind} code {code} from {from}")
        } else {
            format!("{protocol} {name} from {from}")
        }
    }
}

/// Whether an address is one of the current namespace's own: only those can
/// be bound to.
fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

fn address4(from: sockaddr_in) -> IpAddr {
    Ipv4Addr::from(from.sin_addr.s_addr.to_ne_bytes()).into()
}

fn address6(from: sockaddr_in6) -> IpAddr {
    Ipv6Addr::from(from.sin6_addr.s6_addr).into()
}
