//! Starting QEMU: everything it will use is opened here, as root; QEMU itself
//! gets descriptors, a user of its own, and an empty network namespace.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use command_fds::{CommandFdExt, FdMapping};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Deserializer, Serialize};

use crate::process::Process;
use crate::tap;
use crate::topology::{Disk, Vm};

use super::accel;
use super::boot_files::BootFiles;
use super::error::VmError;
use super::qemu::{Accelerator, DiskFd, Fds, QemuCommand, command_line};
use super::runtime_dir::{AGENT, LAUNCH, QMP, RuntimeDir, SERIAL};

/// The largest kernel or initial RAM disk that is copied for QEMU, in bytes.
const COPY_MAX: u64 = 1 << 30;

/// Whom QEMUs run as; see the topology's guests.
pub(super) const UIDS: std::ops::RangeInclusive<u32> = 0x7000_0000..=0x7fff_ffff;

/// `launch.json`: the QEMU that runs, and what it was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaunchRecord {
    /// `None` where another version of hostctl wrote it: its QEMU is taken
    /// over all the same.
    #[serde(default, deserialize_with = "lenient")]
    pub vm: Option<Vm>,
    pub pid: u32,
    /// Of the process, in clock ticks after boot.
    pub start_time: u64,
    pub accel: Accelerator,
    /// Why that accelerator.
    pub accel_reason: String,
    /// Whether the image has a guest agent.
    pub agent: bool,
    /// Seconds after the epoch.
    pub started_at: u64,
}

/// A QEMU that was started or taken over.
#[derive(Debug)]
pub(super) struct Launched {
    pub record: LaunchRecord,
    pub process: Process,
    /// Where this process is its parent.
    pub child: Option<Child>,
    pub stderr: Option<ChildStderr>,
}

/// Whom a QEMU runs as.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
}

fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vm>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// Takes over the QEMU that an earlier supervisor left, where one lives.
pub(super) fn adopt(dir: &RuntimeDir) -> Result<Option<Launched>, VmError> {
    let Some(record) = dir.read_json::<LaunchRecord>(LAUNCH)? else { return Ok(None) };
    let process = Process::find(record.pid, record.start_time);
    Ok(process.map(|process| Launched { record, process, child: None, stderr: None }))
}

/// Starts the QEMU of `vm`.
pub(super) fn launch(
    dir: &RuntimeDir,
    vm: &Vm,
    boot: &BootFiles,
    (accel, accel_reason): (Accelerator, String),
) -> Result<Launched, VmError> {
    if !UIDS.contains(&vm.uid) {
        let source = io::Error::other(format!("user {} isn't one of a guest's", vm.uid));
        return Err(VmError::Spawn { program: format!("the QEMU of {}", vm.name), source });
    }
    let mut inherited = Inherited(Vec::new());
    let fds = Fds {
        tap: inherited.add(tap::attach(&vm.port.interface)?),
        qmp: inherited.add(dir.listen(QMP)?.into()),
        agent: inherited.add(dir.listen(AGENT)?.into()),
        serial: inherited.add(dir.listen(SERIAL)?.into()),
        kernel: boot.kernel.as_deref().map(|file| inherited.readable(file)).transpose()?,
        initrd: boot.initrd.as_deref().map(|file| inherited.readable(file)).transpose()?,
        disk: boot.disk.as_ref().map(|disk| inherited.disk(disk)).transpose()?,
        volumes: boot.volumes.iter().map(|disk| inherited.disk(disk)).collect::<Result<_, _>>()?,
    };
    let command = command_line(vm, boot, accel, &fds);
    let mut child = spawn(&command, inherited.0, accel::user(vm.uid, accel))?;
    let Some(process) = Process::open(child.id()) else {
        let source = io::Error::other(last_words(&mut child));
        return Err(VmError::Spawn { program: command.program, source });
    };
    let record = LaunchRecord {
        vm: Some(vm.clone()),
        pid: process.pid,
        start_time: process.start_time,
        accel,
        accel_reason,
        agent: boot.agent,
        started_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
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

/// Descriptors to be inherited, numbered from 3.
struct Inherited(Vec<FdMapping>);

impl Inherited {
    fn add(&mut self, parent_fd: OwnedFd) -> RawFd {
        // At most fifteen are added.
        let child_fd = 3 + self.0.len() as RawFd;
        self.0.push(FdMapping { parent_fd, child_fd });
        child_fd
    }

    /// QEMU opens a kernel by name, `/proc/self/fd/N`, which asks for the
    /// file's permissions once more. One that not everybody may read is
    /// handed over as a sealed copy.
    fn readable(&mut self, path: &Path) -> Result<RawFd, VmError> {
        let open = || -> io::Result<OwnedFd> {
            let file = open_regular(path)?;
            if file.metadata()?.mode() & 0o004 != 0 {
                return Ok(file.into());
            }
            sealed_copy(file)
        };
        Ok(self.add(open().map_err(VmError::file("boot", path))?))
    }

    fn disk(&mut self, disk: &Disk) -> Result<DiskFd, VmError> {
        let open = || -> io::Result<(File, bool)> {
            let file = File::options().read(true).write(!disk.read_only).open(&disk.path)?;
            let kind = file.metadata()?.file_type();
            if !kind.is_file() && !kind.is_block_device() {
                return Err(io::Error::other("neither a file nor a block device"));
            }
            Ok((file, kind.is_block_device()))
        };
        let (file, block_device) = open().map_err(VmError::file("open the disk", &disk.path))?;
        Ok(DiskFd { fd: self.add(file.into()), block_device })
    }
}

fn open_regular(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
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

/// The program's file, by `PATH`.
pub(super) fn find_program(program: &str) -> Result<PathBuf, VmError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| {
        file.is_absolute() && fs::metadata(file).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
    });
    found.ok_or_else(|| VmError::NoQemu(program.into()))
}

/// Starts QEMU, its stderr in a pipe, without a privilege, a network, an environment or a terminal.
pub(super) fn spawn(command: &QemuCommand, inherited: Vec<FdMapping>, user: User) -> Result<Child, VmError> {
    let program = find_program(&command.program)?;
    let mut process = Command::new(&program);
    process.args(&command.args).env_clear().current_dir("/").uid(user.uid).gid(user.gid);
    process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let error = |source| VmError::Spawn { program: command.program.clone(), source };
    process.fd_mappings(inherited).map_err(|cause| error(io::Error::other(cause)))?;
    // SAFETY: runs between fork and exec; it makes system calls and nothing
    // else: no allocation, no lock.
    #[allow(unsafe_code)]
    unsafe {
        process.pre_exec(confine);
    }
    // Namespaces are a thread's own, and its children's: this thread ends here.
    let thread = std::thread::Builder::new().name("qemu-launch".into()).spawn(move || {
        // The TAP's descriptor keeps its namespace; nothing else is there for
        // a QEMU that the guest has taken over.
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
        process.spawn()
    });
    let thread = thread.map_err(error)?;
    let child = thread.join().map_err(|_| error(io::Error::other("the launching thread died")))?;
    child.map_err(error)
}

fn confine() -> io::Result<()> {
    // A session of its own: Ctrl-C and a closed terminal are the supervisor's
    // affair, and a QEMU with no terminal can't type on the operator's.
    rustix::process::setsid()?;
    rustix::thread::set_no_new_privs(true)?;
    // A core dump holds the guest's memory.
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}
