//! KVM or TCG. That `/dev/kvm` opens proves little: on some hosts it creates
//! machines on which guests crawl, at a hundredth of TCG's speed, so that a
//! kernel never gets anywhere. So a test guest has to do some real work on it
//! in time, once a boot.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use command_fds::FdMapping;
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use crate::bounded::{printable, read_bounded};
use crate::confine::{Calls, Confinement, Limits, User};
use crate::ownership::UIDS;
use crate::root_dir::RootDir;
use crate::supervise::process::Process;
use crate::topology::{Accel, Arch, Vm};
use crate::whole_file;

use super::command_line::{Accelerator, QemuCommand};
use super::launch::{find_program, spawn};
use crate::vm::error::VmError;

const DEVICE: &str = "/dev/kvm";
/// A processor needs a fifth of a second for the test guest, TCG one.
const PROBE_LIMIT: Duration = Duration::from_secs(3);
/// It has no disk and 64 MiB; translated code and stacks come to more.
pub(in crate::vm) const PROBE_LIMITS: Limits =
    Limits { address_space: 6 << 30, file_size: 1 << 20, files: 256, threads: 256, locked: 0 };
/// What the x86 test guest writes to the isa-debug-exit device.
const X86_VALUE: u8 = 0x2a;

/// The firmware of an x86 machine: it lies below 4 GiB, and its last 16 bytes
/// are executed first.
const X86_ROM: usize = 64 * 1024;

/// A jump to the beginning of the 64 KiB.
const X86_RESET_VECTOR: [u8; 16] =
    [0xe9, 0x0d, 0x00, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4];

/// Real mode, protected mode, long mode with paging, as a kernel begins; a
/// loop; the end. At 0xffff0000.
#[rustfmt::skip]
const X86_TEST_GUEST: [u8; 166] = [
    0xfa,                                                       // cli
    0x2e, 0x66, 0x0f, 0x01, 0x16, 0xa0, 0x00,                   // lgdtl %cs:0xa0
    0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0,             // CR0.PE = 1
    0x66, 0xea, 0x18, 0x00, 0xff, 0xff, 0x08, 0x00,             // ljmpl $8, $0xffff0018
    0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8,                         // ds = 0x10
    0xc7, 0x05, 0x00, 0x10, 0x00, 0x00, 0x03, 0x20, 0x00, 0x00, // PML4[0] = 0x2000, present, writable
    0xc7, 0x05, 0x18, 0x20, 0x00, 0x00, 0x03, 0x30, 0x00, 0x00, // PDPT[3] = 0x3000, likewise
    0xc7, 0x05, 0xf8, 0x3f, 0x00, 0x00, 0x83, 0x00, 0xe0, 0xff, // PD[511] = the last 2 MiB below 4 GiB
    0xb8, 0x00, 0x10, 0x00, 0x00, 0x0f, 0x22, 0xd8,             // CR3 = 0x1000
    0x0f, 0x20, 0xe0, 0x0c, 0x20, 0x0f, 0x22, 0xe0,             // CR4.PAE = 1
    0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32,                   // rdmsr EFER
    0x80, 0xcc, 0x01, 0x0f, 0x30,                               // EFER.LME = 1
    0x0f, 0x20, 0xc0, 0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, // CR0.PG = 1
    0xea, 0x6a, 0x00, 0xff, 0xff, 0x18, 0x00,                   // ljmp $0x18, $0xffff006a
    0xb9, 0x00, 0x00, 0xec, 0x0b,                               // mov $200015872, %ecx
    0xff, 0xc9, 0x75, 0xfc,                                     // dec %ecx; jnz back to it
    0x66, 0xba, 0x01, 0x05, 0xb0, X86_VALUE, 0xee,              // out X86_VALUE to port 0x501
    0xf4, 0xeb, 0xfd,                                           // hlt, for ever
    0x0f, 0x1f, 0x00,
    0, 0, 0, 0, 0, 0, 0, 0,                                     // GDT, at 0xffff0080
    0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0,                         // 0x08: 32-bit code
    0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0,                         // 0x10: data
    0xff, 0xff, 0, 0, 0, 0x9b, 0xaf, 0,                         // 0x18: 64-bit code
    0x1f, 0x00, 0x80, 0x00, 0xff, 0xff,                         // GDTR, at 0xffff00a0
];

/// A loop, and PSCI's SYSTEM_OFF (Arm DEN 0022).
const AARCH64_TEST_GUEST: [u32; 7] = [
    0x52a1_7d81, // mov w1, #200015872
    0x7100_0421, // subs w1, w1, #1
    0x54ff_ffe1, // b.ne back to it
    0x5280_0100, // mov w0, #8
    0x72b0_8000, // movk w0, #0x8400, lsl #16
    0xd400_0002, // hvc #0
    0x1400_0000, // b .
];

