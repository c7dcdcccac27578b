//! Files that are replaced whole: a crash leaves the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` by `text`, and makes its directory where there is none.
/// The draft beside it is hidden, so that nobody takes it for a file of the
/// directory's.
///
/// # Errors
/// Where it can't be written; the old file is there then.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(directory)?;
    let draft = directory.join(format!(".{}.new", name.to_string_lossy()));
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(directory)?.sync_all()
}

/// Removes `path`, where it exists.
///
/// # Errors
/// Where it can't be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
