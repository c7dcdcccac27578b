//! Reading and writing with an end: whatever comes from a guest, an app or a
//! socket could be endless.

mod lines;
mod log;
mod read_log;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

use crate::{private, shown};

pub(crate) use lines::Lines;
#[cfg(test)]
pub(crate) use log::LOG_MAX;
pub(crate) use log::Log;
pub use read_log::read_log;

/// A new, empty log that only root may read, also where there was another: as
/// lines come they are in it, whole or not.
pub(crate) fn new_log(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path)?;
    private::close(&file)?;
    Ok(file)
}

/// A log that only root may read, to be written at its end.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path)?;
    private::close(&file)?;
    Ok(file)
}

/// Reads a regular file of at most `max` bytes.
pub(crate) fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // Room for most: files under /proc have no length to go by.
    let mut text = Vec::with_capacity(4096);
    // O_NONBLOCK: a FIFO in the file's place must not keep us waiting.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    file.take(max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes")));
    }
    Ok(text)
}

/// At most `max` characters of what somebody else said, in one line and as it may
/// be shown: it ends up in logs and on terminals.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let start: String = text.chars().take(max).collect();
    shown::line(&start).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_are_made_harmless() {
        assert_eq!(printable("a\x1b[2Jb\r\n", 80), "a [2Jb");
        assert_eq!(printable("ééé", 2), "éé");
    }
}
