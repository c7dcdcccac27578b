//! A VM for unit tests.

use crate::topology::{Accel, Arch, IfName, Image, Machine, Name, Offload, Port, PortV6, Supervisor, Vm};

/// An x86_64 q35 named vm1 that boots the probe image.
pub(super) fn vm() -> Vm {
    let name = |text: &str| Name::new(text).unwrap();
    let v6 = PortV6 {
        address: "fd00:0:0:1::2".parse().unwrap(),
        prefix: 64,
        gateway: "fd00:0:0:1::1".parse().unwrap(),
        link_local: "fe80::ff:fe00:1".parse().unwrap(),
    };
    let port = Port {
        interface: IfName::new("vm-vm1").unwrap(),
        altname: None,
        network: name("vm1"),
        subnet: name("vm1"),
        bridge: IfName::new("br-vm1").unwrap(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        address: "10.1.0.2".parse().unwrap(),
        prefix: 24,
        gateway: "10.1.0.1".parse().unwrap(),
        v6: Some(v6),
    };
    Vm {
        name: name("vm1"),
        port,
        dns: vec!["10.1.0.1".parse().unwrap()],
        vcpus: 1,
        memory: 256,
        image: Image::Named(name("probe")),
        volumes: Vec::new(),
        io_uring: false,
        arch: Arch::X86_64,
        machine: Machine::Q35,
        accel: Accel::Tcg,
        offload: Offload::Auto,
        cmdline: "loglevel=4".into(),
        autostart: true,
        restart: true,
        supervisor: Supervisor::Hostctl,
        uid: 0x7000_0001,
    }
}
