//! VM → QEMU command line. Pure: files, sockets and the TAP device are
//! descriptors that somebody else opens.

use std::fmt::Write;
use std::os::fd::RawFd;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ownership::qemu_name;
use crate::topology::{Arch, Disk, DiskFormat, Machine, Vm};

use super::boot_files::BootFiles;
use super::disk_io::Way;

/// What executes the guest's instructions, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// The descriptors that QEMU inherits, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fds {
    /// An attached TAP device.
    pub tap: RawFd,
    /// Whether its frames carry a virtio header.
    pub offload: bool,
    /// The kernel's end of the network card, where that moves the frames.
    pub vhost: Option<RawFd>,
    /// Listening Unix socket of the machine protocol (QMP).
    pub qmp: RawFd,
    /// Listening Unix socket of the guest agent's port.
    pub agent: RawFd,
    /// Listening Unix socket of the serial console.
    pub serial: RawFd,
    /// The kernel, readable by QEMU's user.
    pub kernel: Option<RawFd>,
    /// The initial RAM disk, readable by QEMU's user.
    pub initrd: Option<RawFd>,
    /// The disk.
    pub disk: Option<DiskFd>,
    /// The volumes, in their order.
    pub volumes: Vec<DiskFd>,
    /// Whether a thread of their own does the disks' requests.
    pub disk_thread: bool,
}

/// A disk's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskFd {
    /// Open for reading and, unless the disk is read-only, writing.
    pub fd: RawFd,
    /// Whether it is a block device rather than a file.
    pub block_device: bool,
    /// Who does its requests.
    pub way: Way,
}

/// A QEMU to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuCommand {
    /// The program, to be looked for in `PATH`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// The command line that runs `vm`.
pub fn command_line(vm: &Vm, boot: &BootFiles, accel: Accelerator, fds: &Fds) -> QemuCommand {
    let mut args = Args::default();
    args.add("-name", qemu_name(&boot.instance, vm.name.as_str()));
    args.flag("-nodefaults");
    args.flag("-no-user-config");
    args.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    args.add("-machine", machine(vm.machine));
    args.add("-accel", accel.to_string());
    args.add("-cpu", cpu(vm.arch, accel));
    args.add("-smp", vm.vcpus.to_string());
    args.add("-m", format!("{}M", vm.memory));
    args.add("-display", "none");
    // A guest that reboots keeps its process; one that powers off or panics ends it.
    args.add("-action", "reboot=reset,shutdown=poweroff,panic=shutdown");
    args.add("-chardev", socket("qmp", fds.qmp));
    args.add("-mon", "chardev=qmp,mode=control");
    args.add("-chardev", socket("console", fds.serial));
    args.add("-serial", "chardev:console");
    args.add("-object", "rng-builtin,id=rng");
    args.add("-device", format!("{},rng=rng", virtio("rng", vm.machine)));
    let vhost = fds.vhost.map_or_else(|| "vhost=off".into(), |fd| format!("vhost=on,vhostfd={fd}"));
    args.add("-netdev", format!("tap,id=net,fd={},{vhost}", fds.tap));
    let rom = if vm.machine == Machine::Microvm { "" } else { ",romfile=" };
    // Datagrams that the host would have to cut into fragments, the guard refuses.
    let fragments = if fds.offload { ",host_ufo=off,guest_ufo=off" } else { "" };
    let card = virtio("net", vm.machine);
    args.add("-device", format!("{card},netdev=net,mac={}{fragments}{rom}", vm.port.mac));
    args.add("-chardev", socket("agent", fds.agent));
    args.add("-device", format!("{},max_ports=2", virtio("serial", vm.machine)));
    args.add("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0");
    match vm.machine {
        // As ISA device it is found by ACPI alone; microvm has no such bus.
        Machine::Q35 => args.add("-device", "pvpanic"),
        Machine::Virt => args.add("-device", "pvpanic-pci"),
        Machine::Microvm => {}
    }
    let thread = if fds.disk_thread { ",iothread=disks" } else { "" };
    if fds.disk_thread && (boot.disk.is_some() || !boot.volumes.is_empty()) {
        args.add("-object", "iothread,id=disks");
    }
    if let (Some(disk), Some(opened)) = (&boot.disk, fds.disk) {
        // A descriptor set: QEMU opens files by name only, this is its name for them.
        args.add("-add-fd", format!("fd={},set=1", opened.fd));
        args.add("-blockdev", block_device("disk", 1, disk, opened));
        let device = virtio("blk", vm.machine);
        args.add("-device", format!("{device},drive=disk,serial=disk,bootindex=1{thread}"));
    }
    for (number, (disk, opened)) in boot.volumes.iter().zip(&fds.volumes).enumerate() {
        let (node, set) = (format!("volume{}", number + 1), number + 2);
        args.add("-add-fd", format!("fd={},set={set}", opened.fd));
        args.add("-blockdev", block_device(&node, set, disk, *opened));
        // Guests find it by its serial number; the order of letters is the bus's affair.
        let device = virtio("blk", vm.machine);
        args.add("-device", format!("{device},drive={node},serial={node}{thread}"));
    }
    if let (Some(_), Some(fd)) = (&boot.kernel, fds.kernel) {
        args.add("-kernel", format!("/proc/self/fd/{fd}"));
        if let Some(fd) = fds.initrd {
            args.add("-initrd", format!("/proc/self/fd/{fd}"));
        }
        args.add("-append", kernel_words(vm, boot, accel));
    }
    QemuCommand { program: format!("qemu-system-{}", vm.arch), args: args.0 }
}

