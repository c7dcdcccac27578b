//! As much HTTP/1.1 as a metadata service needs.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::netns::Netns;

/// Longest request or answer that is read, in bytes.
const LONGEST: usize = 8192;

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is answered to which path.
#[derive(Debug)]
pub(super) struct Routes(BTreeMap<String, String>);

impl Routes {
    pub(super) fn new(routes: &[(&str, &str)]) -> Self {
        Self(routes.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect())
    }

    /// The whole answer to a request, by its first line.
    fn answer(&self, request: &str) -> String {
        let mut words = request.split_ascii_whitespace();
        let text = match (words.next(), words.next()) {
            (Some("GET"), Some(path)) => self.0.get(path),
            _ => None,
        };
        let (status, text) = text.map_or(("404 Not Found", ""), |text| ("200 OK", text));
        let length = text.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}")
    }
}

/// Reads one request, answers it, closes.
pub(super) async fn answer(mut stream: tokio::net::TcpStream, routes: &Routes) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while request.len() < LONGEST && !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await??;
        match buffer.get(..length) {
            Some(bytes) if !bytes.is_empty() => request.extend_from_slice(bytes),
            _ => return Ok(()),
        }
    }
    stream.write_all(routes.answer(&String::from_utf8_lossy(&request)).as_bytes()).await?;
    stream.shutdown().await
}

/// Gets `path` from an HTTP server, from inside a namespace: the body of a
/// 200, at most 8 KiB.
///
/// # Errors
/// Those of connect(2) and of reading, a timeout, and every other status.
pub fn http_get(netns: &Netns, server: SocketAddr, path: &str, timeout: Duration) -> io::Result<String> {
    netns.try_run(|| {
        let end = Instant::now() + timeout;
        let left = || end.checked_duration_since(Instant::now()).ok_or(io::ErrorKind::TimedOut);
        let mut stream = TcpStream::connect_timeout(&server, timeout)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut buffer = [0; 1024];
        while answer.len() < LONGEST {
            stream.set_read_timeout(Some(left()?))?;
            match stream.read(&mut buffer)? {
                0 => break,
                length => answer.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) == Some("200") {
            Ok(body.to_owned())
        } else {
            Err(io::Error::other(format!("{server} answered {status:?} to {path}")))
        }
    })?
}
