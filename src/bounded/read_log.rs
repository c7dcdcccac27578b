//! A log and the one before it, from a time on.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::log::{LOG_MAX, beside};
use super::read_bounded;

/// More than a log's marks of time take.
const TIMES_MAX: u64 = 2 * 1024 * 1024;

/// What the log at `path` holds, the older part first: all of it, or what was
/// written since a time (to within a second; where nobody wrote down when, all).
/// With it the length of the newer file, to go on from.
///
/// # Errors
/// Where there is no such log, or it can't be read.
pub fn read_log(path: &Path, since: Option<SystemTime>) -> io::Result<(Vec<u8>, u64)> {
    // A log is rotated between its parts at worst: then a part is missing.
    let mut old = match read_bounded(&beside(path, ".1"), 2 * LOG_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        result => result?,
    };
    let new = read_bounded(path, 2 * LOG_MAX)?;
    let length = new.len() as u64;
    let Some(since) = since else {
        old.extend_from_slice(&new);
        return Ok((old, length));
    };
    let from = |ending: &str, length: usize| {
        let times = read_bounded(&beside(path, ending), TIMES_MAX).ok()?;
        let times = String::from_utf8_lossy(&times).into_owned();
        if times.is_empty() {
            return None;
        }
        let second = since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let marks = times.lines().filter_map(|line| {
            let (time, offset) = line.split_once(' ')?;
            Some((time.parse::<u64>().ok()?, offset.parse::<usize>().ok()?))
        });
        let first = marks.into_iter().find(|(time, _)| *time >= second);
        Some(first.map_or(length, |(_, offset)| offset))
    };
    let old_from = from(".times.1", old.len()).unwrap_or(0);
    let mut wanted = old.get(old_from..).unwrap_or_default().to_vec();
    let new_from = from(".times", new.len()).unwrap_or(0);
    wanted.extend_from_slice(new.get(new_from..).unwrap_or_default());
    Ok((wanted, length))
}