fn machine(machine: Machine) -> &'static str {
    match machine {
        Machine::Q35 => "q35,vmport=off,smbus=off,sata=off",
        Machine::Microvm => "microvm",
        Machine::Virt => "virt",
    }
}

fn cpu(arch: Arch, accel: Accelerator) -> &'static str {
    match (accel, arch) {
        (Accelerator::Kvm, _) => "host",
        (Accelerator::Tcg, Arch::X86_64) => "max",
        // "max" has pointer authentication, which is slow to emulate.
        (Accelerator::Tcg, Arch::Aarch64) => "cortex-a72",
    }
}

/// A virtio device by its bus.
fn virtio(device: &str, machine: Machine) -> String {
    let bus = if machine == Machine::Microvm { "device" } else { "pci" };
    format!("virtio-{device}-{bus}")
}

fn socket(id: &str, fd: RawFd) -> String {
    // With server=on and no client, what the guest writes is discarded: it
    // never waits for a supervisor.
    format!("socket,id={id},fd={fd},server=on,wait=off")
}

/// JSON, in which nothing needs escaping for QEMU's option syntax.
fn block_device(node: &str, set: usize, disk: &Disk, opened: DiskFd) -> String {
    // A block device is used past the host's page cache, which would hold what
    // the guest's holds.
    let cache = json!({ "direct": opened.block_device });
    let file = json!({
        "driver": if opened.block_device { "host_device" } else { "file" },
        "filename": format!("/dev/fdset/{set}"),
        "aio": opened.way.word(),
        "cache": &cache,
        "discard": "unmap",
    });
    let mut node = json!({
        "node-name": node,
        "read-only": disk.read_only,
        "cache": cache,
        "discard": "unmap",
        // Zeroes that the guest writes give their place back.
        "detect-zeroes": "unmap",
        "file": file,
    });
    let format = match disk.format {
        DiskFormat::Raw => json!({ "driver": "raw" }),
        // Whatever the image says, no other file is opened.
        DiskFormat::Qcow2 => json!({ "driver": "qcow2", "backing": null }),
    };
    if let (Some(node), Some(format)) = (node.as_object_mut(), format.as_object()) {
        node.extend(format.clone());
    }
    node.to_string()
}

/// The guest kernel's command line. The network is dracut's syntax
/// (dracut.cmdline(7)), which systemd's and the probe image's init know too.
fn kernel_words(vm: &Vm, boot: &BootFiles, accel: Accelerator) -> String {
    let mut words = boot.cmdline.clone();
    let console = if vm.arch == Arch::Aarch64 { "ttyAMA0" } else { "ttyS0" };
    let port = &vm.port;
    // The interface is eth0 below, whatever udev would like to call it.
    let _ = write!(words, " console={console} net.ifnames=0");
    if vm.machine == Machine::Microvm && accel == Accelerator::Tcg {
        // It has no clock to calibrate these with, and hangs trying.
        words.push_str(" tsc_early_khz=2400000 lpj=4000000");
    }
    let host_name = vm.name.label();
    let _ = write!(words, " ip={}::{}:{}:{}:eth0:none", port.address, port.gateway, port.prefix, host_name);
    if let Some(v6) = &port.v6 {
        let _ = write!(words, " ip=[{}]::[{}]:{}:{}:eth0:none", v6.address, v6.gateway, v6.prefix, host_name);
    }
    for server in &vm.dns {
        let _ = write!(words, " nameserver={server}");
    }
    if !vm.cmdline.is_empty() {
        let _ = write!(words, " {}", vm.cmdline);
    }
    words.trim().to_owned()
}

