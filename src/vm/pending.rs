//! What a guest runs with, beside what it is to run with: what waits for its
//! next start, key by key. Pure.

use std::fmt::{self, Display};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Serialize;

use crate::topology::{Arch, Disk, IfName, Image, MacAddr, Name, Offload, Port, PortV6, Vm};

use super::record::{PortRecord, VmRecord};

/// A change that takes effect when the guest starts next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// The key of the spec, or the file that it names.
    pub key: String,
    /// What the guest runs with.
    pub from: String,
    /// What it will be started with.
    pub to: String,
}

impl Pending {
    /// Whether the spec names another file to boot than before.
    pub fn is_other_file(&self) -> bool {
        let names_files = ["image", "kernel", "initrd", "disk", "volumes"].contains(&self.key.as_str());
        names_files && !self.to.starts_with(&self.from)
    }
}

impl Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.key, self.from, self.to)
    }
}

/// What differs between what a QEMU was started with and what is wanted. What
/// isn't known of the former counts as a difference: it is known once the guest
/// was started again.
pub fn differences(launched: Option<&VmRecord>, wanted: &Vm) -> Vec<Pending> {
    let Some(launched) = launched else {
        let (from, to) = (UNKNOWN.into(), "as in the spec".into());
        return vec![Pending { key: "everything".into(), from, to }];
    };
    // Each field is looked at: one that is added has to be decided about.
    let Vm {
        name: _,
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
        // Its supervisor's business, which reads them when they matter.
        autostart: _,
        restart: _,
        supervisor: _,
        uid,
    } = wanted;
    let mut found = Differences::default();
    found.port(&launched.port(), port);
    found.add("dns", launched.dns.get(), dns, |dns| list(dns));
    found.add("vcpus", launched.vcpus.get(), vcpus, u16::to_string);
    found.add("memory", launched.memory.get(), memory, |memory| format!("{memory}M"));
    found.image(launched.image(), image);
    let disks = |disks: &Vec<Disk>| list(&disks.iter().map(disk).collect::<Vec<_>>());
    found.add("volumes", launched.volumes().as_ref(), volumes, disks);
    found.add("io_uring", launched.io_uring().as_ref(), io_uring, bool::to_string);
    found.add("arch", launched.arch.get(), arch, Arch::to_string);
    found.add("machine", launched.machine.get(), machine, |machine| format!("{machine:?}").to_lowercase());
    found.add("accel", launched.accel.get(), accel, |accel| format!("{accel:?}").to_lowercase());
    found.add("offload", launched.offload().as_ref(), offload, Offload::to_string);
    found.add("cmdline", launched.cmdline.get(), cmdline, |cmdline| format!("{cmdline:?}"));
    found.add("user", launched.uid.get(), uid, u32::to_string);
    found.0
}

const UNKNOWN: &str = "not known";

#[derive(Default)]
struct Differences(Vec<Pending>);

impl Differences {
    fn add<T: PartialEq>(&mut self, key: &str, from: Option<&T>, to: &T, text: impl Fn(&T) -> String) {
        if from != Some(to) {
            let from = from.map_or_else(|| UNKNOWN.into(), &text);
            self.0.push(Pending { key: key.into(), from, to: text(to) });
        }
    }

    /// What the guest is told of its network. The firewall holds it to the new
    /// port already.
    fn port(&mut self, from: &PortRecord, to: &Port) {
        let Port {
            interface,
            altname: _,
            network,
            // Which subnet, shows in address and policy.
            subnet: _,
            bridge: _,
            mac,
            address,
            prefix,
            gateway,
            v6,
        } = to;
        self.add("interface", from.interface.get(), interface, IfName::to_string);
        self.add("network", from.network.get(), network, Name::to_string);
        self.add("mac", from.mac.get(), mac, MacAddr::to_string);
        let had = from.address.get().copied().zip(from.prefix.get().copied());
        self.add("address", had.as_ref(), &(*address, *prefix), |(address, prefix)| {
            format!("{address}/{prefix}")
        });
        self.add("gateway", from.gateway.get(), gateway, Ipv4Addr::to_string);
        // The rest of it is the MAC's.
        let side = |v6: Option<&PortV6>| v6.map(|v6| (v6.address, v6.prefix, v6.gateway));
        let had = from.v6().map(|v6| side(v6.as_ref()));
        self.add("address6", had.as_ref(), &side(v6.as_ref()), |side| match side {
            Some((address, prefix, gateway)) => format!("{address}/{prefix} via {gateway}"),
            None => "none".into(),
        });
    }

