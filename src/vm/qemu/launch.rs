//! Starting QEMU: everything it will use is opened here, as root; QEMU itself
//! gets descriptors and is confined ([`crate::confine`]).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr};
use std::time::{SystemTime, UNIX_EPOCH};

use command_fds::FdMapping;
use rustix::fs::{MemfdFlags, SealFlags};

use crate::confine::{self, Calls, Confinement, Limits};
use crate::ownership::UIDS;
use crate::record::Field;
use crate::root_dir::RootDir;
use crate::supervise::birthplace::Birthplace;
use crate::supervise::process::Process;
use crate::tap;
use crate::topology::{Disk, Vm};

use super::accel;
use super::boot_files::BootFiles;
use super::card::{Card, open_vhost};
use super::command_line::{Accelerator, DiskFd, Fds, QemuCommand, command_line};
use super::disk_io::{DiskIo, RINGS, Way};
use super::opened;
use crate::vm::error::VmError;
use crate::vm::record::{LaunchRecord, VERSION};
use crate::vm::runtime_dir::{AGENT, LAUNCH, QMP, RuntimeDir, SERIAL};

/// The largest kernel or initial RAM disk that is copied for QEMU, in bytes.
const COPY_MAX: u64 = 1 << 30;

/// A QEMU that was started or taken over.
#[derive(Debug)]
pub(in crate::vm) struct Launched {
    /// What it was started with, as far as that is known.
    pub record: LaunchRecord,
    pub process: Process,
    /// Where this process is its parent.
    pub child: Option<Child>,
    pub stderr: Option<ChildStderr>,
}

/// Starts the QEMU of `vm`.
pub(in crate::vm) fn launch(
    dir: &RuntimeDir,
    vm: &Vm,
    boot: &BootFiles,
    (accel, accel_reason): (Accelerator, String),
    disk_io: Option<DiskIo>,
    card: Card,
) -> Result<Launched, VmError> {
    if !UIDS.contains(&vm.uid) {
        let source = io::Error::other(format!("user {} isn't one of a guest's", vm.uid));
        return Err(VmError::spawn(format!("the QEMU of {}", vm.name), source));
    }
    let mut inherited = Inherited::default();
    // One that can't be had any more isn't needed either.
    let vhost = card.vhost.then(|| open_vhost().ok()).flatten();
    let card = Card { vhost: vhost.is_some(), ..card };
    let attach = if card.offload { tap::attach_with_header } else { tap::attach };
    let fds = Fds {
        tap: inherited.add(attach(&vm.port.interface)?),
        offload: card.offload,
        vhost: vhost.map(|fd| inherited.add(fd)),
        qmp: inherited.add(dir.listen(QMP)?.into()),
        agent: inherited.add(dir.listen(AGENT)?.into()),
        serial: inherited.add(dir.listen(SERIAL)?.into()),
        kernel: boot.kernel.as_deref().map(|file| inherited.readable(file)).transpose()?,
        initrd: boot.initrd.as_deref().map(|file| inherited.readable(file)).transpose()?,
        disk: boot.disk.as_ref().map(|disk| inherited.disk(disk, disk_io.as_ref())).transpose()?,
        volumes: boot
            .volumes
            .iter()
            .map(|disk| inherited.disk(disk, disk_io.as_ref()))
            .collect::<Result<_, _>>()?,
        disk_thread: disk_io.as_ref().is_some_and(|io| io.thread),
    };
    let command = command_line(vm, boot, accel, &fds);
    let has_ring = disk_io.as_ref().is_some_and(DiskIo::has_ring);
    let locked = if has_ring { RINGS } else { 0 };
    let confinement = Confinement {
        user: accel::user(vm.uid, accel),
        limits: Limits { locked, ..limits(vm, inherited.largest) },
        calls: Calls {
            kvm: accel == Accelerator::Kvm,
            io_uring: has_ring,
            offload: card.offload,
            vhost: card.vhost,
        },
    };
    let mut child = spawn(&command, inherited.mappings, &confinement)?;
    let Some(process) = Process::open(child.id()) else {
        let source = io::Error::other(last_words(&mut child));
        return Err(VmError::spawn(command.program, source));
    };
    let started_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let record = LaunchRecord {
        version: Field::Is(VERSION),
        vm: Field::Is(vm.into()),
        pid: Field::Is(process.pid),
        start_time: Field::Is(process.start_time),
        accel: Field::Is(accel),
        accel_reason: Field::Is(accel_reason),
        disks: Field::Is(disk_io.map(|io| io.to_string()).unwrap_or_default()),
        card: Field::Is(card),
        agent: Field::Is(boot.agent),
        started_at: Field::Is(started_at),
        birthplace: Birthplace::here().map_or(Field::Missing, Field::Is),
    };
    if let Err(error) = dir.write_json(LAUNCH, &record) {
        // A QEMU that no later supervisor could find.
        let _ = child.kill();
        let _ = child.wait();
        return Err(error.into());
    }
    let stderr = child.stderr.take();
    Ok(Launched { record, process, child: Some(child), stderr })
}

