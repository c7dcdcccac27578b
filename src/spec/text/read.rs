//! A file's text: bounded, regular, UTF-8.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::document::Source;
use super::problem::Problem;

/// Longest file, in bytes.
pub(in crate::spec) const LONGEST_FILE: u64 = 4 * 1024 * 1024;

/// What standard input is called in messages.
pub(in crate::spec) const STDIN_NAME: &str = "<stdin>";

/// Reads a file, or standard input where `path` is `-` or `/dev/stdin`.
///
/// # Errors
/// Where it can't be read, isn't a regular file, is too long, or isn't text
/// in UTF-8. Pipes and devices are refused without being read, so none can
/// block.
pub(in crate::spec) fn read(path: &Path) -> Result<String, Problem> {
    let bytes = if is_stdin(path) { bounded(io::stdin().lock()) } else { regular(path) };
    let bytes = bytes.map_err(|error| {
        let (message, hint) = explain(&error);
        Problem::new(name(path), None, &message, Some(hint))
    })?;
    text(name(path), bytes)
}

/// Whether `path` means standard input.
pub(in crate::spec) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-") || path == Path::new("/dev/stdin")
}

/// What the file is called in messages.
pub(in crate::spec) fn name(path: &Path) -> &Path {
    if is_stdin(path) { Path::new(STDIN_NAME) } else { path }
}

/// Why a file's bytes can't be had.
enum Unreadable {
    Io(io::Error),
    Directory,
    NotRegular,
    TooLong,
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn regular(path: &Path) -> Result<Vec<u8>, Unreadable> {
    // Without NONBLOCK, opening a pipe waits for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?);
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(Unreadable::Directory);
    }
    if !metadata.is_file() {
        return Err(Unreadable::NotRegular);
    }
    if metadata.len() > LONGEST_FILE {
        return Err(Unreadable::TooLong);
    }
    bounded(file)
}

fn bounded(source: impl Read) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    let read = source.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if read as u64 > LONGEST_FILE { Err(Unreadable::TooLong) } else { Ok(bytes) }
}

fn explain(error: &Unreadable) -> (String, &'static str) {
    match error {
        Unreadable::Io(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "name a file that exists",
                io::ErrorKind::PermissionDenied => "run as root, or make the file readable",
                _ => "name a regular file",
            };
            let reason = error.raw_os_error().map_or_else(
                || error.to_string(),
                |code| rustix::io::Errno::from_raw_os_error(code).to_string(),
            );
            let reason = reason.split(" (os error").next().unwrap_or_default().to_lowercase();
            (format!("can't read it: {reason}"), hint)
        }
        Unreadable::Directory => ("it is a directory".into(), "name a file in it"),
        Unreadable::NotRegular => {
            ("it isn't a regular file".into(), "name a regular file, or - for standard input")
        }
        Unreadable::TooLong => (
            format!("it is longer than {} MiB", LONGEST_FILE / 1024 / 1024),
            "split it into drop-ins, or check that it is a host spec at all",
        ),
    }
}

fn text(name: &Path, bytes: Vec<u8>) -> Result<String, Problem> {
    const UTF8: &str = "save the file as UTF-8, without a byte order mark";
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Problem::new(name, None, "the file is UTF-16", Some(UTF8)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(valid).copied().unwrap_or_default();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let message = format!("the byte 0x{byte:02x} isn't UTF-8");
        Source::new(name.into(), text).problem(valid..valid + '\u{fffd}'.len_utf8(), &message, Some(UTF8))
    })?;
    if text.starts_with('\u{feff}') {
        return Err(Source::new(name.into(), text).problem(0..3, "a byte order mark", Some(UTF8)));
    }
    if let Some(at) = text.find('\0') {
        let hint = "remove it: a host spec is text";
        return Err(Source::new(name.into(), text).problem(at..at + 1, "a NUL byte", Some(hint)));
    }
    Ok(text)
}
