//! The UDP service. It answers from the very address that was asked, which a
//! socket bound to `[::]` does only when told (RFC 3542, section 6).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc::in6_pktinfo;
use nix::sys::socket::sockopt::Ipv6RecvPacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
};

use super::netns::Netns;
use super::service::{Seen, canonical, greeting};
use super::worker::Worker;

/// Longest datagram that is sent back whole, in bytes.
const LONGEST: usize = 2048;

pub(super) fn start(
    netns: &Netns,
    name: &str,
    address: SocketAddr,
    seen: Seen,
) -> io::Result<(Worker, SocketAddr)> {
    let socket = netns
        .try_run(|| UdpSocket::bind(address))?
        .map_err(|error| io::Error::new(error.kind(), format!("{name} can't bind UDP {address}: {error}")))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
    }
    let address = socket.local_addr()?;
    let name = name.to_owned();
    let worker = Worker::spawn("service-udp", move |stop| {
        while stop.wait_readable([socket.as_fd()]).is_some() {
            // Nothing that a peer sends, or that can't be sent back, ends it.
            let _ = if address.is_ipv6() {
                answer6(&socket, &name, &seen)
            } else {
                answer4(&socket, &name, &seen)
            };
        }
    })?;
    Ok((worker, address))
}

fn answer4(socket: &UdpSocket, name: &str, seen: &Seen) -> io::Result<()> {
    let mut buffer = [0; LONGEST];
    let (length, peer) = socket.recv_from(&mut buffer)?;
    seen.add(peer);
    let answer = [greeting(name, peer).as_bytes(), buffer.get(..length).unwrap_or_default()].concat();
    socket.send_to(&answer, peer)?;
    Ok(())
}

fn answer6(socket: &UdpSocket, name: &str, seen: &Seen) -> io::Result<()> {
    let mut buffer = [0; LONGEST];
    let mut control = nix::cmsg_space!(in6_pktinfo);
    let (length, peer, asked) = {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let asked = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
            _ => None,
        });
        (message.bytes, message.address, asked)
    };
    let Some(peer) = peer else { return Ok(()) };
    let shown = canonical(SocketAddr::V6(peer.into()));
    seen.add(shown);
    let line = greeting(name, shown);
    let parts = [IoSlice::new(line.as_bytes()), IoSlice::new(buffer.get(..length).unwrap_or_default())];
    // The interface only where the address means nothing without it; else the
    // answer is routed like any other packet.
    let from = asked.map(|info| {
        let scoped = Ipv6Addr::from(info.ipi6_addr.s6_addr).is_unicast_link_local();
        in6_pktinfo { ipi6_ifindex: if scoped { info.ipi6_ifindex } else { 0 }, ..info }
    });
    let control: Vec<_> = from.iter().map(ControlMessage::Ipv6PacketInfo).collect();
    sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::MSG_DONTWAIT, Some(&peer))?;
    Ok(())
}
