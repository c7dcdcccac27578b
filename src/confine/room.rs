//! The mount namespace of a confined program: a root of its own, which holds
//! the files that it is to see, read-only, and two small places to write to.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount,
};

use super::view::{Seen, below_root};

/// Where programs expect to be able to write, each with its size in bytes.
const SCRATCH: [(&str, u64); 2] = [("tmp", 16 << 20), ("dev/shm", 16 << 20)];
/// Files and directories in such a place.
const SCRATCH_FILES: u64 = 1024;
/// The root holds directories to mount on and nothing else.
const ROOT_SIZE: u64 = 1 << 20;

/// A room that couldn't be made.
#[derive(Debug)]
pub(super) struct RoomError {
    /// What was tried.
    pub action: String,
    pub source: io::Error,
}

fn failed<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> RoomError {
    move |error| RoomError { action: action.into(), source: error.into() }
}

/// Moves the calling thread, which has just been given a mount namespace of
/// its own, into a room with `seen`. `/proc` is an empty directory: only a
/// process in the program's pid namespace can mount it.
pub(super) fn enter(seen: &[Seen]) -> Result<(), RoomError> {
    // What is mounted from now on shows nowhere else.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("part with the host's mounts"))?;
    // All of them are held before the root covers any.
    let taken = seen.iter().map(take).collect::<Result<Vec<_>, _>>()?;
    let links = seen.iter().filter_map(link).collect::<Vec<_>>();
    let root = scratch(ROOT_SIZE, SCRATCH_FILES, "0755").map_err(failed("make a root"))?;
    attach(&root, Path::new("/")).map_err(failed("mount a root"))?;
    rustix::process::fchdir(&root).map_err(failed("enter the root"))?;
    for (path, target) in links {
        parents(&path)?;
        std::os::unix::fs::symlink(target, &path).map_err(failed(format!("link /{}", path.display())))?;
    }
    for (path, size) in SCRATCH {
        directory(Path::new(path))?;
        let place = scratch(size, SCRATCH_FILES, "1777").map_err(failed(format!("make /{path}")))?;
        attach(&place, Path::new(path)).map_err(failed(format!("mount /{path}")))?;
    }
    for Taken { tree, path, directory: is_directory } in taken.iter().flatten() {
        if *is_directory {
            directory(path)?;
        } else {
            parents(path)?;
            File::create(path).map_err(failed(format!("make /{}", path.display())))?;
        }
        attach(tree, path).map_err(failed(format!("mount /{}", path.display())))?;
    }
    directory(Path::new("proc"))?;
    set_attributes(root.as_fd(), RDONLY | NOSUID | NODEV | NOEXEC, false)
        .map_err(failed("make the root read-only"))?;
    // pivot_root(2): with both the same, the old root lies on the new one.
    nix::unistd::pivot_root(".", ".").map_err(failed("change the root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("leave the host's files"))?;
    rustix::process::chdir("/").map_err(failed("enter the root"))
}

struct Taken {
    tree: OwnedFd,
    /// Below the root.
    path: PathBuf,
    directory: bool,
}

/// A read-only copy of a host's mount; `None` for what isn't there, or is a
/// symbolic link.
fn take(seen: &Seen) -> Result<Option<Taken>, RoomError> {
    let Some(path) = below_root(&seen.path) else { return Ok(None) };
    let file = match fs::symlink_metadata(&seen.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed(format!("look at {}", seen.path.display())))?,
    };
    if file.file_type().is_symlink() {
        return Ok(None);
    }
    let copy = || -> io::Result<OwnedFd> {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(CWD, &seen.path, flags | OpenTreeFlags::AT_SYMLINK_NOFOLLOW)?;
        // A device can be written to on a read-only mount, but not changed.
        let attributes = if seen.device { RDONLY | NOSUID | NOEXEC } else { RDONLY | NOSUID | NODEV };
        set_attributes(tree.as_fd(), attributes, true)?;
        Ok(tree)
    };
    let tree = copy().map_err(failed(format!("take {}", seen.path.display())))?;
    Ok(Some(Taken { tree, path, directory: file.is_dir() }))
}

/// `/lib` → `usr/lib`: a link of root's is made again, relative to the room.
fn link(seen: &Seen) -> Option<(PathBuf, PathBuf)> {
    let file = fs::symlink_metadata(&seen.path).ok()?;
    let roots = file.file_type().is_symlink() && file.uid() == 0;
    roots.then(|| Some((below_root(&seen.path)?, fs::read_link(&seen.path).ok()?))).flatten()
}

fn parents(path: &Path) -> Result<(), RoomError> {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or(Ok(()), directory)
}

/// Makes a directory that everybody may look into, whatever the umask.
fn directory(path: &Path) -> Result<(), RoomError> {
    let make = |path: &Path| -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            result => result?,
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    };
    let mut ways: Vec<&Path> = path.ancestors().filter(|way| !way.as_os_str().is_empty()).collect();
    ways.reverse();
    ways.into_iter().try_for_each(make).map_err(failed(format!("make /{}", path.display())))
}

/// A small file system in memory, not mounted yet.
fn scratch(size: u64, files: u64, mode: &str) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", "hostctl")?;
    fsconfig_set_string(context.as_fd(), "size", size.to_string())?;
    fsconfig_set_string(context.as_fd(), "nr_inodes", files.to_string())?;
    fsconfig_set_string(context.as_fd(), "mode", mode)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn attach(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    Ok(move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// `linux/mount.h`.
const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;

/// mount_setattr(2): of one mount, or of all that are below it.
fn set_attributes(tree: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    /// `struct mount_attr`.
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let wanted = Attributes { set: attributes, clear: 0, propagation: 0, user_namespace: 0 };
    let recurse = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads a string and a struct of the length it is told;
    // both outlive the call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recurse,
            &raw const wanted,
            size_of::<Attributes>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
