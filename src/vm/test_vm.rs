//! A VM for unit tests.

use serde_json::json;

use crate::topology::Vm;

/// An x86_64 q35 named vm1 that boots the probe image.
pub(super) fn vm() -> Vm {
    serde_json::from_value(json!({
        "name": "vm1",
        "port": {
            "interface": "vm-vm1", "altname": null, "network": "vm1", "subnet": "vm1",
            "bridge": "br-vm1", "mac": "02:00:00:00:00:01", "address": "10.1.0.2", "prefix": 24,
            "gateway": "10.1.0.1",
            "v6": {
                "address": "fd00:0:0:1::2", "prefix": 64, "gateway": "fd00:0:0:1::1",
                "link_local": "fe80::ff:fe00:1"
            }
        },
        "dns": ["10.1.0.1"], "vcpus": 1, "memory": 256, "image": {"named": "probe"},
        "arch": "x86_64", "machine": "q35", "accel": "tcg", "cmdline": "loglevel=4",
        "autostart": true, "restart": true, "uid": 0x7000_0001_u32
    }))
    .unwrap()
}
