//! What a VM boots: an image's description → files and kernel words.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::guarded_file::{self, Guarded, Links};
use crate::root_dir::RootDir;
use crate::topology::{Arch, Disk, DiskFormat, Image, Machine, Name, Vm};

use super::opened;
use crate::vm::error::VmError;

/// The longest image description that is read, in bytes.
const DESCRIPTION_MAX: u64 = 64 * 1024;

/// The files that a VM boots, and what its image says of itself. Their paths
/// lead through no symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// Loaded by QEMU directly.
    pub kernel: Option<PathBuf>,
    /// The kernel's initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The first disk.
    pub disk: Option<Disk>,
    /// Further disks.
    pub volumes: Vec<Disk>,
    /// Kernel words that the image needs.
    pub cmdline: String,
    /// Whether the image runs the QEMU guest agent: such a VM is ready when
    /// its agent answers, another as soon as it runs.
    pub agent: bool,
    /// Which hostctl the VM belongs to; see [`RootDir::instance`].
    pub instance: String,
}

/// `image.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    arch: Arch,
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
    disk: Option<DiskDescription>,
    /// The same, as they are unpacked: a guest needn't do it.
    #[serde(default)]
    uncompressed: Uncompressed,
    #[serde(default)]
    cmdline: String,
    #[serde(default)]
    agent: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Uncompressed {
    /// Of x86_64: an ELF file that begins as PVH says.
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiskDescription {
    path: PathBuf,
    format: DiskFormat,
}

impl BootFiles {
    /// Finds what `vm` boots. An image's disk is read-only: it is every such
    /// VM's.
    ///
    /// # Errors
    /// Where the image or one of its files is missing, is for another
    /// processor, leads outside the image's directory, can't be booted on this
    /// machine type, is reached through a symbolic link that others than root
    /// can have placed, or is a disk of more than one file.
    pub fn resolve(root: &RootDir, vm: &Vm) -> Result<Self, VmError> {
        let instance = root.instance();
        let files = match &vm.image {
            Image::Named(name) => Self::named(root, vm, name, instance)?,
            Image::Files(files) => Self {
                kernel: files.kernel.as_deref().map(operators).transpose()?,
                initrd: files.initrd.as_deref().map(operators).transpose()?,
                disk: files.disk.as_ref().map(operators_disk).transpose()?,
                volumes: vm.volumes.iter().map(operators_disk).collect::<Result<_, _>>()?,
                cmdline: String::new(),
                agent: false,
                instance,
            },
        };
        if files.kernel.is_none() && vm.machine != Machine::Q35 {
            let path = files.disk.map(|disk| disk.path).unwrap_or_default();
            let reason = "no kernel, and only a q35 has firmware to boot a disk with: name a kernel";
            return Err(VmError::BadImage { path, reason: reason.into() });
        }
        for file in files.kernel.iter().chain(&files.initrd) {
            opened::boot_file(file).map_err(VmError::file("boot", file))?;
        }
        for disk in files.disk.iter().chain(&files.volumes) {
            opened::disk(disk).map_err(VmError::file("open the disk", &disk.path))?;
        }
        Ok(files)
    }

    fn named(root: &RootDir, vm: &Vm, name: &Name, instance: String) -> Result<Self, VmError> {
        let dir = root.images().join(name.as_str());
        let path = dir.join("image.json");
        let image = Path::new("images").join(name.as_str());
        let described = guarded_file::find_below(&root.state(), &image, Links::Roots).and_then(|dir| {
            let description = guarded_file::find(&dir.path.join("image.json"), Links::Never)?;
            Ok((dir.path, read(&description)?))
        });
        let (dir, text) = match described {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VmError::NoImage { name: name.clone(), dir: root.images() });
            }
            result => result.map_err(VmError::file("read", &path))?,
        };
        let bad = |reason: String| VmError::BadImage { path: path.clone(), reason };
        let found: Description = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if found.arch != vm.arch {
            return Err(VmError::WrongArch { path, found: found.arch, wanted: vm.arch });
        }
        if found.kernel.is_none() && found.disk.is_none() {
            return Err(bad("neither kernel nor disk: name one".into()));
        }
        if found.cmdline.chars().any(char::is_control) {
            return Err(bad("cmdline has control characters: it is one line of text".into()));
        }
        let Uncompressed { kernel, initrd } = found.uncompressed;
        if (kernel.is_some() && found.kernel.is_none()) || (initrd.is_some() && found.initrd.is_none()) {
            return Err(bad(
                "uncompressed names what there is no other of: name it as kernel, or initrd".into()
            ));
        }
        // What needn't be unpacked is there sooner.
        let (kernel, initrd) = (kernel.or(found.kernel), initrd.or(found.initrd));
        let inside = |file: PathBuf| inside(&dir, &file).map_err(&bad);
        let disk = match found.disk {
            None => None,
            Some(disk) => Some(Disk { path: inside(disk.path)?, format: disk.format, read_only: true }),
        };
        Ok(Self {
            kernel: kernel.map(inside).transpose()?,
            initrd: initrd.map(inside).transpose()?,
            disk,
            volumes: vm.volumes.iter().map(operators_disk).collect::<Result<_, _>>()?,
            cmdline: found.cmdline,
            agent: found.agent,
            instance,
        })
    }
}