/// The name of a QEMU's VM, where these are the arguments of one that this
/// instance of hostctl started.
pub(in crate::vm) fn name_of(instance: &str, arguments: &[String]) -> Option<String> {
    let program = arguments.first().and_then(|program| Path::new(program).file_name()?.to_str())?;
    if !program.starts_with("qemu-system-") {
        return None;
    }
    let at = arguments.iter().position(|word| word == "-name")?;
    arguments.get(at + 1)?.strip_prefix(&qemu_name(instance, "")).map(str::to_owned)
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::vm::test_vm::vm;

    fn boot() -> BootFiles {
        BootFiles {
            kernel: Some(PathBuf::from("/images/a, b/vmlinuz")),
            initrd: Some(PathBuf::from("/images/initrd.img")),
            disk: None,
            volumes: Vec::new(),
            cmdline: "quiet panic=-1".into(),
            agent: true,
            instance: "0123456789abcdef".into(),
        }
    }

    const FDS: Fds = Fds {
        tap: 3,
        offload: false,
        vhost: None,
        qmp: 4,
        agent: 5,
        serial: 6,
        kernel: Some(7),
        initrd: Some(8),
        disk: None,
        volumes: Vec::new(),
        disk_thread: true,
    };

    /// One option a line.
    fn lines(command: &QemuCommand) -> String {
        let mut text = command.program.clone();
        for word in &command.args {
            text.push_str(if word.starts_with('-') { "\n" } else { " " });
            text.push_str(word);
        }
        text
    }

    fn disk(format: DiskFormat, read_only: bool) -> BootFiles {
        let path = PathBuf::from("/disks/a,b.img");
        BootFiles { kernel: None, initrd: None, disk: Some(Disk { path, format, read_only }), ..boot() }
    }

    fn disk_fds(block_device: bool) -> Fds {
        let way = if block_device { Way::Native } else { Way::Threads };
        Fds { kernel: None, initrd: None, disk: Some(DiskFd { fd: 7, block_device, way }), ..FDS }
    }

    #[test]
    fn q35() {
        insta::assert_snapshot!(lines(&command_line(&vm(), &boot(), Accelerator::Tcg, &FDS)));
    }

    #[test]
    fn q35_with_a_header() {
        let fds = Fds { offload: true, ..FDS };
        let by_qemu = command_line(&vm(), &boot(), Accelerator::Tcg, &fds);
        insta::assert_snapshot!(lines(&by_qemu));
        let by_kernel = command_line(&vm(), &boot(), Accelerator::Tcg, &Fds { vhost: Some(9), ..fds });
        let changed: Vec<&String> =
            by_kernel.args.iter().filter(|word| !by_qemu.args.contains(word)).collect();
        assert_eq!(changed, ["tap,id=net,fd=3,vhost=on,vhostfd=9"]);
    }

    #[test]
    fn q35_on_kvm_without_ipv6() {
        let mut vm = vm();
        vm.port.v6 = None;
        insta::assert_snapshot!(lines(&command_line(&vm, &boot(), Accelerator::Kvm, &FDS)));
    }

    #[test]
    fn microvm() {
        let vm = Vm { machine: Machine::Microvm, vcpus: 2, ..vm() };
        insta::assert_snapshot!(lines(&command_line(&vm, &boot(), Accelerator::Tcg, &FDS)));
    }

    #[test]
    fn virt() {
        let vm = Vm { machine: Machine::Virt, arch: Arch::Aarch64, cmdline: String::new(), ..vm() };
        insta::assert_snapshot!(lines(&command_line(&vm, &boot(), Accelerator::Tcg, &FDS)));
    }

    #[test]
    fn raw_disk() {
        let command = command_line(&vm(), &disk(DiskFormat::Raw, false), Accelerator::Tcg, &disk_fds(true));
        insta::assert_snapshot!(lines(&command));
    }

    #[test]
    fn qcow2_disk_read_only() {
        let command = command_line(&vm(), &disk(DiskFormat::Qcow2, true), Accelerator::Tcg, &disk_fds(false));
        insta::assert_snapshot!(lines(&command));
    }

    #[test]
    fn volumes_stand_beside_a_disk() {
        let volume = |path: &str, read_only| Disk { path: path.into(), format: DiskFormat::Raw, read_only };
        let boot = BootFiles {
            volumes: vec![volume("/srv/a.img", false), volume("/dev/b", true)],
            ..disk(DiskFormat::Raw, true)
        };
        let fd = |fd, block_device| DiskFd { fd, block_device, way: Way::IoUring };
        let fds = Fds { volumes: vec![fd(8, false), fd(9, true)], ..disk_fds(false) };
        insta::assert_snapshot!(lines(&command_line(&vm(), &boot, Accelerator::Tcg, &fds)));
    }

    #[test]
    fn a_disk_without_a_thread_of_its_own_has_none() {
        let vm = Vm { machine: Machine::Microvm, ..vm() };
        let boot = BootFiles { kernel: Some("/k".into()), ..disk(DiskFormat::Raw, false) };
        let fds = Fds { disk_thread: false, ..disk_fds(false) };
        let text = lines(&command_line(&vm, &boot, Accelerator::Tcg, &fds));
        assert!(text.contains("virtio-blk-device,drive=disk") && !text.contains("iothread"), "{text}");
    }

    #[test]
    fn only_our_own_qemus_are_recognised() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let ours = ["/usr/bin/qemu-system-x86_64", "-name", "guest=hostctl:00ff:vm1", "-nodefaults"];
        assert_eq!(name_of("00ff", &words(&ours)), Some("vm1".into()));
        assert_eq!(name_of("00fe", &words(&ours)), None);
        assert_eq!(name_of("00ff", &words(&["sh", "-name", "guest=hostctl:00ff:vm1"])), None);
        assert_eq!(name_of("00ff", &words(&["qemu-system-x86_64", "-name"])), None);
        assert_eq!(name_of("00ff", &[]), None);
    }
}
