//! Files that are replaced whole: a crash leaves the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::bounded::create;
use crate::private;

use crate::host::kill_point::kill_point;

/// Replaces `path` by `text`, and makes its directory where there is none.
///
/// # Errors
/// Where it can't be written; the old file is there then.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    Draft::write(path, text)?.place()
}

/// A file that is written and not yet in its place, beside which it is hidden,
/// so that nobody takes it for a file of the directory's. Gone when it is
/// dropped: where there is no room, what isn't used takes up some.
#[derive(Debug)]
pub struct Draft {
    draft: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Writes it; there is room for it from now on.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write(path: &Path, text: &str) -> io::Result<Self> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        private::directory(directory)?;
        let name = name.to_string_lossy();
        kill_point(&format!("before {name} is written"));
        let written = Self { draft: directory.join(format!(".{name}.new")), path: path.into() };
        let mut file = create(&written.draft)?;
        let (start, end) = text.as_bytes().split_at(text.len() / 2);
        file.write_all(start)?;
        kill_point(&format!("half of {name} is written"));
        file.write_all(end)?;
        file.sync_all()?;
        kill_point(&format!("{name} is written and not in its place"));
        Ok(written)
    }

    /// Puts it in its place, in one step.
    ///
    /// # Errors
    /// Where it can't be moved; the old file is there then.
    pub fn place(self) -> io::Result<()> {
        fs::rename(&self.draft, &self.path)?;
        kill_point(&format!("{} is in its place", self.path.display()));
        self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.draft);
    }
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
