//! Opening a file that root was told to use, by a path on which others may
//! have a hand: nobody but root decides which file that is.
//!
//! A symbolic link is followed only where root alone can have placed it: it is
//! root's, in a directory that is root's and that nobody else writes to, and
//! so are all the directories that lead there. `/dev/disk/by-id`, `/nix/store`
//! and links of the operator's own are that; a link in a user's directory or
//! in `/tmp` isn't. The path is walked name by name, each directory held open,
//! so nothing is exchanged in between: what openat2(2) does with
//! RESOLVE_NO_SYMLINKS, and systemd's RestrictSUIDSGID= doesn't let it do.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};

use crate::private;

/// What is done with symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// Those that root alone can have placed are followed.
    Roots,
    /// None is followed.
    Never,
}

/// As many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// A file that was found, in its directory, which is held open.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// Without symbolic links.
    pub path: PathBuf,
    directory: Directory,
    name: OsString,
}

/// A directory on the way.
#[derive(Debug)]
struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    owner: u32,
    /// Whether root alone decides what is in it, and which directory it is.
    roots: bool,
    /// Whether others than its owner write to it.
    shared: bool,
}

/// Finds the file or directory `path`, which is absolute.
///
/// # Errors
/// Where there is none, or a symbolic link is on the way that isn't to be
/// followed.
pub(crate) fn find(path: &Path, links: Links) -> io::Result<Guarded> {
    if !path.is_absolute() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an absolute path"));
    }
    go(vec![Directory::root()?], parts(path), links)
}

/// Finds `path` below a directory of hostctl's own: where that one lies is the
/// operator's word (`--root-dir`), whoever else writes to what is above it.
///
/// # Errors
/// Those of [`find`].
pub(crate) fn find_below(directory: &Path, path: &Path, links: Links) -> io::Result<Guarded> {
    let directory = directory.canonicalize()?;
    let opened = File::open(&directory)?;
    private::close(&opened)?;
    let about = fstat(&opened)?;
    let ours = Directory::new(opened.into(), directory, &about, true);
    go(vec![Directory::root()?, ours], parts(path), links)
}

fn go(mut walk: Vec<Directory>, mut rest: VecDeque<OsString>, links: Links) -> io::Result<Guarded> {
    let mut followed = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            if walk.len() > 1 {
                walk.pop();
            }
            continue;
        }
        let Some(directory) = walk.last() else { break };
        let entry = look(&directory.fd, &name)?;
        let about = fstat(&entry)?;
        if FileType::from_raw_mode(about.st_mode) == FileType::Symlink {
            followed += 1;
            check_link(directory, &name, &about, links, followed)?;
            let target = PathBuf::from(OsString::from_vec(readlinkat(&entry, "", Vec::new())?.into_bytes()));
            if target.is_absolute() {
                walk.truncate(1);
            }
            let mut before = parts(&target);
            before.append(&mut rest);
            rest = before;
            continue;
        }
        if rest.is_empty() {
            let path = directory.path.join(&name);
            return Ok(Guarded { path, directory: walk.pop().ok_or_else(lost)?, name });
        }
        let next = directory.enter(entry, &name, &about);
        walk.push(next);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "no file's path"))
}

fn lost() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

/// A link's own descriptor, where it is one; `name` is a single component and
/// not `..`.
fn look(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn check_link(
    directory: &Directory,
    name: &OsStr,
    link: &Stat,
    links: Links,
    followed: usize,
) -> io::Result<()> {
    let path = directory.path.join(name);
    let refused = |why: &str| {
        let text = format!("{} is a symbolic link{why}: name the file that is meant", path.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    };
    if links == Links::Never {
        return refused("");
    }
    if link.st_uid != 0 || !directory.roots {
        return refused(" that others than root can have placed there");
    }
    if followed > LINKS_MAX {
        return Err(rustix::io::Errno::LOOP.into());
    }
    Ok(())
}

impl Directory {
    fn root() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, "/", flags, Mode::empty())?;
        let about = fstat(&fd)?;
        Ok(Self::new(fd, "/".into(), &about, true))
    }

    fn enter(&self, fd: OwnedFd, name: &OsStr, about: &Stat) -> Self {
        Self::new(fd, self.path.join(name), about, self.roots)
    }

    /// `within_roots`: whether the directory that it is in is root's.
    fn new(fd: OwnedFd, path: PathBuf, about: &Stat, within_roots: bool) -> Self {
        let mode = Mode::from_raw_mode(about.st_mode);
        let shared = mode.intersects(Mode::WGRP | Mode::WOTH);
        // Nix's store: a group adds to it, what is root's stays.
        let kept = mode.contains(Mode::SVTX) && !mode.contains(Mode::WOTH);
        let roots = within_roots && about.st_uid == 0 && (!shared || kept);
        Self { fd, path, owner: about.st_uid, roots, shared }
    }
}

impl Guarded {
    /// Opens it, without waiting for anybody: a FIFO in its place is opened
    /// too.
    ///
    /// # Errors
    /// Where it is gone, or somebody may have given a file of another's this
    /// name.
    pub fn open(&self, write: bool) -> io::Result<File> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&self.directory.fd, &self.name, flags, Mode::empty())?;
        let about = fstat(file.as_fd())?;
        let regular = FileType::from_raw_mode(about.st_mode) == FileType::RegularFile;
        let Directory { roots, shared, owner, .. } = self.directory;
        // link(2) gives away what its caller needn't be able to read.
        if regular && about.st_nlink > 1 && !roots && (shared || about.st_uid != owner) {
            let text = "it has further names (hard links), and others than root can have given it this one: \
                        copy it, or move it to a directory of root's";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(file.into())
    }
}

