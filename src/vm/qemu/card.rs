//! A VM's network card: whether its frames carry a virtio header, and why.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::guard::{self, Attached};
use crate::root_dir::RootDir;
use crate::topology::{Offload, Vm};

/// How frames come from a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Whether they carry a virtio header, so that the host computes checksums
    /// and cuts segments.
    pub offload: bool,
    /// Why, or why not.
    pub reason: String,
    /// Whether the kernel moves frames between guest and TAP, past QEMU.
    #[serde(default)]
    pub vhost: bool,
}

/// The kernel's end of a virtio card.
const VHOST: &str = "/dev/vhost-net";
/// Whether it would send guests' memory as it is, which they could change after
/// it was judged; then it isn't used.
const ZERO_COPY: &str = "/sys/module/vhost_net/parameters/experimental_zcopytx";

/// Whether the kernel can move guests' frames.
///
/// # Errors
/// Why not.
pub fn vhost() -> Result<(), String> {
    open_vhost().map(drop)
}

/// Opens the kernel's end for one card.
pub(in crate::vm) fn open_vhost() -> Result<OwnedFd, String> {
    let zero_copy = fs::read_to_string(ZERO_COPY).unwrap_or_default();
    if !["", "0"].contains(&zero_copy.trim()) {
        return Err(format!("{ZERO_COPY} is on: a guest could change frames after they were judged"));
    }
    let device = File::options().read(true).write(true).open(VHOST);
    device.map(OwnedFd::from).map_err(|error| format!("{VHOST} doesn't open: {error}"))
}

/// Decides how frames of `vm` come. One whose guard isn't there has no header,
/// unless its spec trusts it; the kernel doesn't let it have one later.
pub(in crate::vm) fn card(root: &RootDir, vm: &Vm) -> Card {
    let guarded = || -> Result<(), String> {
        let name = vm.port.interface.as_str();
        let index = nix::net::if_::if_nametoindex(name).map_err(|error| format!("{name}: {error}"))?;
        let found = guard::attached(index).map_err(|error| format!("{name}: {error}"))?;
        let tag = guard::known(root, [found])?;
        match found {
            Attached::Program(found) if found == tag => Ok(()),
            _ => Err(format!("{name} has no guard: hostctl apply attaches it")),
        }
    };
    let card = decide(vm.offload, guarded);
    // What it gains without a header is little, and it is one more way into the kernel.
    Card { vhost: card.offload && vhost().is_ok(), ..card }
}

fn decide(offload: Offload, guarded: impl FnOnce() -> Result<(), String>) -> Card {
    let says = |offload, reason: String| Card { offload, reason, vhost: false };
    match offload {
        Offload::Off => says(false, "the host spec says so".into()),
        Offload::Auto => match guarded() {
            Ok(()) => says(true, "a guard judges what the guest asks for".into()),
            Err(reason) => says(false, reason),
        },
        Offload::On => match guarded() {
            Ok(()) => says(true, "the host spec says so, and a guard judges what the guest asks for".into()),
            Err(reason) => says(true, format!("the host spec trusts the guest: {reason}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_guard_only_who_is_trusted_has_a_header() {
        for (offload, guarded, wanted) in [
            (Offload::Auto, true, true),
            (Offload::Auto, false, false),
            (Offload::On, true, true),
            (Offload::On, false, true),
            (Offload::Off, true, false),
            (Offload::Off, false, false),
        ] {
            let card = decide(offload, || if guarded { Ok(()) } else { Err("no types".into()) });
            assert_eq!(card.offload, wanted, "{offload} {guarded}");
            let told = !guarded && offload != Offload::Off;
            assert_eq!(card.reason.contains("no types"), told, "{}", card.reason);
            assert_eq!(card.reason.contains("trusts"), wanted && !guarded, "{}", card.reason);
        }
    }
}
