//! How a VM's disks are read and written: in a thread of their own, block
//! devices past the host's page cache, by what this kernel and this QEMU have.
//!
//! io_uring is for VMs whose spec asks for it. A QEMU that its guest has taken
//! over may ask the kernel by a ring for what hostctl's filter refuses (sockets of
//! every family, to begin with), and rings are where many of the kernel's holes
//! were; threads and native AIO are filtered like everything else.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use command_fds::FdMapping;
use rustix::fs::MemfdFlags;
use serde_json::json;

use crate::bounded::printable;
use crate::confine::{Calls, Confinement, Limits, User};
use crate::supervise::process::Process;
use crate::topology::{Arch, Disk, Machine, Vm};

use super::accel::PROBE_LIMITS;
use super::boot_files::BootFiles;
use super::command_line::{Accelerator, QemuCommand};
use super::launch::spawn;
use super::opened;

/// A QEMU that does nothing starts in a tenth of a second.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// What rings may take of the kernel's memory, in bytes. One of QEMU's takes some
/// 16 KiB, and each thread that does requests has one; from Linux 6.14 on it counts
/// as locked.
pub(in crate::vm) const RINGS: u64 = 1 << 20;

/// Who does a disk's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Threads of QEMU's that wait for each.
    Threads,
    /// The kernel's AIO (io_submit(2)), for what passes by the page cache.
    Native,
    /// io_uring(7).
    IoUring,
}

impl Way {
    /// QEMU's word for it (`BlockdevAioOptions`).
    pub const fn word(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Native => "native",
            Self::IoUring => "io_uring",
        }
    }
}

/// How a VM's disks are read and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::vm) struct DiskIo {
    /// Whether a thread of its own does it, beside the one of all devices.
    pub thread: bool,
    /// Of files, and of block devices.
    pub files: Way,
    pub block_devices: Way,
    /// Why not io_uring.
    pub no_ring: Option<String>,
}

impl DiskIo {
    /// Whether any of it is done by io_uring.
    pub fn has_ring(&self) -> bool {
        [self.files, self.block_devices].contains(&Way::IoUring)
    }

    /// Of a disk.
    pub const fn way(&self, block_device: bool) -> Way {
        if block_device { self.block_devices } else { self.files }
    }
}

impl Display for DiskIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.thread { "a thread of their own; " } else { "" })?;
        let (files, devices) = (self.files.word(), self.block_devices.word());
        write!(f, "files by {files}, block devices by {devices} past the page cache")?;
        self.no_ring.as_ref().map_or(Ok(()), |reason| write!(f, " (io_uring: {reason})"))
    }
}

/// Decides it for a VM that has disks. May start a QEMU that does nothing, twice;
/// blocks.
pub(in crate::vm) fn choose(vm: &Vm, boot: &BootFiles, accel: Accelerator) -> Option<DiskIo> {
    let disks: Vec<&Disk> = boot.disk.iter().chain(&boot.volumes).collect();
    if disks.is_empty() {
        return None;
    }
    let ring = if vm.io_uring { ring(vm) } else { Err("the spec doesn't ask for it".into()) };
    let device = || {
        let open = |disk: &&Disk| opened::disk(&Disk { read_only: true, ..(*disk).clone() }).ok();
        disks.iter().filter_map(open).find(|disk| disk.block_device)
    };
    let files = if ring.is_ok() { Way::IoUring } else { Way::Threads };
    let block_devices = match (&ring, device()) {
        (Ok(()), _) => Way::IoUring,
        (Err(_), Some(device)) => match probe(vm, Way::Native, "host_device", device.file.into()) {
            Ok(()) => Way::Native,
            Err(_) => Way::Threads,
        },
        (Err(_), None) => Way::Threads,
    };
    Some(DiskIo { thread: has_thread(vm.machine, accel), files, block_devices, no_ring: ring.err() })
}

/// Such a thread is woken by an eventfd, and QEMU's MMIO transport has those with
/// KVM alone (`virtio_mmio_realizefn`).
const fn has_thread(machine: Machine, accel: Accelerator) -> bool {
    !matches!((machine, accel), (Machine::Microvm, Accelerator::Tcg))
}

fn ring(vm: &Vm) -> Result<(), String> {
    let file = || -> std::io::Result<OwnedFd> {
        let mut file = File::from(rustix::fs::memfd_create("hostctl-disk-probe", MemfdFlags::CLOEXEC)?);
        file.write_all(&[0; 4096])?;
        // QEMU takes a descriptor that is open as it wants it to be.
        Ok(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.into())
    };
    probe(vm, Way::IoUring, "file", file().map_err(|error| error.to_string())?)
}

