//! Services that say who they are and whom they see.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::netns::Netns;
use super::worker::Worker;
use super::{echo, http};

/// Connections that one service answers at a time; others wait.
const CONNECTIONS: usize = 256;

/// Peers remembered; older ones go first.
const KEPT: usize = 4096;

/// A running service; it ends when it is dropped.
#[derive(Debug)]
pub struct Service {
    name: String,
    address: SocketAddr,
    seen: Seen,
    _worker: Worker,
}

/// Whom a service has seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Mutex<VecDeque<SocketAddr>>>);

impl Seen {
    pub(super) fn add(&self, peer: SocketAddr) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() == KEPT {
            seen.pop_front();
        }
        seen.push_back(peer);
    }
}

impl Service {
    /// A TCP service that sends `<name> peer=<address>:<port>` and a line's
    /// end, then sends back what it gets until the client closes.
    ///
    /// An unspecified address of either family means both.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn tcp(netns: &Netns, name: &str, address: SocketAddr) -> io::Result<Self> {
        let greeting = name.to_owned();
        Self::listen(netns, name, address, async move |stream, peer| greet(stream, &greeting, peer).await)
    }

    /// An HTTP service that answers `GET` of the paths in `routes` with their
    /// texts, and everything else with 404.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn http(netns: &Netns, name: &str, address: SocketAddr, routes: &[(&str, &str)]) -> io::Result<Self> {
        let routes = http::Routes::new(routes);
        Self::listen(netns, name, address, async move |stream, _| http::answer(stream, &routes).await)
    }

    /// A UDP service that answers each datagram with the line of
    /// [`Service::tcp`] and the datagram's own bytes.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn udp(netns: &Netns, name: &str, address: SocketAddr) -> io::Result<Self> {
        let seen = Seen::default();
        let (worker, address) = echo::start(netns, name, both_families(address), seen.clone())?;
        Ok(Self { name: name.into(), address, seen, _worker: worker })
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The peers it has seen, oldest first; at most 4096 of them. An address
    /// that should have been masqueraded shows here.
    pub fn seen(&self) -> Vec<SocketAddr> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    fn listen(
        netns: &Netns,
        name: &str,
        address: SocketAddr,
        answer: impl AsyncFn(TcpStream, SocketAddr) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let address = both_families(address);
        // The socket stays in the namespace it was made in, and so does what
        // it accepts: only this call has to be made inside.
        let listener = netns.try_run(|| TcpListener::bind(address))?.map_err(|error| {
            io::Error::new(error.kind(), format!("{name} can't listen on {address}: {error}"))
        })?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let seen = Seen::default();
        let theirs = seen.clone();
        let worker = Worker::spawn_async("service", move || accept(listener, theirs, answer))?;
        Ok(Self { name: name.into(), address, seen, _worker: worker })
    }
}

/// The services every player of the world offers: TCP 80 and 22, UDP 7.
///
/// # Errors
/// Those of bind(2).
pub fn usual_services(netns: &Netns, name: &str) -> io::Result<Vec<Service>> {
    let any = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    Ok(vec![
        Service::tcp(netns, name, any(80))?,
        Service::tcp(netns, name, any(22))?,
        Service::udp(netns, name, any(7))?,
    ])
}

/// `[::]` for either unspecified address: one socket for both families.
fn both_families(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port())
    } else {
        address
    }
}

/// The address as its own family writes it: `::ffff:a.b.c.d` is IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The line a service identifies itself with.
pub(super) fn greeting(name: &str, peer: SocketAddr) -> String {
    format!("{name} peer={peer}\n")
}

async fn accept(
    listener: TcpListener,
    seen: Seen,
    answer: impl AsyncFn(TcpStream, SocketAddr) -> io::Result<()> + 'static,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let answer = std::rc::Rc::new(answer);
    let local = tokio::task::LocalSet::new();
    let accepting = async {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let Ok((stream, peer)) = listener.accept().await else { continue };
            let peer = canonical(peer);
            seen.add(peer);
            let answer = std::rc::Rc::clone(&answer);
            tokio::task::spawn_local(async move {
                // A client that goes away is no error of the service's.
                let _ = answer(stream, peer).await;
                drop(slot);
            });
        }
    };
    local.run_until(accepting).await;
}

async fn greet(mut stream: TcpStream, name: &str, peer: SocketAddr) -> io::Result<()> {
    stream.write_all(greeting(name, peer).as_bytes()).await?;
    let mut buffer = [0; 1024];
    loop {
        let length = stream.read(&mut buffer).await?;
        match buffer.get(..length) {
            Some(bytes) if !bytes.is_empty() => stream.write_all(bytes).await?,
            _ => return Ok(()),
        }
    }
}
