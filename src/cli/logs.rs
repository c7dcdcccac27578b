//! `vm logs` and `app logs`: what a log holds, as it may be shown.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Args;
use hostctl::bounded::read_log;
use hostctl::shown::Stream;

use super::Failure;

/// What of a log, and how.
#[derive(Debug, Args)]
pub struct Shown {
    /// Go on printing what comes.
    #[arg(long, short)]
    follow: bool,
    /// Only the last N lines.
    #[arg(long, short = 'n', value_name = "N")]
    tail: Option<usize>,
    /// Only what was written since TIME: so long ago (`10m`, `2h`), or then
    /// (`2026-01-31T12:00:00Z`).
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<SystemTime>,
    /// Print every byte as it was written. Without this, what could steer a
    /// terminal or hide from its reader is replaced or named.
    #[arg(long)]
    raw: bool,
}

fn time(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(|| "before all time".into());
    }
    humantime::parse_rfc3339_weak(text)
        .map_err(|_| "neither so long ago (10m, 2h, 1day) nor a time (2026-01-31T12:00:00Z)".into())
}

impl Shown {
    /// Whether times have to be known.
    pub fn since(&self) -> Option<SystemTime> {
        self.since
    }

    /// Prints the log at `path`, of which `absent` is said where there is none.
    pub fn print(&self, path: &Path, absent: &str) -> Result<(), Failure> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::other(absent),
            _ => Failure::other(format!("{}: {error}", path.display())),
        };
        let (text, mut position) = read_log(path, self.since).map_err(failed)?;
        let mut stream = Stream::default();
        if !self.write(&mut stream, last(&text, self.tail))? {
            return Ok(());
        }
        if !self.follow {
            return self.end(&mut stream);
        }
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let mut log = match std::fs::File::open(path) {
                // Rotated just now, or its owner goes.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                result => result.map_err(failed)?,
            };
            // A rotated log begins anew under the same name.
            if log.metadata().map_err(failed)?.len() < position {
                position = 0;
            }
            log.seek(SeekFrom::Start(position)).map_err(failed)?;
            let mut text = Vec::new();
            position += log.read_to_end(&mut text).map_err(failed)? as u64;
            if !self.write(&mut stream, &text)? {
                return Ok(());
            }
        }
    }

    /// Prints text that isn't a file of its own.
    pub fn print_text(&self, text: &[u8]) -> Result<(), Failure> {
        let mut stream = Stream::default();
        self.write(&mut stream, last(text, self.tail))?;
        self.end(&mut stream)
    }

    fn end(&self, stream: &mut Stream) -> Result<(), Failure> {
        let rest = stream.finish();
        // Nobody may be listening any more.
        _ = std::io::stdout().write_all(rest.as_bytes());
        Ok(())
    }

    /// Whether somebody still reads.
    fn write(&self, stream: &mut Stream, text: &[u8]) -> Result<bool, Failure> {
        let mut stdout = std::io::stdout();
        let written =
            if self.raw { stdout.write_all(text) } else { stdout.write_all(stream.add(text).as_bytes()) };
        Ok(written.and_then(|()| stdout.flush()).is_ok())
    }
}

/// The last lines of a text; one that isn't finished is one.
fn last(text: &[u8], lines: Option<usize>) -> &[u8] {
    let Some(lines) = lines else { return text };
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let start = match lines {
        0 => text.len(),
        lines => ends.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0),
    };
    text.get(start..).unwrap_or_default()
}

/// The lines of a supervisor's log since a time: each begins with one, or belongs to
/// the one before.
pub fn lines_since(text: &[u8], since: SystemTime) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut on = false;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let word = line.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        if let Some(time) =
            std::str::from_utf8(word).ok().and_then(|word| humantime::parse_rfc3339_weak(word).ok())
        {
            on = time >= since;
        }
        if on {
            kept.extend_from_slice(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines() {
        let text = b"a\nb\nc\n";
        for (lines, wanted) in [(0, ""), (1, "c\n"), (2, "b\nc\n"), (3, "a\nb\nc\n"), (9, "a\nb\nc\n")] {
            assert_eq!(last(text, Some(lines)), wanted.as_bytes(), "{lines}");
        }
        assert_eq!(last(b"a\nb", Some(1)), b"b");
        assert_eq!(last(b"", Some(1)), b"");
        assert_eq!(last(text, None), text);
    }

    #[test]
    fn a_supervisors_lines_have_times() {
        let text = b"early\n2026-01-31T12:00:00.5Z  INFO a\n more\n2026-01-31T13:00:00Z  INFO b\n  of b\n";
        let since = humantime::parse_rfc3339_weak("2026-01-31T12:30:00Z").unwrap();
        assert_eq!(lines_since(text, since), b"2026-01-31T13:00:00Z  INFO b\n  of b\n");
        assert!(time("10m").is_ok() && time("2026-01-31T12:00:00Z").is_ok() && time("yesterday").is_err());
    }
}
