//! Opening what QEMU is given: boot files and disks. What is looked at is what
//! QEMU gets, by the same descriptor.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use crate::guarded_file::{self, Links};
use crate::topology::Disk;

use super::disk_header;

/// A disk, open for reading and, unless it is read-only, writing.
#[derive(Debug)]
pub(in crate::vm) struct OpenDisk {
    pub file: File,
    pub block_device: bool,
    /// What its file may grow to, in bytes; 0 where it has none.
    pub largest: u64,
}

/// Opens a kernel or an initial RAM disk.
///
/// # Errors
/// Where it isn't a regular file, or a symbolic link is on its path.
pub(in crate::vm) fn boot_file(path: &Path) -> io::Result<File> {
    let file = guarded_file::open(path, Links::Never)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// Opens a disk that is in one file.
///
/// # Errors
/// Where it is neither a file nor a block device, a symbolic link is on its
/// path, it isn't of the format that it should be, or needs other files.
pub(in crate::vm) fn disk(disk: &Disk) -> io::Result<OpenDisk> {
    let mut file = guarded_file::find(&disk.path, Links::Never)?.open(!disk.read_only)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(io::Error::other("neither a file nor a block device"));
    }
    let mut start = [0; disk_header::LENGTH];
    let length = read_start(&file, &mut start)?;
    let start = start.get(..length).unwrap_or_default();
    let header = disk_header::read(disk.format, start).map_err(io::Error::other)?;
    let block_device = kind.is_block_device();
    let size = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let largest =
        if block_device { 0 } else { header.size.map_or(size, |virtual_size| grown(virtual_size).max(size)) };
    Ok(OpenDisk { file, block_device, largest })
}

/// What a qcow2 of that many bytes needs at most: with the smallest clusters,
/// of 512 bytes, ten bytes describe each.
fn grown(virtual_size: u64) -> u64 {
    virtual_size.saturating_add(virtual_size / 32).saturating_add(64 << 20)
}

fn read_start(file: &File, start: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < start.len() {
        let rest = start.get_mut(length..).unwrap_or_default();
        match file.read_at(rest, length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
