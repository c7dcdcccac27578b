//! Which of the host's files a confined program sees. Pure.

use std::path::{Component, Path, PathBuf};

/// What the program's libraries are found by.
const LIBRARIES: [&str; 7] =
    ["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/etc/ld.so.cache"];

/// Where QEMU's firmware is, beside `share/qemu`: distributions link from
/// there to here.
const FIRMWARE: [&str; 12] = [
    "qemu",
    "qemu-kvm",
    "qemu-firmware",
    "seabios",
    "ipxe",
    "ovmf",
    "OVMF",
    "AAVMF",
    "qemu-efi-aarch64",
    "edk2",
    "edk2-ovmf",
    "sgabios",
];

/// Devices that anybody may have.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// A file or directory of the host's, at the path that it has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub path: PathBuf,
    pub device: bool,
}

/// What `program`, an absolute path without symbolic links, sees: itself, its
/// libraries and data, `devices`. Where something isn't there, it isn't
/// seen.
pub(super) fn of(program: &Path, devices: &[&str]) -> Vec<Seen> {
    let mut seen: Vec<PathBuf> = Vec::new();
    let store = Path::new("/nix/store");
    if program.starts_with(store) {
        // Libraries, data and the wrapper's shell all lie there, under names
        // that only Nix knows; anybody may read all of it.
        seen.push(store.into());
    } else {
        let prefix = program.parent().and_then(Path::parent).filter(|prefix| *prefix != Path::new("/"));
        let prefix = prefix.filter(|_| program.parent().is_some_and(|dir| dir.ends_with("bin")));
        seen.extend(LIBRARIES.map(PathBuf::from));
        for prefix in [Some(Path::new("/usr")), prefix].into_iter().flatten() {
            seen.extend(["lib", "lib64"].map(|dir| prefix.join(dir)));
            seen.extend(FIRMWARE.map(|dir| prefix.join("share").join(dir)));
        }
        seen.push(program.into());
    }
    seen.sort();
    seen.dedup();
    // What lies in another is seen with it.
    let outer = seen.clone();
    seen.retain(|path| !outer.iter().any(|other| other != path && path.starts_with(other)));
    let files = seen.into_iter().map(|path| Seen { path, device: false });
    let devices = DEVICES.iter().chain(devices).map(|path| Seen { path: path.into(), device: true });
    files.chain(devices).collect()
}

/// The path below a root directory; `None` for one that leads elsewhere.
pub(super) fn below_root(path: &Path) -> Option<PathBuf> {
    let mut below = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => below.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (path.is_absolute() && !below.as_os_str().is_empty()).then_some(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(program: &str) -> Vec<String> {
        let seen = of(Path::new(program), &[]);
        seen.into_iter().filter(|seen| !seen.device).map(|seen| seen.path.display().to_string()).collect()
    }

    #[test]
    fn a_distributions_qemu_sees_its_libraries_and_firmware() {
        let seen = paths("/usr/bin/qemu-system-x86_64");
        for path in
            ["/usr/bin/qemu-system-x86_64", "/usr/lib", "/lib64", "/usr/share/qemu", "/usr/share/seabios"]
        {
            assert!(seen.iter().any(|other| other == path), "{path}: {seen:?}");
        }
        for path in ["/", "/etc", "/usr", "/usr/bin", "/usr/share", "/var", "/run", "/nix/store"] {
            assert!(!seen.iter().any(|other| other == path), "{path}: {seen:?}");
        }
    }

    #[test]
    fn one_of_ones_own_sees_its_prefix_and_nixs_the_store_alone() {
        let seen = paths("/opt/qemu/bin/qemu-system-x86_64");
        assert!(seen.iter().any(|path| path == "/opt/qemu/share/qemu"), "{seen:?}");
        assert!(!seen.iter().any(|path| path == "/opt/qemu" || path == "/opt"), "{seen:?}");
        assert_eq!(paths("/nix/store/abc-qemu/bin/qemu-system-x86_64"), ["/nix/store"]);
        let seen = paths("/srv/secret/qemu-system-x86_64");
        assert!(!seen.iter().any(|path| path.starts_with("/srv") && path.ends_with("lib")), "{seen:?}");
    }

    #[test]
    fn nothing_leads_out_of_the_room() {
        assert_eq!(below_root(Path::new("/usr/./lib")), Some("usr/lib".into()));
        for path in ["/", "", "usr/lib", "/usr/../lib"] {
            assert_eq!(below_root(Path::new(path)), None, "{path}");
        }
    }
}