/// `<run>/kvm.json`.
#[derive(Debug, Serialize, Deserialize)]
struct KvmTrial {
    boot_id: String,
    works: bool,
    reason: String,
}

/// Decides what runs the guest of `vm`, and says why. May run a test
/// guest for up to 3 s, the first time after a boot; blocks.
///
/// # Errors
/// Where the spec insists on KVM and there is none.
pub fn accelerator(root: &RootDir, vm: &Vm) -> Result<(Accelerator, String), VmError> {
    let kvm = || match foreign(vm.arch) {
        Some(reason) => (false, reason),
        None => {
            let trial = trial(root, vm.uid);
            (trial.works, trial.reason)
        }
    };
    match vm.accel {
        Accel::Tcg => Ok((Accelerator::Tcg, "the host spec says so".into())),
        Accel::Kvm => match kvm() {
            (true, reason) => Ok((Accelerator::Kvm, reason)),
            (false, reason) => Err(VmError::NoKvm(reason)),
        },
        Accel::Auto => match kvm() {
            (true, reason) => Ok((Accelerator::Kvm, reason)),
            (false, reason) => Ok((Accelerator::Tcg, reason)),
        },
    }
}

/// Whether a guest of this machine's own architecture runs on KVM. May run
/// one of a few instructions for up to 3 s, the first time after a boot;
/// blocks.
///
/// # Errors
/// Why not.
pub fn kvm(root: &RootDir) -> Result<(), String> {
    // Any user of the guests' range, for the first guest isn't there yet.
    let trial = trial(root, *UIDS.start());
    if trial.works { Ok(()) } else { Err(trial.reason) }
}

fn foreign(arch: Arch) -> Option<String> {
    (arch != Arch::NATIVE).then(|| format!("a guest for {arch} can't run on an {} processor", Arch::NATIVE))
}

fn trial(root: &RootDir, uid: u32) -> KvmTrial {
    let path = root.run().join("kvm.json");
    let boot_id = read_bounded(Path::new("/proc/sys/kernel/random/boot_id"), 64).unwrap_or_default();
    let boot_id = String::from_utf8_lossy(&boot_id).trim().to_owned();
    let cached = read_bounded(&path, 4096).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(found) = cached.filter(|found: &KvmTrial| found.boot_id == boot_id) {
        return found;
    }
    let (works, reason) = match probe_kvm(uid) {
        Ok(()) => (true, "a test guest ran on /dev/kvm".to_owned()),
        Err(reason) => (false, reason),
    };
    let trial = KvmTrial { boot_id, works, reason };
    // A cache: without it the next VM asks again.
    let _ = store(&path, &trial);
    trial
}

fn store(path: &Path, trial: &KvmTrial) -> io::Result<()> {
    whole_file::replace(path, serde_json::to_vec(trial)?)
}

/// The user that a VM's QEMU runs as: its own, in its own group. With KVM on
/// a host where `/dev/kvm` isn't everybody's: in the group that may use it.
pub(in crate::vm) fn user(uid: u32, accel: Accelerator) -> User {
    let gid = match (accel, fs::metadata(DEVICE)) {
        (Accelerator::Kvm, Ok(device)) if usable(&device) == Usable::Group => device.gid(),
        _ => uid,
    };
    User { uid, gid }
}

#[derive(PartialEq, Eq)]
enum Usable {
    Anybody,
    Group,
    Root,
}

fn usable(device: &fs::Metadata) -> Usable {
    match device.mode() {
        mode if mode & 0o006 == 0o006 => Usable::Anybody,
        // Root's group is no place for a QEMU.
        mode if mode & 0o060 == 0o060 && device.gid() != 0 => Usable::Group,
        _ => Usable::Root,
    }
}

/// Whether a guest gets anywhere on KVM, run as the VM's user would.
fn probe_kvm(uid: u32) -> Result<(), String> {
    let open = File::options().read(true).write(true).open(DEVICE);
    let device = open.and_then(|device| device.metadata());
    let device = device.map_err(|error| format!("{DEVICE} doesn't open: {error}"))?;
    if usable(&device) == Usable::Root {
        let mode = device.mode() & 0o777;
        return Err(format!(
            "{DEVICE} is root's alone (mode {mode:o}) and QEMU isn't run as root: give the device to a group \
             of its own (chgrp kvm, chmod 660, as systemd does)"
        ));
    }
    probe(Arch::NATIVE, Accelerator::Kvm, user(uid, Accelerator::Kvm), PROBE_LIMIT)
}

