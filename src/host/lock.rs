//! One change of the host at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::root_dir::RootDir;

use super::HostError;

/// Held while the host is changed; the kernel lets go of it when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Whether somebody is changing the host, asked without getting in the way:
    /// the kernel lists who holds what (proc_locks(5)).
    pub(super) fn is_held(root: &RootDir) -> bool {
        let Ok(metadata) = fs::metadata(root.run().join("lock")) else { return false };
        let inode = format!(":{}", metadata.ino());
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1) == Some(&"FLOCK") && words.get(5).is_some_and(|file| file.ends_with(&inode))
        })
    }

    /// Takes the lock, waiting up to `limit` for whoever has it.
    ///
    /// # Errors
    /// As [`Lock::take`], once that time is over.
    pub fn wait(root: &RootDir, command: &str, limit: Duration) -> Result<Self, HostError> {
        let begun = Instant::now();
        loop {
            match Self::take(root, command) {
                Err(HostError::Locked(_)) if begun.elapsed() < limit => sleep(Duration::from_millis(100)),
                result => return result,
            }
        }
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// Where another process has it, with its pid and command.
    pub fn take(root: &RootDir, command: &str) -> Result<Self, HostError> {
        let path = root.run().join("lock");
        let failed = |source| HostError::File { path: path.clone(), source };
        fs::create_dir_all(root.run()).map_err(failed)?;
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Not being able to read who it is doesn't change the answer.
                _ = file.take(200).read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { "another hostctl" } else { holder };
                return Err(HostError::Locked(holder.chars().filter(|c| !c.is_control()).collect()));
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "hostctl {command}, pid {}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}