/// Of a QEMU that ended at once.
fn last_words(child: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = io::Read::read_to_end(&mut io::Read::take(stderr, 4096), &mut text);
    }
    let status = child.wait().map(|status| status.to_string()).unwrap_or_default();
    format!(
        "it ended at once ({status}): {}",
        crate::bounded::printable(&String::from_utf8_lossy(&text), 500)
    )
}

/// What a QEMU needs of address space beside its guest's memory, in bytes:
/// with TCG up to 1 GiB for translated code, and threads' stacks and heaps,
/// which are reserved and hardly used.
const OVERHEAD: u64 = 6 << 30;
/// And for each virtual processor.
const OVERHEAD_VCPU: u64 = 128 << 20;
/// A guest's memory is counted in MiB.
const MIB: u64 = 1 << 20;

/// What the QEMU of `vm` may take; its largest disk may grow to `largest`.
fn limits(vm: &Vm, largest: u64) -> Limits {
    let vcpus = u64::from(vm.vcpus);
    Limits {
        address_space: u64::from(vm.memory) * MIB + OVERHEAD + vcpus * OVERHEAD_VCPU,
        // Without a disk QEMU writes no file; a few logs' worth all the same.
        file_size: largest.max(MIB),
        // Three sockets, fifteen files and their duplicates.
        files: 512,
        // One a processor, and up to 64 for a disk's requests.
        threads: 256 + vcpus,
        locked: 0,
    }
}

/// Descriptors to be inherited, numbered from 3.
#[derive(Default)]
struct Inherited {
    mappings: Vec<FdMapping>,
    /// What the largest file that is written to may grow to, in bytes.
    largest: u64,
}

impl Inherited {
    fn add(&mut self, parent_fd: OwnedFd) -> RawFd {
        // At most fifteen are added.
        let child_fd = 3 + self.mappings.len() as RawFd;
        self.mappings.push(FdMapping { parent_fd, child_fd });
        child_fd
    }

    /// QEMU opens a kernel by name, `/proc/self/fd/N`, which asks for the
    /// file's permissions once more. One that not everybody may read is
    /// handed over as a sealed copy.
    fn readable(&mut self, path: &Path) -> Result<RawFd, VmError> {
        let open = || -> io::Result<OwnedFd> {
            let file = opened::boot_file(path)?;
            if file.metadata()?.mode() & 0o004 != 0 {
                return Ok(file.into());
            }
            sealed_copy(file)
        };
        Ok(self.add(open().map_err(VmError::file("boot", path))?))
    }

    fn disk(&mut self, disk: &Disk, io: Option<&DiskIo>) -> Result<DiskFd, VmError> {
        let opened = opened::disk(disk).map_err(VmError::file("open the disk", &disk.path))?;
        if !disk.read_only {
            self.largest = self.largest.max(opened.largest);
        }
        let way = io.map_or(Way::Threads, |io| io.way(opened.block_device));
        Ok(DiskFd { fd: self.add(opened.file.into()), block_device: opened.block_device, way })
    }
}

fn sealed_copy(file: File) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create("hostctl-boot", flags)?);
    let copied = io::copy(&mut io::Read::take(file, COPY_MAX + 1), &mut copy)?;
    if copied > COPY_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {COPY_MAX} bytes")));
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(copy.as_fd(), seals)?;
    Ok(copy.into())
}

/// Whether what starts a VM is there: the files that it boots, and QEMU.
///
/// # Errors
/// What is missing or can't be used.
pub fn can_start(root: &RootDir, vm: &Vm) -> Result<(), VmError> {
    BootFiles::resolve(root, vm)?;
    find_program(&format!("qemu-system-{}", vm.arch)).map(drop)
}

/// The program's file, by `PATH`.
pub(in crate::vm) fn find_program(program: &str) -> Result<PathBuf, VmError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| {
        file.is_absolute() && fs::metadata(file).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
    });
    found.ok_or_else(|| VmError::NoQemu(program.into()))
}

/// Starts QEMU, confined, its stderr in a pipe.
pub(in crate::vm) fn spawn(
    command: &QemuCommand,
    inherited: Vec<FdMapping>,
    confinement: &Confinement,
) -> Result<Child, VmError> {
    let program = find_program(&command.program)?;
    let spawned = confine::spawn(&program, &command.args, inherited, confinement);
    spawned.map_err(|source| VmError::spawn(command.program.clone(), source))
}
