//! The web server room: a payload that apps can be, and knows nothing of them.
//! A directory's files, or a page that greets, in a process of its own. HTTP/1.1
//! by hyper; here are the limits that keep one client from taking it from the
//! others.

mod answer;
mod files;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::confine::User;

use answer::Site;

/// Connections at a time; further ones wait in the socket's queue.
const CONNECTIONS_MAX: usize = 256;
/// Connections at a time from one address; further ones are closed.
const CLIENT_MAX: usize = 32;
/// How long a client may take to send a request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may last, however slowly it reads.
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);
/// The largest head of a request, in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// The most lines in it.
const HEADERS_MAX: usize = 64;
const BACKLOG: i32 = 128;

/// What is served, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// TCP port, IPv4 and IPv6.
    pub port: u16,
    /// The directory that is served. Files that the user may not read aren't.
    pub directory: Option<PathBuf>,
    /// What the page says where there is no directory.
    pub greeting: String,
}

/// Why it can't serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It can't have its port.
    #[error("can't listen on TCP port {port}: {source}")]
    Listen {
        /// The port.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It can't open its directory.
    #[error("can't serve {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It is root still.
    #[error("can't give up root: {0}")]
    User(io::Error),
}

/// Serves until the process ends: on all addresses, IPv4 and IPv6. Once it
/// listens the process is `user` for good.
///
/// # Errors
/// Where the port is taken, the directory can't be opened, or the user can't
/// be changed.
pub async fn serve(server: &Server, user: User) -> Result<(), ServeError> {
    let listen = |source| ServeError::Listen { port: server.port, source };
    let listener = std::net::TcpListener::from(bind_port(server.port).map_err(listen)?);
    let listener = TcpListener::from_std(listener).map_err(listen)?;
    // Opened before the user changes: what leads to it may be root's alone.
    let site = Arc::new(match &server.directory {
        Some(path) => Site::Files(files::open_root(path).map_err(|source| {
            let path = path.clone();
            ServeError::Directory { path, source }
        })?),
        None => Site::page(&server.greeting),
    });
    user.become_for_good().map_err(ServeError::User)?;
    accept(listener, site).await;
    Ok(())
}

/// Both families with one socket; IPv4 alone where there is no IPv6.
fn bind_port(port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let open = |family| socket_with(family, SocketType::STREAM, flags, None);
    let (socket, address) = match open(AddressFamily::INET6) {
        Ok(socket) => {
            sockopt::set_ipv6_v6only(&socket, false)?;
            (socket, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
        }
        Err(rustix::io::Errno::AFNOSUPPORT) => {
            (open(AddressFamily::INET)?, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        }
        Err(error) => return Err(error.into()),
    };
    // A restart doesn't wait for the last connections' TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, site: Arc<Site>) {
    let mut connections = JoinSet::new();
    let clients = Clients::default();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
            continue;
        }
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors, or a client that left already.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if let Some(slot) = clients.enter(peer.ip()) {
            let site = site.clone();
            connections.spawn(async move {
                let _ = tokio::time::timeout(CONNECTION_LIMIT, converse(stream, site)).await;
                drop(slot);
            });
        }
    }
}

async fn converse(stream: TcpStream, site: Arc<Site>) {
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(&request)) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    http.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    // What a client did wrong is its own affair.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// How many connections each address has.
#[derive(Debug, Clone, Default)]
struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of a client's connections.
#[derive(Debug)]
struct Slot {
    clients: Clients,
    address: IpAddr,
}

impl Clients {
    /// A slot for one more connection; `None` where the client has enough.
    fn enter(&self, address: IpAddr) -> Option<Slot> {
        let address = one_client(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= CLIENT_MAX {
            return None;
        }
        *count += 1;
        Some(Slot { clients: self.clone(), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// An IPv6 client has a /64 to choose addresses from (RFC 4291, section 2.5.1).
fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_connections_and_gets_them_back() {
        let clients = Clients::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let slots: Vec<_> = (0..CLIENT_MAX).map(|_| clients.enter(address("10.0.0.1")).unwrap()).collect();
        assert!(clients.enter(address("::ffff:10.0.0.1")).is_none(), "the same client");
        assert!(clients.enter(address("10.0.0.2")).is_some());
        drop(slots);
        assert!(clients.0.lock().unwrap().is_empty());
        let _slot = clients.enter(address("2001:db8::1")).unwrap();
        let _other = clients.enter(address("2001:db8::2")).unwrap();
        assert_eq!(clients.0.lock().unwrap().len(), 1);
    }
}
