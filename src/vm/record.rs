//! What is written down of VMs: what one is to be (`vm.json`), what its QEMU was
//! started with (`launch.json`). The shape is the files' own, whatever becomes
//! of the topology: QEMUs and supervisors of earlier versions run on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::record::Field;
use crate::supervise::birthplace::Birthplace;
use crate::topology::{
    Accel, Arch, Disk, DiskFormat, IfName, Image, ImageFiles, MacAddr, Machine, Name, Offload, Port, PortV6,
    Supervisor, Vm,
};

use super::qemu::card::Card;
use super::qemu::command_line::Accelerator;

/// The version that is written. A later one may say more; what is read here
/// means the same in each.
pub(super) const VERSION: u32 = 1;

/// A VM. Supervisors of earlier versions read it too: no field goes, and none
/// gets another type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VmRecord {
    version: Field<u32>,
    pub(super) name: Field<Name>,
    port: Field<PortRecord>,
    pub(super) dns: Field<Vec<IpAddr>>,
    pub(super) vcpus: Field<u16>,
    /// MiB.
    pub(super) memory: Field<u32>,
    image: Field<ImageRecord>,
    volumes: Field<Vec<DiskRecord>>,
    /// Where it may use it: records of earlier versions don't say.
    #[serde(skip_serializing_if = "Field::is_missing")]
    io_uring: Field<bool>,
    pub(super) arch: Field<Arch>,
    pub(super) machine: Field<Machine>,
    pub(super) accel: Field<Accel>,
    /// What isn't `auto`, as it is in those of earlier versions.
    #[serde(skip_serializing_if = "Field::is_missing")]
    pub(super) offload: Field<Offload>,
    pub(super) cmdline: Field<String>,
    autostart: Field<bool>,
    restart: Field<bool>,
    supervisor: Field<Supervisor>,
    pub(super) uid: Field<u32>,
}

/// Where a VM is attached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PortRecord {
    pub interface: Field<IfName>,
    altname: Field<Option<String>>,
    pub network: Field<Name>,
    subnet: Field<Name>,
    bridge: Field<IfName>,
    pub mac: Field<MacAddr>,
    pub address: Field<Ipv4Addr>,
    pub prefix: Field<u8>,
    pub gateway: Field<Ipv4Addr>,
    v6: Field<Option<PortV6Record>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PortV6Record {
    address: Ipv6Addr,
    prefix: u8,
    gateway: Ipv6Addr,
    link_local: Ipv6Addr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ImageRecord {
    Named(Name),
    /// What isn't there is null: one that says nothing isn't an image without.
    Files {
        #[serde(deserialize_with = "Deserialize::deserialize")]
        kernel: Option<PathBuf>,
        #[serde(deserialize_with = "Deserialize::deserialize")]
        initrd: Option<PathBuf>,
        #[serde(deserialize_with = "Deserialize::deserialize")]
        disk: Option<DiskRecord>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DiskRecord {
    path: PathBuf,
    format: DiskFormat,
    read_only: bool,
}

/// A QEMU that runs, and what it was started with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LaunchRecord {
    pub version: Field<u32>,
    pub vm: Field<VmRecord>,
    pub pid: Field<u32>,
    /// Of the process, in clock ticks after boot.
    pub start_time: Field<u64>,
    pub accel: Field<Accelerator>,
    /// Why that accelerator.
    pub accel_reason: Field<String>,
    /// How its disks are read and written.
    pub disks: Field<String>,
    /// How frames come from it; without a header where an earlier version
    /// started it.
    pub card: Field<Card>,
    /// Whether the image has a guest agent.
    pub agent: Field<bool>,
    /// Seconds after the epoch.
    pub started_at: Field<u64>,
    /// Where the pid means this process, and whose guest it is.
    pub birthplace: Field<Birthplace>,
}

impl From<&Vm> for VmRecord {
    fn from(vm: &Vm) -> Self {
        // Each field is looked at: one that is added has to be decided about.
        let Vm {
            name,
            port,
            dns,
            vcpus,
            memory,
            image,
            volumes,
            io_uring,
            arch,
            machine,
            accel,
            offload,
            cmdline,
            autostart,
            restart,
            supervisor,
            uid,
        } = vm.clone();
        Self {
            version: Field::Is(VERSION),
            name: Field::Is(name),
            port: Field::Is(port.into()),
            dns: Field::Is(dns),
            vcpus: Field::Is(vcpus),
            memory: Field::Is(memory),
            image: Field::Is(image.into()),
            volumes: Field::Is(volumes.into_iter().map(DiskRecord::from).collect()),
            io_uring: if io_uring { Field::Is(true) } else { Field::Missing },
            arch: Field::Is(arch),
            machine: Field::Is(machine),
            accel: Field::Is(accel),
            offload: if offload == Offload::Auto { Field::Missing } else { Field::Is(offload) },
            cmdline: Field::Is(cmdline),
            autostart: Field::Is(autostart),
            restart: Field::Is(restart),
            supervisor: Field::Is(supervisor),
            uid: Field::Is(uid),
        }
    }
}

impl VmRecord {
    /// The VM, where all is known that a QEMU is started with. A guess in the
    /// place of the rest would be another machine than anybody asked for.
    ///
    /// # Errors
    /// The key of what isn't.
    pub(super) fn vm(self) -> Result<Vm, &'static str> {
        Ok(Vm {
            name: self.name.into_option().ok_or("name")?,
            port: self.port.into_option().ok_or("port")?.port()?,
            dns: self.dns.into_option().ok_or("dns")?,
            vcpus: self.vcpus.into_option().ok_or("vcpus")?,
            memory: self.memory.into_option().ok_or("memory")?,
            image: self.image.into_option().ok_or("image")?.into(),
            volumes: disks(self.volumes.or(Vec::new()).ok_or("volumes")?),
            io_uring: self.io_uring.or(false).ok_or("io_uring")?,
            arch: self.arch.into_option().ok_or("arch")?,
            machine: self.machine.into_option().ok_or("machine")?,
            accel: self.accel.into_option().ok_or("accel")?,
            offload: self.offload.or(Offload::Auto).ok_or("offload")?,
            cmdline: self.cmdline.into_option().ok_or("cmdline")?,
            uid: self.uid.into_option().ok_or("uid")?,
            // Its supervisor's business, as the spec has it by default.
            autostart: self.autostart.into_option().unwrap_or(true),
            restart: self.restart.into_option().unwrap_or(true),
            supervisor: self.supervisor.into_option().unwrap_or_default(),
        })
    }

    /// Where it is attached, as far as that is known.
    pub(super) fn port(&self) -> PortRecord {
        self.port.get().cloned().unwrap_or_default()
    }

    /// The name of its network.
    pub fn network(&self) -> Option<Name> {
        self.port().network.into_option()
    }

    /// Its interface on the host.
    pub fn interface(&self) -> Option<IfName> {
        self.port().interface.into_option()
    }

    /// Its addresses, IPv4 before IPv6.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let port = self.port();
        let v6 = port.v6().flatten().map(|v6| v6.address.into());
        port.address.into_option().map(IpAddr::from).into_iter().chain(v6).collect()
    }

    /// What it boots.
    pub(super) fn image(&self) -> Option<Image> {
        self.image.get().cloned().map(Image::from)
    }

    /// Whether it may use io_uring; in earlier versions none did.
    pub(super) fn io_uring(&self) -> Option<bool> {
        self.io_uring.or(false)
    }

    /// Whether it was to have a virtio header; earlier versions didn't say.
    pub(super) fn offload(&self) -> Option<Offload> {
        self.offload.or(Offload::Auto)
    }

    /// Its disks besides; earlier versions had none.
    pub(super) fn volumes(&self) -> Option<Vec<Disk>> {
        self.volumes.clone().or(Vec::new()).map(disks)
    }
}

