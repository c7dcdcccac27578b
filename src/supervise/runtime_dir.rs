//! The runtime files of one thing that is supervised, a VM or an app: a
//! directory that is root's alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::birthplace::{self, Birthplace};
use crate::bounded::read_bounded;
use crate::private;
use crate::record;
use crate::root_dir::RootDir;
use crate::whole_file;

/// A file that couldn't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} {}: {source}", path.display())]
pub(crate) struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl FileError {
    pub fn at(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { action, path, source }
    }
}

/// Why the supervisor's lock can't be had.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another holds it: its pid, 0 where that can't be known.
    Held(i32),
    File(FileError),
}

/// The supervisor's control socket.
pub(crate) const CONTROL: &str = "control.sock";
/// Why what was supervised failed.
pub(crate) const FAILURE: &str = "failure.json";
/// What the supervisor itself says.
pub(crate) const SUPERVISOR_LOG: &str = "supervisor.log";

const LOCK: &str = "lock";
const BIRTH: &str = "birthplace.json";

/// Clients that wait to be accepted, at most.
const BACKLOG: i32 = 128;

/// The longest runtime file that is read, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// The directory, held open.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    path: PathBuf,
    fd: OwnedFd,
}

/// Makes the holder the only supervisor, until it is dropped.
#[derive(Debug)]
pub(crate) struct SupervisorLock {
    _file: File,
    birth: PathBuf,
}

/// Who supervises, and from where.
#[derive(Debug, Serialize, Deserialize)]
struct Birth {
    pid: i32,
    #[serde(flatten)]
    place: Birthplace,
}

