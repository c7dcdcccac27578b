//! Lines from peers that aren't trusted: none is longer than a limit.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Reads lines of at most `max` bytes. Safe to cancel: what was read of an
/// unfinished line is kept.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    max: usize,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub fn new(reader: R, max: usize) -> Self {
        Self { reader, line: Vec::new(), max }
    }

    /// The next line without its end; `None` at the end of the stream, where
    /// an unfinished line is dropped.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok(None);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(available.len());
            if self.line.len() + taken > self.max {
                let message = format!("a line of more than {} bytes", self.max);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            self.line.extend_from_slice(available.get(..taken).unwrap_or_default());
            self.reader.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.line)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_split_and_bounded() {
        let mut lines =
            Lines::new(tokio::io::BufReader::with_capacity(3, &b"ab\n\nabcdef\nabcdefg\n"[..]), 6);
        assert_eq!(lines.next().await.unwrap(), Some(b"ab".to_vec()));
        assert_eq!(lines.next().await.unwrap(), Some(b"".to_vec()));
        assert_eq!(lines.next().await.unwrap(), Some(b"abcdef".to_vec()));
        assert!(lines.next().await.is_err());
    }

    #[tokio::test]
    async fn an_unfinished_line_is_none() {
        let mut lines = Lines::new(&b"ab\ncd"[..], 6);
        assert!(lines.next().await.unwrap().is_some());
        assert_eq!(lines.next().await.unwrap(), None);
    }
}
