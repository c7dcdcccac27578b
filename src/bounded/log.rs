//! A log that can't fill a disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

/// The log is put aside at this length, in bytes, as `<name>.1`; one old log
/// is kept.
pub(crate) const LOG_MAX: u64 = 1024 * 1024;

/// A log of at most twice [`LOG_MAX`]. What can't be written is lost: a full
/// disk stops nobody.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    length: u64,
}

impl Log {
    pub fn open(path: PathBuf) -> Self {
        let file = super::append(&path).ok();
        let length = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |file| file.len());
        Self { path, file, length }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        if self.length + bytes.len() as u64 > LOG_MAX {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            let _ = fs::rename(&self.path, old);
            *self = Self::open(std::mem::take(&mut self.path));
        }
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_ok()
        {
            self.length += bytes.len() as u64;
        }
    }
}
