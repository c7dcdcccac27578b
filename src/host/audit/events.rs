//! Word from the kernel that something changed: links, addresses, routes,
//! forwarding entries, settings (rtnetlink(7)) and tables (nfnetlink). What
//! changed isn't read from it, so nothing is lost with a message that is.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket, TokioSocket};
use rustix::io::Errno;

use crate::link::namespace;

/// `enum rtnetlink_groups` of `linux/rtnetlink.h`: links, neighbours, IPv4 and
/// IPv6 addresses and routes, rules, and the settings of `net/ipv4/conf` and
/// `net/ipv6/conf` that the kernel tells of (forwarding, rp_filter,
/// proxy_neigh).
const ROUTE_GROUPS: [u32; 10] = [1, 3, 5, 7, 8, 9, 11, 19, 24, 25];

/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`.
const NFTABLES_GROUP: u32 = 7;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const AF_BRIDGE: u8 = 7;
const NTF_PROXY: u8 = 0x08;

/// One datagram fits; the kernel makes none longer for a group.
const BUFFER: usize = 32 * 1024;

/// Datagrams read in one go, so that a flood doesn't keep others waiting.
const AT_ONCE: usize = 4096;

/// Sockets that hear of changes, in this namespace and in named ones.
pub struct Events {
    own: Vec<TokioSocket>,
    inside: BTreeMap<String, TokioSocket>,
    overruns: u64,
}

impl Events {
    /// Opens the sockets in the calling thread's network namespace; needs a
    /// Tokio runtime.
    ///
    /// # Errors
    /// Where there is no netlink.
    pub fn open() -> io::Result<Self> {
        let own = vec![listen(NETLINK_ROUTE, &ROUTE_GROUPS)?, listen(NETLINK_NETFILTER, &[NFTABLES_GROUP])?];
        Ok(Self { own, inside: BTreeMap::new(), overruns: 0 })
    }

    /// As [`Events::open`], of tables alone.
    ///
    /// # Errors
    /// As [`Events::open`].
    pub fn of_tables() -> io::Result<Self> {
        let own = vec![listen(NETLINK_NETFILTER, &[NFTABLES_GROUP])?];
        Ok(Self { own, inside: BTreeMap::new(), overruns: 0 })
    }

    /// Listens in these named namespaces too, and in no others.
    pub fn follow<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        let mut inside = std::mem::take(&mut self.inside);
        let runtime = tokio::runtime::Handle::current();
        for name in names {
            let open = || {
                namespace::within(name, || {
                    let _guard = runtime.enter();
                    listen(NETLINK_ROUTE, &ROUTE_GROUPS)
                })?
            };
            // One that is gone meanwhile is missed by the next audit.
            if let Some(socket) = inside.remove(name).or_else(|| open().ok()) {
                self.inside.insert(name.into(), socket);
            }
        }
    }

    /// Lets the kernel keep fewer messages, for tests of what happens then.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn shrink(&mut self) -> io::Result<()> {
        self.own.iter_mut().try_for_each(|socket| socket.socket_mut().set_rx_buf_sz(1_u32))
    }

    /// How often the kernel had more to say than it could keep.
    pub const fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Waits until something changed.
    ///
    /// # Errors
    /// Where a socket breaks.
    pub async fn changed(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            let mut heard = Heard::default();
            for socket in &self.own {
                heard.drain(socket, context)?;
            }
            // One that breaks is opened again by the next `follow`.
            self.inside.retain(|_, socket| {
                let result = heard.drain(socket, context);
                heard.relevant |= result.is_err();
                result.is_ok()
            });
            self.overruns += heard.overruns;
            if heard.relevant { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }
}

fn listen(protocol: isize, groups: &[u32]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind_auto()?;
    groups.iter().try_for_each(|group| socket.socket_mut().add_membership(*group))?;
    Ok(socket)
}

#[derive(Debug, Default)]
struct Heard {
    relevant: bool,
    overruns: u64,
}

impl Heard {
    /// Reads all that there is.
    fn drain(&mut self, socket: &TokioSocket, context: &mut Context<'_>) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        for _ in 0..AT_ONCE {
            let mut rest = buffer.as_mut_slice();
            match socket.poll_recv(context, &mut rest) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => {
                    let length = BUFFER.saturating_sub(rest.len());
                    self.relevant |= is_relevant(buffer.get(..length).unwrap_or_default());
                }
                // More happened than the kernel could keep; what, it doesn't say.
                Poll::Ready(Err(error)) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    self.relevant = true;
                    self.overruns += 1;
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        // There may be more: the next wait goes on here.
        context.waker().wake_by_ref();
        Ok(())
    }
}

/// Whether a datagram tells of anything that an audit looks at. Guests are
/// looked up as neighbours all the time; their entries are nothing that
/// anybody configured.
fn is_relevant(mut datagram: &[u8]) -> bool {
    const HEADER: usize = 16;
    while let Some(header) = datagram.get(..HEADER) {
        let length = header.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let kind = header.get(4..6).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_ne_bytes);
        // struct ndmsg: family at 0, flags at 10.
        let neighbour = matches!(kind, RTM_NEWNEIGH | RTM_DELNEIGH);
        let family = datagram.get(HEADER).copied().unwrap_or_default();
        let flags = datagram.get(HEADER + 10).copied().unwrap_or_default();
        if !neighbour || family == AF_BRIDGE || flags & NTF_PROXY != 0 {
            return true;
        }
        let used = usize::try_from(length).unwrap_or(usize::MAX).next_multiple_of(4);
        if used < HEADER {
            return true;
        }
        datagram = datagram.get(used..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, family: u8, flags: u8) -> Vec<u8> {
        let mut bytes = vec![0; 28];
        bytes[..4].copy_from_slice(&28_u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        (bytes[16], bytes[26]) = (family, flags);
        bytes
    }

    #[test]
    fn a_guests_coming_and_going_as_a_neighbour_is_no_change() {
        let (learnt, bridge, proxy, link) = (
            message(RTM_NEWNEIGH, 2, 0),
            message(RTM_DELNEIGH, AF_BRIDGE, 0),
            message(RTM_NEWNEIGH, 10, NTF_PROXY),
            message(16, 0, 0),
        );
        assert!(!is_relevant(&learnt));
        assert!(is_relevant(&bridge) && is_relevant(&proxy) && is_relevant(&link));
        assert!(is_relevant(&[learnt.clone(), link].concat()));
        assert!(!is_relevant(&[learnt.clone(), learnt].concat()));
        assert!(!is_relevant(&[]) && is_relevant(&[0; 16]), "what can't be read may be anything");
    }
}
