//! A long-lived connection, to see whether a change of the firewall cuts it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::netns::Netns;

/// An open TCP connection to a [`super::Service::tcp`].
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    greeting: String,
    sent: u64,
}

impl Connection {
    /// Connects from inside a namespace and reads the service's line.
    ///
    /// # Errors
    /// Those of connect(2) and of reading; a timeout.
    pub fn open(netns: &Netns, server: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = netns.try_run(|| TcpStream::connect_timeout(&server, timeout))??;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        let mut connection = Self { stream: BufReader::new(stream), greeting: String::new(), sent: 0 };
        connection.greeting = connection.line()?;
        Ok(connection)
    }

    /// What the service said first: its name and whom it sees.
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// The client's own address.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().local_addr()
    }

    /// Sends a line and waits for it to come back.
    ///
    /// # Errors
    /// When it doesn't within `timeout`, or the connection is gone.
    pub fn ping(&mut self, timeout: Duration) -> io::Result<()> {
        self.sent += 1;
        let wanted = format!("ping {}", self.sent);
        self.stream.get_ref().set_read_timeout(Some(timeout))?;
        self.stream.get_mut().write_all(format!("{wanted}\n").as_bytes())?;
        // An answer to an earlier ping may come late.
        while self.line()? != wanted {}
        Ok(())
    }

    /// Whether a [`Connection::ping`] comes back within `timeout`.
    pub fn still_alive(&mut self, timeout: Duration) -> bool {
        self.ping(timeout).is_ok()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let mut bounded = io::Read::take(&mut self.stream, 512);
        if bounded.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}
