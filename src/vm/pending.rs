//! What a guest runs with, beside what it is to run with: what waits for its
//! next start, key by key. Pure.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::topology::{Disk, Image, Port, Vm};

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

/// What differs between what a QEMU was started with and what is wanted.
/// `launched` is none where an earlier version of hostctl wrote it in a way
/// that this one can't read.
pub fn differences(launched: Option<&Vm>, wanted: &Vm) -> Vec<Pending> {
    let Some(launched) = launched else {
        let (from, to) = ("not known".into(), "as in the spec".into());
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
        arch,
        machine,
        accel,
        cmdline,
        // Its supervisor's business, which reads them when they matter.
        autostart: _,
        restart: _,
        supervisor: _,
        uid,
    } = launched;
    let mut found = Differences::default();
    found.port(port, &wanted.port);
    found.texts("dns", dns.iter().map(ToString::to_string), wanted.dns.iter().map(ToString::to_string));
    found.add("vcpus", vcpus, &wanted.vcpus);
    if *memory != wanted.memory {
        found.push("memory", format!("{memory}M"), format!("{}M", wanted.memory));
    }
    if *image != wanted.image {
        found.image(image, &wanted.image);
    }
    found.texts("volumes", volumes.iter().map(disk), wanted.volumes.iter().map(disk));
    found.add("arch", arch, &wanted.arch);
    if *machine != wanted.machine {
        let word = |machine| format!("{machine:?}").to_lowercase();
        found.push("machine", word(*machine), word(wanted.machine));
    }
    if *accel != wanted.accel {
        let word = |accel| format!("{accel:?}").to_lowercase();
        found.push("accel", word(*accel), word(wanted.accel));
    }
    if *cmdline != wanted.cmdline {
        found.push("cmdline", format!("{cmdline:?}"), format!("{:?}", wanted.cmdline));
    }
    found.add("user", uid, &wanted.uid);
    found.0
}

#[derive(Default)]
struct Differences(Vec<Pending>);

impl Differences {
    fn push(&mut self, key: &str, from: String, to: String) {
        self.0.push(Pending { key: key.into(), from, to });
    }

    fn add<T: PartialEq + Display>(&mut self, key: &str, from: &T, to: &T) {
        if from != to {
            self.push(key, from.to_string(), to.to_string());
        }
    }

    fn texts(&mut self, key: &str, from: impl Iterator<Item = String>, to: impl Iterator<Item = String>) {
        let (from, to): (Vec<_>, Vec<_>) = (from.collect(), to.collect());
        if from != to {
            self.push(key, list(&from), list(&to));
        }
    }

    /// What the guest is told of its network. The firewall holds it to the new
    /// port already.
    fn port(&mut self, from: &Port, to: &Port) {
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
        } = from;
        self.add("interface", interface, &to.interface);
        self.add("network", network, &to.network);
        self.add("mac", mac, &to.mac);
        if (address, prefix) != (&to.address, &to.prefix) {
            self.push("address", format!("{address}/{prefix}"), format!("{}/{}", to.address, to.prefix));
        }
        self.add("gateway", gateway, &to.gateway);
        let text = |port: &Port| match &port.v6 {
            Some(v6) => format!("{}/{} via {}", v6.address, v6.prefix, v6.gateway),
            None => "none".into(),
        };
        let same = match (v6, &to.v6) {
            // The rest of it is the MAC's.
            (Some(from), Some(to)) => {
                (from.address, from.prefix, from.gateway) == (to.address, to.prefix, to.gateway)
            }
            (from, to) => from.is_none() && to.is_none(),
        };
        if !same {
            self.push("address6", text(from), text(to));
        }
    }

    fn image(&mut self, from: &Image, to: &Image) {
        let (Image::Files(old), Image::Files(new)) = (from, to) else {
            let text = |image: &Image| match image {
                Image::Named(name) => name.to_string(),
                Image::Files(_) => "files".into(),
            };
            return self.push("image", text(from), text(to));
        };
        let path = |path: &Option<std::path::PathBuf>| {
            path.as_ref().map_or_else(|| "none".into(), |path| path.display().to_string())
        };
        let whole = |found: &Option<Disk>| found.as_ref().map_or_else(|| "none".into(), disk);
        for (key, from, to) in [
            ("kernel", path(&old.kernel), path(&new.kernel)),
            ("initrd", path(&old.initrd), path(&new.initrd)),
            ("disk", whole(&old.disk), whole(&new.disk)),
        ] {
            self.add(key, &from, &to);
        }
    }
}

fn list(texts: &[String]) -> String {
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
    use crate::topology::{DiskFormat, ImageFiles, Machine, Name, Supervisor};

    fn said(wanted: &Vm) -> Vec<String> {
        differences(Some(&vm()), wanted).iter().map(ToString::to_string).collect()
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
        let found = differences(Some(&from), &Vm { image: files("/b"), ..vm() });
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["kernel /a -> /b"]);
    }

    #[test]
    fn what_cant_be_read_waits_too() {
        assert_eq!(differences(None, &vm()).len(), 1);
    }
}