/// Finds and opens a file for reading.
///
/// # Errors
/// Those of [`find`] and [`Guarded::open`].
pub(crate) fn open(path: &Path, links: Links) -> io::Result<File> {
    find(path, links)?.open(false)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    const USER: u32 = 1234;

    /// A directory of root's with a secret, and one of a user's.
    fn scene() -> (tempfile::TempDir, PathBuf, PathBuf) {
        // All of /run's ways are root's, which /tmp's aren't.
        let dir = tempfile::tempdir_in("/run").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (roots, users) = (dir.path().join("roots"), dir.path().join("users"));
        for dir in [&roots, &users] {
            directory(dir, 0o755);
        }
        chown(&users, Some(USER), Some(USER)).unwrap();
        fs::write(roots.join("secret"), "secret").unwrap();
        fs::set_permissions(roots.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        (dir, roots, users)
    }

    /// Whatever the umask is.
    fn directory(path: &Path, mode: u32) {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn read(path: &Path) -> io::Result<String> {
        let mut text = String::new();
        open(path, Links::Roots)?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn refusal(path: &Path) -> String {
        let error = read(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        error.to_string()
    }

    #[test]
    fn a_users_link_is_refused_wherever_it_is_on_the_way() {
        let (_dir, roots, users) = scene();
        symlink(roots.join("secret"), users.join("disk")).unwrap();
        symlink(&roots, users.join("dir")).unwrap();
        assert!(refusal(&users.join("disk")).contains("name the file that is meant"));
        refusal(&users.join("dir/secret"));
        // Root's own link in a user's directory: the user decides where it is.
        lchown(users.join("disk"), Some(0), Some(0)).unwrap();
        refusal(&users.join("disk"));
        // A user's link in a directory of root's.
        symlink(roots.join("secret"), roots.join("users")).unwrap();
        lchown(roots.join("users"), Some(USER), Some(USER)).unwrap();
        refusal(&roots.join("users"));
        // By way of a link of root's.
        symlink(users.join("disk"), roots.join("there")).unwrap();
        refusal(&roots.join("there"));
        // A directory that everybody writes to, sticky or not.
        for mode in [0o777, 0o1777] {
            let all = roots.join(format!("all-{mode:o}"));
            directory(&all, mode);
            symlink(roots.join("secret"), all.join("link")).unwrap();
            refusal(&all.join("link"));
            // Nor below it, though that is root's own.
            directory(&all.join("below"), 0o755);
            symlink(roots.join("secret"), all.join("below/link")).unwrap();
            refusal(&all.join("below/link"));
        }
    }

    #[test]
    fn links_that_root_alone_placed_are_followed() {
        let (_dir, roots, _) = scene();
        symlink("secret", roots.join("relative")).unwrap();
        symlink(roots.join("relative"), roots.join("absolute")).unwrap();
        directory(&roots.join("sub"), 0o755);
        symlink("../secret", roots.join("sub/up")).unwrap();
        for link in ["relative", "absolute", "sub/up", "sub/../secret"] {
            assert_eq!(read(&roots.join(link)).unwrap(), "secret", "{link}");
            assert_eq!(find(&roots.join(link), Links::Roots).unwrap().path, roots.join("secret"), "{link}");
        }
        assert!(open(&roots.join("relative"), Links::Never).is_err());
        symlink("loop", roots.join("loop")).unwrap();
        assert_eq!(read(&roots.join("loop")).unwrap_err().raw_os_error(), Some(nix::libc::ELOOP));
        symlink("/nonexistent/file", roots.join("dangling")).unwrap();
        assert_eq!(read(&roots.join("dangling")).unwrap_err().kind(), io::ErrorKind::NotFound);
        // As Nix keeps its store.
        let store = roots.join("store");
        directory(&store, 0o1775);
        symlink(roots.join("secret"), store.join("kernel")).unwrap();
        assert_eq!(read(&store.join("kernel")).unwrap(), "secret");
    }

    #[test]
    fn a_users_own_file_is_used_and_anothers_by_a_hard_link_isnt() {
        let (_dir, roots, users) = scene();
        fs::write(users.join("disk"), "own").unwrap();
        chown(users.join("disk"), Some(USER), Some(USER)).unwrap();
        assert_eq!(read(&users.join("disk")).unwrap(), "own");
        fs::hard_link(users.join("disk"), users.join("backup")).unwrap();
        assert_eq!(read(&users.join("disk")).unwrap(), "own");
        fs::hard_link(roots.join("secret"), users.join("stolen")).unwrap();
        assert!(refusal(&users.join("stolen")).contains("hard links"));
        // In root's own directories they are root's affair.
        assert_eq!(read(&roots.join("secret")).unwrap(), "secret");
    }

    #[test]
    fn what_is_no_file_is_an_error() {
        let (dir, roots, _) = scene();
        assert!(read(Path::new("relative")).is_err());
        assert!(read(Path::new("/")).is_err());
        assert!(read(&roots.join("secret/file")).is_err());
        let kind = read(&dir.path().join("missing")).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::NotFound);
        assert!(read(Path::new("/proc/self/fd/0/x")).is_err());
    }
}