/// Runs the test guest on a machine of that architecture; says why not.
fn probe(arch: Arch, accel: Accelerator, user: User, limit: Duration) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("no test guest could be started: {error}");
    let firmware = firmware(arch).map_err(|error| failed(&error))?;
    let command = probe_command(arch, accel);
    find_program(&command.program).map_err(|error| failed(&error))?;
    let mappings = vec![FdMapping { parent_fd: firmware, child_fd: 3 }];
    let kvm = accel == Accelerator::Kvm;
    let calls = Calls { kvm, ..Calls::default() };
    let spawned = spawn(&command, mappings, &Confinement { user, limits: PROBE_LIMITS, calls });
    let mut child = spawned.map_err(|error| failed(&error))?;
    let process = Process::open(child.id());
    let ended = match &process {
        Some(process) => process.wait(limit).map_err(|error| failed(&error))?,
        // It ended before we looked.
        None => true,
    };
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(&error))?;
    match (ended, succeeded(arch, status)) {
        (true, true) => Ok(()),
        (true, false) => {
            Err(format!("a test guest on {accel} ended with {status}: {}", first_words(&mut child)))
        }
        (false, _) => Err(format!("a test guest on {accel} hangs")),
    }
}

/// Of a QEMU that ended.
fn first_words(child: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(1024).read_to_end(&mut text);
    }
    printable(&String::from_utf8_lossy(&text), 300)
}

fn probe_command(arch: Arch, accel: Accelerator) -> QemuCommand {
    let machine: &[&str] = match arch {
        Arch::X86_64 => &["pc", "-device", "isa-debug-exit,iobase=0x501,iosize=1"],
        Arch::Aarch64 => &["virt"],
    };
    let accel = accel.to_string();
    let cpu = if accel == "kvm" { "host" } else { "max" };
    let common = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-m",
        "64M",
        "-accel",
        &accel,
        "-cpu",
        cpu,
        "-bios",
        "/proc/self/fd/3",
        "-machine",
    ];
    let args = common.iter().chain(machine).map(|word| (*word).to_owned()).collect();
    QemuCommand { program: format!("qemu-system-{arch}"), args }
}

/// The test guest, as firmware: it counts to 200 million and ends.
fn firmware(arch: Arch) -> io::Result<OwnedFd> {
    let image = match arch {
        Arch::X86_64 => {
            let mut image = X86_TEST_GUEST.to_vec();
            image.resize(X86_ROM - X86_RESET_VECTOR.len(), 0xf4);
            image.extend(X86_RESET_VECTOR);
            image
        }
        Arch::Aarch64 => AARCH64_TEST_GUEST.into_iter().flat_map(u32::to_le_bytes).collect(),
    };
    let memory = rustix::fs::memfd_create("hostctl-kvm-probe", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(&image)?;
    Ok(file.into())
}

fn succeeded(arch: Arch, status: ExitStatus) -> bool {
    let expected = match arch {
        // isa-debug-exit: twice the value, plus one.
        Arch::X86_64 => i32::from(X86_VALUE) * 2 + 1,
        Arch::Aarch64 => 0,
    };
    status.code() == Some(expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::test_vm::vm;

    #[test]
    fn the_test_guests_end_by_themselves() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let user = User { uid: 0x7000_0001, gid: 0x7000_0001 };
            assert_eq!(probe(arch, Accelerator::Tcg, user, Duration::from_secs(30)), Ok(()), "{arch}");
            let hung = probe(arch, Accelerator::Tcg, user, Duration::ZERO);
            assert_eq!(hung, Err("a test guest on tcg hangs".into()));
        }
    }

    #[test]
    fn a_verdict_is_kept_for_the_boot() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::new(dir.path());
        let vm = Vm { accel: Accel::Auto, arch: Arch::NATIVE, ..vm() };
        let (first, reason) = accelerator(&root, &vm).unwrap();
        let asked = std::time::Instant::now();
        assert_eq!(accelerator(&root, &vm).unwrap(), (first, reason));
        assert!(asked.elapsed() < Duration::from_millis(500));
        let path = root.run().join("kvm.json");
        let mut trial: KvmTrial = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(trial.works, first == Accelerator::Kvm);
        // Whatever an earlier boot's trial said:
        trial.reason = "old".into();
        trial.boot_id = "another".into();
        store(&path, &trial).unwrap();
        assert_ne!(accelerator(&root, &vm).unwrap().1, "old");
    }

    #[test]
    fn a_foreign_guest_is_translated_and_never_on_kvm() {
        let root = RootDir::new("/nonexistent");
        let arch = if Arch::NATIVE == Arch::X86_64 { Arch::Aarch64 } else { Arch::X86_64 };
        let vm = Vm { arch, accel: Accel::Auto, ..vm() };
        assert_eq!(accelerator(&root, &vm).unwrap().0, Accelerator::Tcg);
        let vm = Vm { accel: Accel::Kvm, ..vm };
        assert!(matches!(accelerator(&root, &vm), Err(VmError::NoKvm(_))));
    }
}
