//! Files that are replaced whole: a crash, of the program or of the machine,
//! leaves the old one or the new one. The one way in which hostctl writes files
//! that somebody reads later.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::kill_point::kill_point;
use crate::private;

/// Replaces `path` by `bytes`, for root alone, and makes its directory where
/// there is none.
///
/// # Errors
/// Where it can't be written; the old file is there then.
pub(crate) fn replace(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    Draft::write(path, bytes)?.place()
}

/// A file that is written and not yet in its place, beside which it is hidden,
/// so that nobody takes it for a file of the directory's. Gone when it is
/// dropped: where there is no room, what isn't used takes up some.
#[derive(Debug)]
pub(crate) struct Draft {
    draft: PathBuf,
    path: PathBuf,
    placed: bool,
}

impl Draft {
    /// Writes it; there is room for it from now on.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<Self> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        private::directory(directory)?;
        let name = name.to_string_lossy();
        kill_point(&format!("before {name} is written"));
        let written =
            Self { draft: directory.join(format!(".{name}.new")), path: path.into(), placed: false };
        // What a killed one left is nobody's: not written into, and no link followed.
        gone(fs::remove_file(&written.draft))?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&written.draft)?;
        let (start, end) = bytes.as_ref().split_at(bytes.as_ref().len() / 2);
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
    pub fn place(mut self) -> io::Result<()> {
        rename(&self.draft, &self.path)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            _ = fs::remove_file(&self.draft);
        }
    }
}

/// Moves a file to another name of its directory, in place of what was there.
///
/// # Errors
/// Where it can't be moved; both are as they were then.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    kill_point(&format!("{} is in its place", to.display()));
    sync_directory(to)
}

/// Removes `path`, where it exists, for good.
///
/// # Errors
/// Where it can't be removed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    kill_point("before a file is removed");
    if gone(fs::remove_file(path))? {
        kill_point("after a file is removed");
        sync_directory(path)?;
    }
    Ok(())
}

/// Whether a file that was to be removed was there.
fn gone(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|()| true),
    }
}

/// A name is on the disk once its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_is_roots_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/kept.json");
        replace(&path, "one").unwrap();
        let reader = File::open(&path).unwrap();
        let draft = Draft::write(&path, "two, which is longer").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        draft.place().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two, which is longer");
        // Who reads the old one goes on reading it.
        assert_eq!(io::read_to_string(reader).unwrap(), "one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(path.parent().unwrap()), ["kept.json"]);
    }

    #[test]
    fn a_draft_that_isnt_placed_or_cant_be_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept.json");
        replace(&path, "one").unwrap();
        drop(Draft::write(&path, "two").unwrap());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(directory.path()).len()), ("one", 1));
        let taken = directory.path().join("taken");
        fs::create_dir_all(taken.join("by a directory")).unwrap();
        replace(&taken, "two").unwrap_err();
        assert_eq!(names(directory.path()), ["kept.json", "taken"]);
    }

    #[test]
    fn what_lies_where_the_draft_goes_is_not_written_into() {
        let directory = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (directory.path().join("kept.json"), directory.path().join("elsewhere"));
        fs::write(&elsewhere, "another's").unwrap();
        for lay in
            [|from: &Path, to: &Path| symlink(from, to), |from: &Path, to: &Path| fs::hard_link(from, to)]
        {
            lay(&elsewhere, &directory.path().join(".kept.json.new")).unwrap();
            replace(&path, "one").unwrap();
            assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "another's");
            assert_eq!(names(directory.path()), ["elsewhere", "kept.json"]);
        }
    }

    #[test]
    fn to_remove_what_isnt_there_is_no_mistake() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("kept.json"), directory.path().join("other"));
        replace(&path, "one").unwrap();
        rename(&path, &other).unwrap();
        remove(&path).unwrap();
        remove(&other).unwrap();
        assert_eq!(names(directory.path()), Vec::<String>::new());
    }
}