impl RuntimeDir {
    /// Makes the directory `path`, which lies in `<run>`, where it isn't
    /// there; mode 0700.
    pub fn create(root: &RootDir, path: PathBuf) -> Result<Self, FileError> {
        let run = root.run();
        private::directory(&run).map_err(FileError::at("make", &run))?;
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&path).map_err(FileError::at("make", &path))?;
        Self::open_path(path)
    }

    /// The directory, where there is one.
    pub fn open(path: PathBuf) -> Result<Option<Self>, FileError> {
        match Self::open_path(path) {
            Ok(dir) => Ok(Some(dir)),
            Err(FileError { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open_path(path: PathBuf) -> Result<Self, FileError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let open = || -> io::Result<OwnedFd> {
            let fd = rustix::fs::open(&path, flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&fd)?;
            // Its sockets give orders: nobody else's directory will do.
            if stat.st_uid != rustix::process::geteuid().as_raw() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "somebody else owns it"));
            }
            if stat.st_mode & 0o777 != 0o700 {
                rustix::fs::fchmod(&fd, Mode::RWXU)?;
            }
            Ok(fd)
        };
        let fd = open().map_err(FileError::at("open", &path))?;
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
    pub fn listen(&self, file: &str) -> Result<UnixListener, FileError> {
        self.remove(file)?;
        listen(&self.socket(file)).map_err(FileError::at("listen on", self.path(file)))
    }

    /// As [`RuntimeDir::listen`], for the calling runtime.
    pub fn serve(&self, file: &str) -> Result<tokio::net::UnixListener, FileError> {
        let listener = self.listen(file)?;
        let serve = || {
            listener.set_nonblocking(true)?;
            tokio::net::UnixListener::from_std(listener)
        };
        serve().map_err(FileError::at("serve", self.path(file)))
    }

    pub fn connect(&self, file: &str) -> Result<UnixStream, FileError> {
        UnixStream::connect(self.socket(file)).map_err(FileError::at("connect to", self.path(file)))
    }

    /// Whether somebody listens on a socket of the directory's; doesn't wait.
    pub fn is_listened_on(&self, file: &str) -> bool {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connect = || -> io::Result<()> {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            Ok(connect(&socket, &SocketAddrUnix::new(self.socket(file))?)?)
        };
        // One whose queue is full lets others wait.
        connect().map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |()| true)
    }

    /// Takes the supervisor's lock.
    pub fn lock(&self) -> Result<SupervisorLock, LockError> {
        let path = self.path(LOCK);
        let error = || {
            let error = FileError::at("lock", &path);
            |cause| LockError::File(error(cause))
        };
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
            let file = file.map_err(error())?;
            private::close(&file).map_err(error())?;
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                    return Err(LockError::Held(self.lock_holder().unwrap_or(0)));
                }
                result => result.map_err(io::Error::from).map_err(error())?,
            };
            // The last holder removes the file: what was locked must be what
            // the next one will find.
            let held = file.metadata().map_err(error())?;
            match fs::metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => {
                    return Ok(SupervisorLock { _file: file, birth: self.path(BIRTH) });
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

    /// Whether the supervisor is of another network namespace than the calling
    /// thread.
    pub fn is_held_elsewhere(&self) -> bool {
        let Some(pid) = self.lock_holder() else { return false };
        let birth = self.read_json::<Birth>(BIRTH).ok().flatten().filter(|birth| birth.pid == pid);
        // One of an earlier version wrote nothing down; but it is in its own.
        let theirs = match birth {
            Some(birth) => Some(birth.place.network),
            None => u32::try_from(pid).ok().and_then(birthplace::network_of),
        };
        theirs.is_some_and(|theirs| birthplace::network().is_ok_and(|ours| ours != theirs))
    }

    /// Reads one of the directory's JSON files, where it is there.
    pub fn read_json<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, FileError> {
        let Some(text) = self.read(file)? else { return Ok(None) };
        let parsed = serde_json::from_slice(&text).map_err(io::Error::from);
        parsed.map(Some).map_err(FileError::at("understand", self.path(file)))
    }

    /// Reads one of the directory's records, where it is there. One that isn't
    /// understood says nothing.
    pub fn read_record<T: DeserializeOwned + Default>(&self, file: &str) -> Result<Option<T>, FileError> {
        Ok(self.read(file)?.map(|text| record::parse(&text).unwrap_or_default()))
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, FileError> {
        let path = self.path(file);
        match read_bounded(&path, FILE_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.map(Some).map_err(FileError::at("read", &path)),
        }
    }

    /// Writes one of the directory's JSON files as a whole, or not at all.
    pub fn write_json<T: Serialize>(&self, file: &str, value: &T) -> Result<(), FileError> {
        let path = self.path(file);
        let text = serde_json::to_string(value).map_err(io::Error::from);
        let written = text.and_then(|text| whole_file::replace(&path, text + "\n"));
        written.map_err(FileError::at("write", &path))
    }

    /// Removes one file, where it is there.
    pub fn remove(&self, file: &str) -> Result<(), FileError> {
        match fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::at("remove", self.path(file))(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes files, where they are there.
    pub fn remove_all(&self, files: &[&str]) -> Result<(), FileError> {
        files.iter().try_for_each(|file| self.remove(file))
    }

    /// Removes the lock's file: the last thing that its holder does.
    pub fn remove_lock(&self) -> Result<(), FileError> {
        self.remove(BIRTH)?;
        self.remove(LOCK)
    }
}

impl SupervisorLock {
    /// Writes down who holds it, and from which network namespace.
    pub fn sign(&mut self) -> io::Result<()> {
        let pid = std::process::id();
        let birth = Birth { pid: pid.cast_signed(), place: Birthplace::here()? };
        whole_file::replace(&self.birth, serde_json::to_vec(&birth)?)?;
        self._file.set_len(0)?;
        self._file.write_all(pid.to_string().as_bytes())
    }
}

/// The names in a directory of runtime directories; none where it isn't there.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(FileError::at("read", path))?,
    };
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// A socket that only root may connect to, from its first moment on: the
/// kernel gives the file the mode that the descriptor has (unix_bind_bsd in
/// `net/unix/af_unix.c`).
fn listen(path: &Path) -> io::Result<UnixListener> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
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
