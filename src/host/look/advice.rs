//! What a valid spec may not be meant to say: more than the machine has, a
//! disk of two guests, addresses that are somebody's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ipnet::IpNet;

use crate::app;
use crate::guard;
use crate::packet::prefix;
use crate::topology::{App, Disk, Image, Offload, Topology, Vm, Workload};

/// What the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Memory, in MiB; none where that isn't known.
    pub memory: Option<u64>,
    /// Processors; none where that isn't known.
    pub processors: Option<u64>,
    /// Whether the kernel tells of its types, without which it takes no guard.
    pub types: bool,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            memory: total(&meminfo),
            processors: std::thread::available_parallelism().ok().map(|count| count.get() as u64),
            types: guard::kernel_tells_types(),
        }
    }
}

/// In MiB, from proc_meminfo(5).
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes >> 10)
}

/// Notes about a spec; none is a reason not to apply it.
pub fn advice(topology: &Topology, machine: Machine) -> Vec<String> {
    let mut notes = Vec::new();
    let memory = |vms: &mut dyn Iterator<Item = &Vm>| vms.map(|vm| u64::from(vm.memory)).sum::<u64>();
    for vm in &topology.vms {
        if let Some(has) = machine.memory.filter(|has| u64::from(vm.memory) > *has) {
            notes.push(format!("VM {} has {} MiB of memory, and this host {has}", vm.name, vm.memory));
        }
        if let Some(has) = machine.processors.filter(|has| u64::from(vm.vcpus) > *has) {
            notes.push(format!("VM {} has {} vCPUs, and this host {has} processors", vm.name, vm.vcpus));
        }
        if vm.offload == Offload::On && !machine.types {
            notes.push(format!(
                "VM {}: this kernel takes no guard, so with offload = true nothing judges what the guest has \
                 written into its packets after the firewall: it is trusted with ports and addresses",
                vm.name
            ));
        }
    }
    let together = memory(&mut topology.vms.iter().filter(|vm| vm.autostart));
    if let Some(has) = machine.memory.filter(|has| together > *has)
        && topology.vms.iter().all(|vm| u64::from(vm.memory) <= has)
    {
        notes.push(format!("VMs with autostart have {together} MiB of memory together, and this host {has}"));
    }
    notes.extend(shared_disks(topology));
    notes.extend(apps_as_root(topology));
    notes.extend(topology.apps.iter().filter_map(|app| app::can_start(app).err()).map(|why| why.to_string()));
    for network in &topology.networks {
        let prefixes = [Some(IpNet::V4(network.cidr)), network.cidr6.map(IpNet::V6)];
        notes.extend(prefixes.into_iter().flatten().filter(is_public).map(|prefix| {
            format!(
                "network {}: {prefix} are public addresses; unless they are yours, its guests don't reach \
                 whose they are",
                network.name
            )
        }));
    }
    notes
}

/// Programs that are root because nobody said who they are.
fn apps_as_root(topology: &Topology) -> Option<String> {
    let unsaid = |app: &&App| app.user.is_none() && matches!(app.workload, Workload::Command(_));
    let names: Vec<&str> = topology.apps.iter().filter(unsaid).map(|app| app.name.as_str()).collect();
    let shown = names.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(8);
    let who = match (names.len(), more) {
        (0, _) => return None,
        (1, _) => format!("app {shown} runs"),
        (_, 0) => format!("apps {shown} run"),
        (_, more) => format!("apps {shown} and {more} more run"),
    };
    Some(format!(
        "{who} as root, to whom the host's files belong: user = \"…\" names another, user = \"root\" says \
         that it is meant"
    ))
}

/// Disks that several VMs have, one of which may write to it.
fn shared_disks(topology: &Topology) -> Vec<String> {
    let mut users: BTreeMap<Identity, Vec<(&Vm, &Disk)>> = BTreeMap::new();
    for vm in &topology.vms {
        let first = match &vm.image {
            Image::Files(files) => files.disk.as_ref(),
            Image::Named(_) => None,
        };
        for disk in first.into_iter().chain(&vm.volumes) {
            users.entry(Identity::of(&disk.path)).or_default().push((vm, disk));
        }
    }
    let shared = users.into_values().filter(|users| users.iter().any(|(_, disk)| !disk.read_only));
    let named = shared.filter_map(|users| {
        let mut names: Vec<&str> = users.iter().map(|(vm, _)| vm.name.as_str()).collect();
        names.dedup();
        let path = users.first().map(|(_, disk)| disk.path.display())?;
        let text = || {
            format!(
                "{path} is a disk of {}, and not read-only in each: they destroy each other's files on it",
                names.join(" and ")
            )
        };
        (users.len() > 1).then(text)
    });
    named.collect()
}

