//! One change of the host at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::private;
use crate::root_dir::RootDir;

use super::lock_holder::{Holder, holders, may_be_held};
use crate::host::HostError;

/// How often it is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// Held while the host is changed; the kernel lets go of it when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

fn path(root: &RootDir) -> PathBuf {
    root.run().join("lock")
}

impl Lock {
    /// Whether somebody is changing the host, asked without getting in the way.
    pub(in crate::host) fn is_held(root: &RootDir) -> bool {
        fs::metadata(path(root))
            .is_ok_and(|metadata| may_be_held(&metadata) && !holders(&metadata).is_empty())
    }

    /// Takes the lock, waiting up to `limit` for whoever has it.
    ///
    /// # Errors
    /// As [`Lock::take`], once that time is over.
    pub fn wait(root: &RootDir, command: &str, limit: Duration) -> Result<Self, HostError> {
        Self::wait_and_tell(root, command, limit, &mut |_| {})
    }

    /// As [`Lock::wait`]; `tell` hears, once, whom it waits for.
    ///
    /// # Errors
    /// As [`Lock::wait`].
    pub fn wait_and_tell(
        root: &RootDir,
        command: &str,
        limit: Duration,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Self, HostError> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            match Self::take(root, command) {
                Err(HostError::Locked(holder)) if begun.elapsed() < limit => {
                    if !std::mem::replace(&mut told, true) {
                        tell(&holder);
                    }
                    sleep(AGAIN.min(limit.saturating_sub(begun.elapsed())));
                }
                result => return result,
            }
        }
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// Where another process has it, with its command and pid.
    pub fn take(root: &RootDir, command: &str) -> Result<Self, HostError> {
        let path = path(root);
        let failed = |source| HostError::File { path: path.clone(), source };
        private::directory(&root.run()).map_err(|source| HostError::File { path: root.run(), source })?;
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let mut file =
                options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&path).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            let was_open = metadata.mode() & 0o077 != 0;
            private::close(&file).map_err(failed)?;
            match file.try_lock() {
                Ok(()) if was_open => {
                    // Whoever opened it while that was allowed could lock it yet.
                    replace(&path, &metadata).map_err(failed)?;
                    continue;
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holders = holders(&metadata);
                    // No hostctl, which is root's: one of those that an
                    // earlier version let lock it.
                    if !holders.is_empty() && holders.iter().all(|holder| holder.uid != Some(0)) {
                        replace(&path, &metadata).map_err(failed)?;
                        continue;
                    }
                    return Err(HostError::Locked(describe(&holders, &file)));
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // What was locked has to be what the next one finds.
            if !is_at(&path, &metadata).map_err(failed)? {
                continue;
            }
            // For people who look; a full disk is no reason not to go on.
            _ = sign(&mut file, command);
            return Ok(Self { _file: file });
        }
    }
}

/// Takes the file away, so that the next one to be locked is a new one.
fn replace(path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    match is_at(path, metadata)? {
        true => fs::remove_file(path),
        false => Ok(()),
    }
}

fn is_at(path: &Path, metadata: &fs::Metadata) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|found| (found.dev(), found.ino()) == (metadata.dev(), metadata.ino())),
    }
}

fn sign(file: &mut File, command: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "hostctl {command}, pid {}", std::process::id())
}

/// Who holds it, as the kernel says. The file's own text is believed where it
/// names the same process: it says what a hostctl does for which no command
/// line stands.
fn describe(holders: &[Holder], file: &File) -> String {
    let mut text = String::new();
    // Not being able to read it doesn't change the answer.
    _ = file.take(200).read_to_string(&mut text);
    let text = crate::shown::line(text.trim());
    let signed = text.rsplit_once(", pid ").and_then(|(_, pid)| pid.parse::<u32>().ok());
    match holders.first() {
        None => "a process that can't be seen from here (in another PID namespace?)".into(),
        Some(holder) if signed == Some(holder.pid) && !holder.is_hostctl() => text,
        Some(holder) => format!("{}, pid {}", holder.command, holder.pid),
    }
}