impl PortRecord {
    fn port(self) -> Result<Port, &'static str> {
        let v6 = self.v6().ok_or("port.v6")?;
        Ok(Port {
            interface: self.interface.into_option().ok_or("port.interface")?,
            altname: self.altname.or(None).ok_or("port.altname")?,
            network: self.network.into_option().ok_or("port.network")?,
            subnet: self.subnet.into_option().ok_or("port.subnet")?,
            bridge: self.bridge.into_option().ok_or("port.bridge")?,
            mac: self.mac.into_option().ok_or("port.mac")?,
            address: self.address.into_option().ok_or("port.address")?,
            prefix: self.prefix.into_option().ok_or("port.prefix")?,
            gateway: self.gateway.into_option().ok_or("port.gateway")?,
            v6,
        })
    }

    /// Its IPv6 side, where it is known whether there is one.
    pub fn v6(&self) -> Option<Option<PortV6>> {
        let v6 = self.v6.clone().into_option()?;
        Some(v6.map(|PortV6Record { address, prefix, gateway, link_local }| PortV6 {
            address,
            prefix,
            gateway,
            link_local,
        }))
    }
}

impl From<Port> for PortRecord {
    fn from(port: Port) -> Self {
        let Port { interface, altname, network, subnet, bridge, mac, address, prefix, gateway, v6 } = port;
        let v6 = v6.map(|PortV6 { address, prefix, gateway, link_local }| PortV6Record {
            address,
            prefix,
            gateway,
            link_local,
        });
        Self {
            interface: Field::Is(interface),
            altname: Field::Is(altname),
            network: Field::Is(network),
            subnet: Field::Is(subnet),
            bridge: Field::Is(bridge),
            mac: Field::Is(mac),
            address: Field::Is(address),
            prefix: Field::Is(prefix),
            gateway: Field::Is(gateway),
            v6: Field::Is(v6),
        }
    }
}

impl From<Image> for ImageRecord {
    fn from(image: Image) -> Self {
        match image {
            Image::Named(name) => Self::Named(name),
            Image::Files(ImageFiles { kernel, initrd, disk }) => {
                Self::Files { kernel, initrd, disk: disk.map(DiskRecord::from) }
            }
        }
    }
}

impl From<ImageRecord> for Image {
    fn from(image: ImageRecord) -> Self {
        match image {
            ImageRecord::Named(name) => Self::Named(name),
            ImageRecord::Files { kernel, initrd, disk } => {
                Self::Files(ImageFiles { kernel, initrd, disk: disk.map(Disk::from) })
            }
        }
    }
}

impl From<Disk> for DiskRecord {
    fn from(Disk { path, format, read_only }: Disk) -> Self {
        Self { path, format, read_only }
    }
}

impl From<DiskRecord> for Disk {
    fn from(DiskRecord { path, format, read_only }: DiskRecord) -> Self {
        Self { path, format, read_only }
    }
}

fn disks(records: Vec<DiskRecord>) -> Vec<Disk> {
    records.into_iter().map(Disk::from).collect()
}
