//! A directory's files, and nothing outside of it: the kernel resolves paths
//! beneath the directory's descriptor (openat2(2), RESOLVE_BENEATH), so that
//! neither `..` nor a symbolic link leads out, whoever changes the directory
//! meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// The most entries of a listing.
const ENTRIES_MAX: usize = 1000;

/// The directory that is served.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// What a path names.
#[derive(Debug)]
pub(super) enum Found {
    File {
        file: File,
        /// Bytes.
        length: u64,
    },
    Directory {
        index: Option<(File, u64)>,
        entries: Vec<String>,
    },
}

pub(super) fn open_root(path: &Path) -> io::Result<Root> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(Root(rustix::fs::open(path, flags, Mode::empty())?))
}

/// The path of a request as one beneath the root: decoded, without a leading
/// slash. `None` for what is never served: hidden files, `..`, NULs.
pub(super) fn relative(path: &str) -> Option<String> {
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    let path = String::from_utf8(bytes).ok()?;
    if path.contains('\0') {
        return None;
    }
    // An encoded slash parts names like any other.
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    if names.iter().any(|name| name.starts_with('.')) {
        return None;
    }
    Some(names.join("/"))
}

impl Root {
    /// What lies at `path`, which is from [`relative`]; `None` where there is
    /// nothing that may be served.
    pub fn find(&self, path: &str) -> Option<Found> {
        let file = self.open(path)?;
        let stat = fstat(&file).ok()?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                Some(Found::File { file: file.into(), length: u64::try_from(stat.st_size).ok()? })
            }
            FileType::Directory => {
                let index = if path.is_empty() { "index.html".into() } else { format!("{path}/index.html") };
                let index = match self.open(&index) {
                    Some(file) => regular(file),
                    None => None,
                };
                let entries = if index.is_none() { entries(&file).ok()? } else { Vec::new() };
                Some(Found::Directory { index, entries })
            }
            // No device, and no pipe that would keep us waiting.
            _ => None,
        }
    }

    fn open(&self, path: &str) -> Option<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.0, path, flags, Mode::empty(), resolve).ok()
    }
}

fn regular(file: OwnedFd) -> Option<(File, u64)> {
    let stat = fstat(&file).ok()?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Some((file.into(), u64::try_from(stat.st_size).ok()?)).filter(|_| regular)
}

/// Names that may be asked for; a directory's ends with a slash.
fn entries(directory: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)?.take(ENTRIES_MAX) {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !name.starts_with('.') {
            let slash = if entry.file_type() == FileType::Directory { "/" } else { "" };
            names.push(format!("{name}{slash}"));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_are_decoded_and_never_lead_up() {
        assert_eq!(relative("/").as_deref(), Some(""));
        assert_eq!(relative("/a//b/").as_deref(), Some("a/b"));
        assert_eq!(relative("/a%20b%2fc").as_deref(), Some("a b/c"));
        for path in ["/..", "/a/../b", "/%2e%2e/x", "/..%2fx", "/.git/config", "/%00", "/a/.", "/%ff"] {
            assert_eq!(relative(path), None, "{path}");
        }
    }

    #[test]
    fn nothing_outside_and_nothing_but_files() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("page"), "text").unwrap();
        fs::write(dir.path().join(".hidden"), "h").unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("absolute")).unwrap();
        symlink("../../../../../../etc/passwd", dir.path().join("sub/relative")).unwrap();
        symlink("../page", dir.path().join("sub/inside")).unwrap();
        symlink("/proc/self/root", dir.path().join("magic")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let root = open_root(dir.path()).unwrap();
        assert!(matches!(root.find("page"), Some(Found::File { length: 4, .. })));
        assert!(matches!(root.find("sub/inside"), Some(Found::File { length: 4, .. })));
        for path in ["absolute", "sub/relative", "../x", "magic", "magic/etc/passwd", "pipe", "none"] {
            assert!(root.find(path).is_none(), "{path}");
        }
        let Some(Found::Directory { index: None, entries }) = root.find("") else { panic!() };
        assert_eq!(entries, ["absolute", "magic", "page", "pipe", "sub/"]);
        fs::write(dir.path().join("sub/index.html"), "<p>").unwrap();
        assert!(matches!(root.find("sub"), Some(Found::Directory { index: Some((_, 3)), .. })));
    }
}
