//! A log that can't fill a disk, and tells when what was written.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The log is put aside at this length, in bytes, as `<name>.1`; one old log
/// is kept.
pub(crate) const LOG_MAX: u64 = 1024 * 1024;

/// And when it has so many marks of time, each of at most 40 bytes.
const MARKS_MAX: u64 = 16 * 1024;

/// A log of at most twice [`LOG_MAX`]. What can't be written is lost: a full
/// disk stops nobody. Beside it lies `<name>.times`: lines of a time in seconds
/// after the epoch and the offset of what was written from then on, at most one a
/// second.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    times: Option<File>,
    marks: u64,
    /// The second of the last mark.
    marked: u64,
}

/// `path` with an ending more.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(ending);
    name.into()
}

impl Log {
    pub fn open(path: PathBuf) -> Self {
        let file = super::append(&path).ok();
        let length = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |file| file.len());
        let times = super::append(&beside(&path, ".times")).ok();
        let marks = times.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |file| file.len() / 12);
        Self { path, file, length, times, marks, marked: 0 }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        self.append_at(bytes, SystemTime::now());
    }

    fn append_at(&mut self, bytes: &[u8], now: SystemTime) {
        if self.length + bytes.len() as u64 > LOG_MAX || self.marks >= MARKS_MAX {
            let _ = fs::rename(&self.path, beside(&self.path, ".1"));
            let _ = fs::rename(beside(&self.path, ".times"), beside(&self.path, ".times.1"));
            *self = Self::open(std::mem::take(&mut self.path));
        }
        self.mark(now);
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_ok()
        {
            self.length += bytes.len() as u64;
        }
    }

    fn mark(&mut self, now: SystemTime) {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second == self.marked {
            return;
        }
        self.marked = second;
        if let Some(times) = &mut self.times
            && writeln!(times, "{second} {}", self.length).is_ok()
        {
            self.marks += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::read_log;
    use super::*;

    #[test]
    fn what_was_written_since_is_found_also_in_the_old_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let at = |second: u64| UNIX_EPOCH + Duration::from_secs(1_000_000_000 + second);
        let mut log = Log::open(path.clone());
        for second in 0..100 {
            log.append_at(format!("line {second}\n").as_bytes(), at(second));
            log.append_at(b"again\n", at(second) + Duration::from_millis(700));
        }
        let since = |second: u64| String::from_utf8(read_log(&path, Some(at(second))).unwrap().0).unwrap();
        assert_eq!(since(98), "line 98\nagain\nline 99\nagain\n");
        assert_eq!(since(100), "");
        assert_eq!(since(0).lines().count(), 200);
        // A supervisor that takes over writes on.
        let mut log = Log::open(path.clone());
        log.append_at(b"taken over\n", at(200));
        assert_eq!(since(150), "taken over\n");
        log.append_at(&vec![b'x'; LOG_MAX as usize - 100], at(300));
        log.append_at(b"new\n", at(400));
        assert!(path.with_extension("1").exists());
        assert_eq!(since(400), "new\n");
        assert!(since(200).starts_with("taken over\n") && since(200).ends_with("xnew\n"));
        assert!(read_log(&path, None).unwrap().0.starts_with(b"line 0\n"));
    }

    #[test]
    fn who_writes_a_byte_a_second_fills_nothing_either() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(path.clone());
        for second in 0..3 * MARKS_MAX {
            log.append_at(b"x", UNIX_EPOCH + Duration::from_secs(second + 1));
        }
        let length = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
        assert!(length("log.times") <= 40 * MARKS_MAX && length("log.times.1") <= 40 * MARKS_MAX);
    }
}