/// Whether a QEMU as the VM's is opens a disk that way; says why not.
fn probe(vm: &Vm, way: Way, driver: &str, disk: OwnedFd) -> Result<(), String> {
    let failed = |error: &dyn Display| format!("no QEMU could be started to try it: {error}");
    let (mut ours, theirs) = UnixStream::pair().map_err(|error| failed(&error))?;
    // It does as it is told once it is there: it ends.
    let told = ours.write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n");
    told.map_err(|error| failed(&error))?;
    let mappings = [theirs.into(), disk].into_iter().zip(3..);
    let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }).collect();
    let ring = way == Way::IoUring;
    let confinement = Confinement {
        user: User { uid: vm.uid, gid: vm.uid },
        limits: Limits { locked: if ring { RINGS } else { 0 }, ..PROBE_LIMITS },
        calls: Calls { io_uring: ring, ..Calls::default() },
    };
    let mut child = spawn(&probe_command(vm.arch, way, driver), mappings, &confinement)
        .map_err(|error| failed(&error))?;
    let ended = match Process::open(child.id()) {
        Some(process) => process.wait(PROBE_LIMIT).map_err(|error| failed(&error))?,
        None => true,
    };
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(&error))?;
    if ended && status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(1024).read_to_end(&mut text);
    }
    let said = printable(&String::from_utf8_lossy(&text), 300);
    Err(if ended { format!("QEMU says: {}", said.trim()) } else { "a QEMU that tries it hangs".into() })
}

fn probe_command(arch: Arch, way: Way, driver: &str) -> QemuCommand {
    let disk = json!({
        "driver": driver,
        "node-name": "disk",
        "filename": "/dev/fdset/1",
        "aio": way.word(),
        "cache": { "direct": way == Way::Native },
        "read-only": true,
        "locking": "off",
    });
    let common = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "none",
        "-chardev",
        "socket,id=qmp,fd=3",
        "-mon",
        "chardev=qmp,mode=control",
        "-add-fd",
        "fd=4,set=1",
        "-blockdev",
    ];
    let args = common.iter().map(|word| (*word).to_owned()).chain([disk.to_string()]).collect();
    QemuCommand { program: format!("qemu-system-{arch}"), args }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::DiskFormat;
    use crate::vm::test_vm::vm;

    fn boot(volumes: Vec<Disk>) -> BootFiles {
        BootFiles {
            kernel: None,
            initrd: None,
            disk: None,
            volumes,
            cmdline: String::new(),
            agent: false,
            instance: "0123456789abcdef".into(),
        }
    }

    fn file() -> (tempfile::NamedTempFile, Disk) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let disk = Disk { path: file.path().into(), format: DiskFormat::Raw, read_only: false };
        (file, disk)
    }

    #[test]
    fn a_vm_without_disks_has_no_way() {
        assert_eq!(choose(&Vm { io_uring: true, ..vm() }, &boot(Vec::new()), Accelerator::Tcg), None);
    }

    #[test]
    fn io_uring_is_used_where_it_is_asked_for_and_opens() {
        let (_file, disk) = file();
        let quiet = choose(&vm(), &boot(vec![disk.clone()]), Accelerator::Tcg).unwrap();
        assert_eq!(quiet.files, Way::Threads);
        assert_eq!(quiet.no_ring.as_deref(), Some("the spec doesn't ask for it"));
        let asked = choose(&Vm { io_uring: true, ..vm() }, &boot(vec![disk]), Accelerator::Tcg).unwrap();
        // Whether anybody may: absent, 0 means all (Documentation/admin-guide/sysctl/kernel.rst).
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        if matches!(disabled.trim(), "" | "0") {
            assert_eq!(
                (asked.files, asked.block_devices, &asked.no_ring),
                (Way::IoUring, Way::IoUring, &None)
            );
        } else {
            assert_eq!(asked.files, Way::Threads);
            assert!(asked.no_ring.unwrap().starts_with("QEMU says: "));
        }
    }

    /// As a QEMU or a kernel without it.
    #[test]
    fn what_doesnt_open_is_said() {
        let refused = probe(&vm(), Way::Native, "file", File::open("/dev/null").unwrap().into());
        assert!(refused.as_ref().is_err_and(|error| error.starts_with("QEMU says: ")), "{refused:?}");
    }

    #[test]
    fn a_microvm_has_no_thread_for_disks_without_kvm() {
        assert!(!has_thread(Machine::Microvm, Accelerator::Tcg));
        for (machine, accel) in [
            (Machine::Microvm, Accelerator::Kvm),
            (Machine::Q35, Accelerator::Tcg),
            (Machine::Virt, Accelerator::Tcg),
        ] {
            assert!(has_thread(machine, accel), "{machine:?} {accel}");
        }
    }
}
