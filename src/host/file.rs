//! Files that are replaced whole: a crash leaves the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::bounded::create;
use crate::private;

use super::kill_point::kill_point;

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
    private::directory(directory)?;
    let name = name.to_string_lossy();
    kill_point(&format!("before {name} is written"));
    let draft = directory.join(format!(".{name}.new"));
    let write = || -> io::Result<()> {
        let mut file = create(&draft)?;
        let (start, end) = text.as_bytes().split_at(text.len() / 2);
        file.write_all(start)?;
        kill_point(&format!("half of {name} is written"));
        file.write_all(end)?;
        file.sync_all()?;
        kill_point(&format!("{name} is written and not in its place"));
        fs::rename(&draft, path)
    };
    write().inspect_err(|_| {
        // Where there is no room, half of it takes up some.
        _ = fs::remove_file(&draft);
    })?;
    kill_point(&format!("{name} is in its place"));
    File::open(directory)?.sync_all()
}

/// Removes `path`, where it exists, for good.
///
/// # Errors
/// Where it can't be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    kill_point("before a file is removed");
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    }
    kill_point("after a file is removed");
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}
