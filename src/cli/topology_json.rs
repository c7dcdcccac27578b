//! What a topology has, as `--json` prints it.

use hostctl::topology::{Disk, Given, Image, ImageFiles, Move, Port, PortV6, Vm};
use serde_json::{Value, json};

/// What guests are given.
pub fn moves(moves: &[Move]) -> Vec<Value> {
    let what = |given| match given {
        Given::Address => "address",
        Given::Address6 => "address6",
        Given::Mac => "mac",
        Given::Interface => "interface",
        Given::User => "user",
    };
    let one = |Move { guest, what: given, from, to, why }: &Move| json!({ "guest": guest, "what": what(*given), "from": from, "to": to, "why": why });
    moves.iter().map(one).collect()
}

/// A VM.
pub fn vm(vm: &Vm) -> Value {
    json!({
        "name": vm.name,
        "port": port(&vm.port),
        "dns": vm.dns,
        "vcpus": vm.vcpus,
        "memory": vm.memory,
        "image": image(&vm.image),
        "volumes": vm.volumes.iter().map(disk).collect::<Vec<_>>(),
        "io_uring": vm.io_uring,
        "arch": vm.arch,
        "machine": vm.machine,
        "accel": vm.accel,
        "cmdline": vm.cmdline,
        "autostart": vm.autostart,
        "restart": vm.restart,
        "supervisor": vm.supervisor,
        "uid": vm.uid,
    })
}

fn port(port: &Port) -> Value {
    let v6 = port.v6.as_ref().map(|PortV6 { address, prefix, gateway, link_local }| {
        json!({ "address": address, "prefix": prefix, "gateway": gateway, "link_local": link_local })
    });
    json!({
        "interface": port.interface,
        "altname": port.altname,
        "network": port.network,
        "subnet": port.subnet,
        "bridge": port.bridge,
        "mac": port.mac,
        "address": port.address,
        "prefix": port.prefix,
        "gateway": port.gateway,
        "v6": v6,
    })
}

fn image(image: &Image) -> Value {
    match image {
        Image::Named(name) => json!({ "named": name }),
        Image::Files(ImageFiles { kernel, initrd, disk: first }) => {
            json!({ "files": { "kernel": kernel, "initrd": initrd, "disk": first.as_ref().map(disk) } })
        }
    }
}

fn disk(Disk { path, format, read_only }: &Disk) -> Value {
    json!({ "path": path, "format": format, "read_only": read_only })
}