/// One file by whichever name, or a name where there is no file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identity<'p> {
    File(u64, u64),
    Name(&'p Path),
}

impl<'p> Identity<'p> {
    fn of(path: &'p Path) -> Self {
        fs::metadata(path).map_or(Self::Name(path), |file| Self::File(file.dev(), file.ino()))
    }
}

/// Whether it is of what is given to somebody on the internet.
fn is_public(net: &IpNet) -> bool {
    let nobodys = prefix::private().iter().chain(prefix::documentation());
    !nobodys.into_iter().any(|private| private.contains(net))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::test_topology::topology;

    const MACHINE: Machine = Machine { memory: Some(1024), processors: Some(2), types: true };

    fn notes(text: &str) -> Vec<String> {
        let text = format!("[networks.a]\ncidr = \"10.1.0.0/24\"\n{text}");
        advice(&topology(&text), MACHINE)
    }

    fn vm(name: &str, keys: &str) -> String {
        format!("[vms.{name}]\nnetwork = \"a\"\nimage = \"probe\"\n{keys}\n")
    }

    #[test]
    fn the_machine_says_what_it_has() {
        assert_eq!(total("MemTotal:       16384000 kB\nMemFree: 1 kB\n"), Some(16000));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        let here = Machine::here();
        assert!(here.memory.is_some_and(|memory| memory > 64) && here.processors.is_some());
    }

    #[test]
    fn more_than_the_machine_has_is_noted() {
        assert_eq!(notes(&vm("v", "memory = \"1G\"\nvcpus = 2")), [""; 0]);
        assert_eq!(notes(&vm("v", "memory = \"3G\"")), ["VM v has 3072 MiB of memory, and this host 1024"]);
        assert_eq!(notes(&vm("v", "vcpus = 3")), ["VM v has 3 vCPUs, and this host 2 processors"]);
        let two = |autostart: &str| {
            notes(
                &[vm("v", "memory = \"600M\""), vm("w", &format!("memory = \"600M\"\n{autostart}"))].concat(),
            )
        };
        assert_eq!(two(""), ["VMs with autostart have 1200 MiB of memory together, and this host 1024"]);
        assert_eq!(two("autostart = false"), [""; 0]);
    }

    #[test]
    fn a_disk_of_two_vms_is_noted_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("data"), dir.path().join("link"));
        fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let volumes = |one: &str, other: &str| {
            let volume = |path: &Path, more: &str| {
                format!("volumes = [{{ path = \"{}\", format = \"raw\"{more} }}]", path.display())
            };
            notes(&[vm("v", &volume(&path, one)), vm("w", &volume(&link, other))].concat())
        };
        let read_only = ", read_only = true";
        assert!(volumes("", read_only)[0].contains("is a disk of v and w, and not read-only in each"));
        assert_eq!(volumes(read_only, read_only), [""; 0]);
    }

    #[test]
    fn apps_that_are_root_by_nobodys_word_are_noted_and_so_are_unknown_users() {
        let app = |name: &str, keys: &str| {
            let subnet = "cidr = \"10.1.0.0/25\"\ntype = \"public\"\nnamespace = true";
            notes(&format!(
                "[networks.a.subnets.in]\n{subnet}\n[apps.{name}]\nnetwork = \"a\"\nsubnet = \"in\"\n{keys}\n"
            ))
        };
        let said = app("x", "command = [\"sleep\", \"1\"]");
        assert!(said.len() == 1 && said[0].starts_with("app x runs as root, to whom"), "{said:?}");
        for meant in [
            "user = \"root\"\ncommand = [\"x\"]",
            "user = \"1\"\ncommand = [\"x\"]",
            "webserver = { port = 80 }",
        ] {
            assert_eq!(app("x", meant), [""; 0], "{meant}");
        }
        let said = app("x", "user = \"nobody-is-called-so\"\ncommand = [\"x\"]");
        assert!(said.len() == 1 && said[0].contains("the host knows no such user"), "{said:?}");
    }

    #[test]
    fn public_prefixes_are_noted() {
        let found = |cidr: &str| {
            let prefix: IpNet = cidr.parse().unwrap();
            is_public(&prefix)
        };
        for public in ["8.8.8.0/24", "172.32.0.0/16", "1.0.0.0/8", "2a00::/64", "0.0.0.0/1"] {
            assert!(found(public), "{public}");
        }
        for private in ["10.0.0.0/8", "172.31.0.0/16", "192.168.1.0/24", "100.64.0.0/16", "fd00::/64"] {
            assert!(!found(private), "{private}");
        }
        let note = notes("[networks.b]\ncidr = \"8.8.8.0/24\"\n");
        assert!(note[0].starts_with("network b: 8.8.8.0/24 are public addresses"), "{note:?}");
    }
}