    fn image(&mut self, from: Option<Image>, to: &Image) {
        let (Some(Image::Files(old)), Image::Files(new)) = (&from, to) else {
            return self.add("image", from.as_ref(), to, |image| match image {
                Image::Named(name) => name.to_string(),
                Image::Files(_) => "files".into(),
            });
        };
        let path = |path: &Option<PathBuf>| {
            path.as_ref().map_or_else(|| "none".into(), |path| path.display().to_string())
        };
        self.add("kernel", Some(&old.kernel), &new.kernel, path);
        self.add("initrd", Some(&old.initrd), &new.initrd, path);
        let whole = |found: &Option<Disk>| found.as_ref().map_or_else(|| "none".into(), disk);
        self.add("disk", Some(&old.disk), &new.disk, whole);
    }
}

fn list<T: Display>(parts: &[T]) -> String {
    let texts: Vec<String> = parts.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".into() } else { texts.join(", ") }
}

fn disk(disk: &Disk) -> String {
    let format = format!("{:?}", disk.format).to_lowercase();
    let access = if disk.read_only { ", read-only" } else { "" };
    format!("{} ({format}{access})", disk.path.display())
}

#[cfg(test)]
mod tests {
    use super::super::test_vm::vm;
    use super::*;
    use crate::topology::{DiskFormat, ImageFiles, Machine, Supervisor};

    fn said(wanted: &Vm) -> Vec<String> {
        differences(Some(&VmRecord::from(&vm())), wanted).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_waits_where_nothing_changed_or_only_what_its_supervisor_reads() {
        let wanted = Vm { autostart: false, restart: false, supervisor: Supervisor::Unit, ..vm() };
        assert_eq!(said(&wanted), Vec::<String>::new());
    }

    #[test]
    fn each_key_is_named_with_both_values() {
        let mut wanted =
            Vm { vcpus: 2, memory: 512, machine: Machine::Microvm, cmdline: "a b".into(), ..vm() };
        wanted.dns.clear();
        wanted.port.address = "10.1.0.9".parse().unwrap();
        wanted.port.v6 = None;
        wanted.port.mac = "02:00:00:00:00:02".parse().unwrap();
        wanted.image = Image::Named(Name::new("other").unwrap());
        wanted.volumes = vec![Disk { path: "/srv/a".into(), format: DiskFormat::Qcow2, read_only: true }];
        assert_eq!(
            said(&wanted),
            [
                "mac 02:00:00:00:00:01 -> 02:00:00:00:00:02",
                "address 10.1.0.2/24 -> 10.1.0.9/24",
                "address6 fd00:0:0:1::2/64 via fd00:0:0:1::1 -> none",
                "dns 10.1.0.1 -> none",
                "vcpus 1 -> 2",
                "memory 256M -> 512M",
                "image probe -> other",
                "volumes none -> /srv/a (qcow2, read-only)",
                "machine q35 -> microvm",
                "cmdline \"loglevel=4\" -> \"a b\"",
            ]
        );
    }

    #[test]
    fn files_are_named_one_by_one() {
        let files =
            |kernel: &str| Image::Files(ImageFiles { kernel: Some(kernel.into()), initrd: None, disk: None });
        let from = Vm { image: files("/a"), ..vm() };
        let found = differences(Some(&VmRecord::from(&from)), &Vm { image: files("/b"), ..vm() });
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["kernel /a -> /b"]);
    }

    #[test]
    fn what_cant_be_read_waits_too() {
        assert_eq!(differences(None, &vm()).len(), 1);
    }
}
