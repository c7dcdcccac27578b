//! The runtime files of one VM: `<run>/vms/NAME/`, root's alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::root_dir::RootDir;
use crate::topology::Name;

use super::error::VmError;

pub(super) const LOCK: &str = "lock";
pub(super) const DESIRED: &str = "vm.json";
pub(super) const LAUNCH: &str = "launch.json";
pub(super) const FAILURE: &str = "failure.json";
pub(super) const QMP: &str = "qmp.sock";
pub(super) const AGENT: &str = "agent.sock";
pub(super) const SERIAL: &str = "serial.sock";
pub(super) const CONTROL: &str = "control.sock";
pub(super) const CONSOLE: &str = "console.sock";
pub(super) const CONSOLE_LOG: &str = "console.log";
pub(super) const QEMU_LOG: &str = "qemu.log";
pub(super) const SUPERVISOR_LOG: &str = "supervisor.log";

/// The longest runtime file that is read, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// One VM's directory, held open.
#[derive(Debug)]
pub(super) struct RuntimeDir {
    path: PathBuf,
    fd: OwnedFd,
}

/// Makes the holder the VM's only supervisor, until it is dropped.
#[derive(Debug)]
pub(super) struct SupervisorLock {
    _file: File,
}

impl RuntimeDir {
    /// Makes the directory where it isn't there; mode 0700.
    pub fn create(root: &RootDir, name: &Name) -> Result<Self, VmError> {
        let path = root.vm(name.as_str());
        let run = root.run();
        DirBuilder::new().recursive(true).mode(0o755).create(&run).map_err(VmError::file("make", &run))?;
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&path).map_err(VmError::file("make", &path))?;
        Self::open_path(path)
    }

    /// The directory, where there is one.
    pub fn open(root: &RootDir, name: &Name) -> Result<Option<Self>, VmError> {
        match Self::open_path(root.vm(name.as_str())) {
            Ok(dir) => Ok(Some(dir)),
            Err(VmError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open_path(path: PathBuf) -> Result<Self, VmError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let open = || -> io::Result<OwnedFd> {
            let fd = rustix::fs::open(&path, flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&fd)?;
            // Its sockets command QEMU: nobody else's directory will do.
            if stat.st_uid != rustix::process::geteuid().as_raw() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "somebody else owns it"));
            }
            if stat.st_mode & 0o777 != 0o700 {
                rustix::fs::fchmod(&fd, Mode::RWXU)?;
            }
            Ok(fd)
        };
        let fd = open().map_err(VmError::file("open", &path))?;
        Ok(Self { path, fd })
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    /// A socket's path by way of the open directory: the address of a Unix
    /// socket holds 107 bytes (unix(7)), and names and roots are longer. Good
    /// for this process, as long as `self` lives.
    pub fn socket(&self, file: &str) -> PathBuf {
        Path::new("/proc/self/fd").join(self.fd.as_raw_fd().to_string()).join(file)
    }

    /// Listens on a socket of the directory's, in place of an earlier one.
    pub fn listen(&self, file: &str) -> Result<UnixListener, VmError> {
        self.remove(file)?;
        let listener = UnixListener::bind(self.socket(file));
        listener.map_err(VmError::file("listen on", self.path(file)))
    }

    pub fn connect(&self, file: &str) -> Result<UnixStream, VmError> {
        UnixStream::connect(self.socket(file)).map_err(VmError::file("connect to", self.path(file)))
    }

    /// Takes the supervisor's lock.
    pub fn lock(&self, name: &Name) -> Result<SupervisorLock, VmError> {
        let path = self.path(LOCK);
        let error = || VmError::file("lock", &path);
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
            let file = file.map_err(error())?;
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                    let pid = self.lock_holder().unwrap_or(0);
                    return Err(VmError::Supervised { name: name.clone(), pid });
                }
                result => result.map_err(io::Error::from).map_err(error())?,
            };
            // The last holder removes the file: what was locked must be what
            // the next one will find.
            let held = file.metadata().map_err(error())?;
            match fs::metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => {
                    return Ok(SupervisorLock { _file: file });
                }
                Ok(_) => {}
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(error()(cause)),
            }
        }
    }

    /// The supervisor's pid: asks without taking the lock. 0 or less where
    /// the kernel can't say; an open-file lock has no owning process.
    pub fn lock_holder(&self) -> Option<i32> {
        let file = File::open(self.path(LOCK)).ok()?;
        let mut lock = whole_file();
        fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock)).ok()?;
        if i32::from(lock.l_type) == libc::F_UNLCK {
            return None;
        }
        // F_OFD_GETLK says -1; the supervisor wrote its pid beside it.
        let text = read_bounded(&self.path(LOCK), 32).ok()?;
        Some(std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0))
    }

    /// Reads one of the directory's JSON files, where it is there.
    pub fn read_json<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, VmError> {
        let path = self.path(file);
        let text = match read_bounded(&path, FILE_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(VmError::file("read", &path))?,
        };
        let parsed = serde_json::from_slice(&text).map_err(io::Error::from);
        parsed.map(Some).map_err(VmError::file("understand", &path))
    }

    /// Writes one of the directory's JSON files as a whole, or not at all.
    pub fn write_json<T: Serialize>(&self, file: &str, value: &T) -> Result<(), VmError> {
        let path = self.path(file);
        let new = self.path(&format!(".{file}.new"));
        let write = || -> io::Result<()> {
            let mut out = create(&new)?;
            serde_json::to_writer(&mut out, value)?;
            out.write_all(b"\n")?;
            fs::rename(&new, &path)
        };
        write().map_err(VmError::file("write", &path))
    }

    /// Removes one file, where it is there.
    pub fn remove(&self, file: &str) -> Result<(), VmError> {
        match fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(VmError::file("remove", self.path(file))(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes what a stopped VM leaves: all but its console log and, after a
    /// failure, the reason and QEMU's own log. The lock goes last, by whoever
    /// holds it.
    pub fn clear(&self, failed: bool) -> Result<(), VmError> {
        for file in [DESIRED, LAUNCH, QMP, AGENT, SERIAL, CONSOLE, CONTROL] {
            self.remove(file)?;
        }
        if !failed {
            for file in [FAILURE, QEMU_LOG, SUPERVISOR_LOG] {
                self.remove(file)?;
            }
        }
        self.remove(LOCK)
    }
}

impl SupervisorLock {
    /// Writes down who holds it.
    pub fn sign(&mut self) -> io::Result<()> {
        self._file.set_len(0)?;
        self._file.write_all(std::process::id().to_string().as_bytes())
    }
}

/// A new, empty file that only root may read.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path)
}

/// Reads a regular file of at most `max` bytes.
pub(super) fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // O_NONBLOCK: a FIFO in the file's place must not keep us waiting.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    file.take(max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes")));
    }
    Ok(text)
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> (tempfile::TempDir, RuntimeDir, Name) {
        let root = tempfile::tempdir().unwrap();
        let name = Name::new(name).unwrap();
        let dir = RuntimeDir::create(&RootDir::new(root.path()), &name).unwrap();
        (root, dir, name)
    }

    #[test]
    fn there_is_one_supervisor_and_asking_doesnt_disturb_it() {
        let (_root, dir, name) = dir("vm1");
        assert_eq!(dir.lock_holder(), None);
        let mut lock = dir.lock(&name).unwrap();
        lock.sign().unwrap();
        let us = i32::try_from(std::process::id()).unwrap();
        assert_eq!(dir.lock_holder(), Some(us));
        assert!(matches!(dir.lock(&name), Err(VmError::Supervised { pid, .. }) if pid == us));
        dir.clear(false).unwrap();
        drop(lock);
        assert_eq!(dir.lock_holder(), None);
        dir.lock(&name).unwrap();
    }

    #[test]
    fn sockets_work_under_the_longest_names() {
        let (_root, dir, _) = dir(&"n".repeat(63));
        let listener = dir.listen(CONTROL).unwrap();
        dir.connect(CONTROL).unwrap();
        drop(listener);
        assert!(dir.connect(CONTROL).is_err());
        dir.listen(CONTROL).unwrap();
    }

    #[test]
    fn the_directory_is_roots_alone_and_files_are_bounded() {
        let (_root, dir, _) = dir("vm1");
        assert_eq!(fs::metadata(&dir.path).unwrap().mode() & 0o777, 0o700);
        dir.write_json(LAUNCH, &"x".repeat(10)).unwrap();
        assert_eq!(dir.read_json::<String>(LAUNCH).unwrap(), Some("x".repeat(10)));
        fs::write(dir.path(LAUNCH), vec![b' '; 2 << 20]).unwrap();
        assert!(dir.read_json::<String>(LAUNCH).is_err());
        assert_eq!(dir.read_json::<String>(DESIRED).unwrap(), None);
    }
}
