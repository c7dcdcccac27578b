//! Which files a guest booted from: so that one that is replaced under the same
//! name is noticed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::record::{Field, each, lenient};
use crate::root_dir::RootDir;
use crate::topology::{Image, Vm};

use super::pending::Pending;
use super::qemu::boot_files::BootFiles;
use super::record::VERSION;

/// `booted.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Booted {
    version: Field<u32>,
    #[serde(deserialize_with = "each")]
    files: Vec<File>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    /// The spec's key, or the part of the image.
    key: String,
    path: PathBuf,
    /// None where it isn't there, or that can't be read.
    #[serde(default, deserialize_with = "lenient")]
    identity: Option<Identity>,
}

/// The same file, as far as `stat` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    device: u64,
    inode: u64,
    /// Bytes, and when it was written last, in seconds after the epoch and
    /// nanoseconds after that; not of what the guest writes itself.
    #[serde(default)]
    content: Option<(u64, i64, i64)>,
}

impl Booted {
    /// The files that `vm` boots, as they are now.
    pub(super) fn now(root: &RootDir, vm: &Vm, boot: &BootFiles) -> Self {
        let mut files = Vec::new();
        let mut add = |key: String, path: &Path, written: bool| {
            files.push(File { key, path: path.into(), identity: identity(path, written) });
        };
        if let Image::Named(name) = &vm.image {
            add("image".into(), &root.images().join(name.as_str()).join("image.json"), false);
        }
        for (key, file) in [("kernel", &boot.kernel), ("initrd", &boot.initrd)] {
            if let Some(file) = file {
                add(key.into(), file, false);
            }
        }
        if let Some(disk) = &boot.disk {
            add("disk".into(), &disk.path, !disk.read_only);
        }
        for (index, volume) in boot.volumes.iter().enumerate() {
            add(format!("volumes[{index}]"), &volume.path, !volume.read_only);
        }
        Self { version: Field::Is(VERSION), files }
    }

    /// What was replaced since: `self` is what the guest booted, `now` what it
    /// would boot. A path that the spec changed is the spec's difference.
    fn replaced(&self, now: &Self) -> Vec<Pending> {
        let pair = |was: &File| {
            let is = now.files.iter().find(|is| is.key == was.key && is.path == was.path)?;
            let known = was.identity.as_ref()?;
            let word = match &is.identity {
                None => "gone",
                Some(identity) if identity != known => "replaced",
                Some(_) => return None,
            };
            let path = was.path.display().to_string();
            Some(Pending { key: was.key.clone(), to: format!("{path} ({word})"), from: path })
        };
        self.files.iter().filter_map(pair).collect()
    }
}

/// What of the files that a guest booted was replaced since.
pub(super) fn replaced(root: &RootDir, booted: &Booted, wanted: &Vm) -> Vec<Pending> {
    // Whether it can be started is said by whoever starts it.
    match BootFiles::resolve(root, wanted) {
        Ok(boot) => booted.replaced(&Booted::now(root, wanted, &boot)),
        Err(_) => booted.replaced(&booted.again()),
    }
}

impl Booted {
    /// The same files, looked at again.
    fn again(&self) -> Self {
        let again = |file: &File| File {
            identity: identity(
                &file.path,
                file.identity.as_ref().is_some_and(|known| known.content.is_none()),
            ),
            ..file.clone()
        };
        Self { version: self.version, files: self.files.iter().map(again).collect() }
    }
}

fn identity(path: &Path, written: bool) -> Option<Identity> {
    let found = fs::metadata(path).ok()?;
    let content = (!written && found.is_file()).then(|| (found.size(), found.mtime(), found.mtime_nsec()));
    Some(Identity { device: found.dev(), inode: found.ino(), content })
}

#[cfg(test)]
mod tests {
    use super::super::test_vm::vm;
    use super::*;
    use crate::topology::{Disk, DiskFormat, ImageFiles};

    #[test]
    fn a_file_that_is_replaced_or_gone_is_noticed_and_a_disk_that_is_written_isnt() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        let path = |name: &str| directory.path().join(name);
        for name in ["kernel", "initrd", "disk", "volume"] {
            fs::write(path(name), "one").unwrap();
        }
        let disk = |name: &str, read_only| Disk { path: path(name), format: DiskFormat::Raw, read_only };
        let image = ImageFiles {
            kernel: Some(path("kernel")),
            initrd: Some(path("initrd")),
            disk: Some(disk("disk", false)),
        };
        let vm = Vm { image: Image::Files(image), volumes: vec![disk("volume", true)], ..vm() };
        let booted = Booted::now(&root, &vm, &BootFiles::resolve(&root, &vm).unwrap());
        let said = || -> Vec<String> {
            replaced(&root, &booted, &vm).iter().map(|one| format!("{} {}", one.key, one.to)).collect()
        };
        assert_eq!(said(), Vec::<String>::new());
        // The guest writes its disk.
        fs::write(path("disk"), "longer").unwrap();
        assert_eq!(said(), Vec::<String>::new());
        // The same inode with other bytes, and another file of that name.
        fs::write(path("kernel"), "longer").unwrap();
        fs::write(path("new"), "one").unwrap();
        fs::rename(path("new"), path("disk")).unwrap();
        fs::write(path("volume"), "longer").unwrap();
        let found = |name: &str| path(name).display().to_string();
        assert_eq!(
            said(),
            [
                format!("kernel {} (replaced)", found("kernel")),
                format!("disk {} (replaced)", found("disk")),
                format!("volumes[0] {} (replaced)", found("volume"))
            ]
        );
        fs::remove_file(path("initrd")).unwrap();
        assert!(said().contains(&format!("initrd {} (gone)", found("initrd"))));
        // What an earlier version didn't write down isn't known to differ.
        let nothing: Booted = serde_json::from_str("{}").unwrap();
        assert_eq!(replaced(&root, &nothing, &vm), []);
    }
}