fn read(description: &Guarded) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    description.open(false)?.take(DESCRIPTION_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > DESCRIPTION_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {DESCRIPTION_MAX} bytes"),
        ));
    }
    Ok(text)
}

/// A path of the operator's, without the links of root's that it leads by.
fn operators(path: &Path) -> Result<PathBuf, VmError> {
    let found = guarded_file::find(path, Links::Roots);
    found.map(|found| found.path).map_err(VmError::file("boot", path))
}

fn operators_disk(disk: &Disk) -> Result<Disk, VmError> {
    let found = guarded_file::find(&disk.path, Links::Roots);
    let path = found.map(|found| found.path).map_err(VmError::file("open the disk", &disk.path))?;
    Ok(Disk { path, ..disk.clone() })
}

/// `file` in `dir`; refuses what leads out of it by its name.
fn inside(dir: &Path, file: &Path) -> Result<PathBuf, String> {
    let plain = file.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if plain && file.file_name().is_some() {
        return Ok(dir.join(file));
    }
    Err(format!("{:?} leads out of the image's directory: name a file in it", file.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::test_vm::vm;

    fn image(description: &str) -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::new(dir.path());
        let image = root.images().join("probe");
        std::fs::create_dir_all(&image).unwrap();
        std::fs::write(image.join("image.json"), description).unwrap();
        std::fs::write(image.join("vmlinuz"), "").unwrap();
        (dir, root)
    }

    fn error(description: &str) -> String {
        let (_dir, root) = image(description);
        BootFiles::resolve(&root, &vm()).unwrap_err().to_string()
    }

    #[test]
    fn a_named_image_is_found() {
        let (_dir, root) = image(r#"{"arch":"x86_64","kernel":"vmlinuz","cmdline":"quiet","agent":true}"#);
        let found = BootFiles::resolve(&root, &vm()).unwrap();
        assert_eq!(found.kernel, Some(root.images().join("probe/vmlinuz")));
        assert_eq!((found.cmdline.as_str(), found.agent, found.disk), ("quiet", true, None));
    }

    #[test]
    fn what_is_unpacked_already_is_taken_first() {
        let (_dir, root) = image(
            r#"{"arch":"x86_64","kernel":"vmlinuz","initrd":"vmlinuz","uncompressed":{"kernel":"vmlinux"}}"#,
        );
        std::fs::write(root.images().join("probe/vmlinux"), "").unwrap();
        let found = BootFiles::resolve(&root, &vm()).unwrap();
        assert_eq!(found.kernel, Some(root.images().join("probe/vmlinux")));
        assert_eq!(found.initrd, Some(root.images().join("probe/vmlinuz")));
    }

    #[test]
    fn a_missing_image_says_where_it_was_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let text = BootFiles::resolve(&RootDir::new(dir.path()), &vm()).unwrap_err().to_string();
        assert!(text.starts_with("there is no image probe in ") && text.contains("build.sh"), "{text}");
    }

    #[test]
    fn descriptions_that_lie_are_refused() {
        for (description, expected) in [
            (r#"{"arch":"aarch64","kernel":"vmlinuz"}"#, "an image for aarch64"),
            (r#"{"arch":"x86_64","kernel":"../vmlinuz"}"#, "leads out of"),
            (r#"{"arch":"x86_64","kernel":"/etc/passwd"}"#, "leads out of"),
            (r#"{"arch":"x86_64","kernel":""}"#, "leads out of"),
            (r#"{"arch":"x86_64","kernel":"missing"}"#, "can't boot"),
            (r#"{"arch":"x86_64"}"#, "neither kernel nor disk"),
            (r#"{"arch":"x86_64","uncompressed":{"kernel":"vmlinuz"}}"#, "neither kernel nor disk"),
            (r#"{"arch":"x86_64","kernel":"vmlinuz","uncompressed":{"initrd":"vmlinuz"}}"#, "no other of"),
            (
                r#"{"arch":"x86_64","kernel":"vmlinuz","uncompressed":{"kernel":"../vmlinux"}}"#,
                "leads out of",
            ),
            (r#"{"arch":"x86_64","kernel":"vmlinuz","uncompressed":{"kernel":"missing"}}"#, "can't boot"),
            (r#"{"arch":"x86_64","kernel":"vmlinuz","uncompressed":{"kernal":"vmlinuz"}}"#, "unknown field"),
            (r#"{"arch":"x86_64","kernel":"vmlinuz","kernal":1}"#, "unknown field"),
            (r#"{"arch":"x86_64","kernel":"vmlinuz","cmdline":"a\nb"}"#, "control characters"),
            ("{", "EOF"),
        ] {
            let text = error(description);
            assert!(text.contains(expected), "{description}: {text}");
        }
    }
}
