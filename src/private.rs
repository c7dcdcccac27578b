//! Files and directories that are hostctl's own: nobody else reads, writes or
//! locks one, whatever the umask is and whatever an earlier version left.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::root_dir::RootDir;

/// The bits of a mode that let others in.
const OTHERS: u32 = 0o077;

/// Makes the directory `path` where it isn't there, and those above it; one
/// that others may look into becomes its owner's alone.
///
/// # Errors
/// Where it can't be made or changed, or somebody else owns it.
pub(crate) fn directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    close(&File::open(path)?)
}

/// Takes from others what they may do with an open file or directory.
///
/// # Errors
/// Where somebody else owns it, or it can't be changed.
pub(crate) fn close(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "somebody else owns it"));
    }
    match metadata.mode() & 0o7777 & !OTHERS {
        _ if metadata.mode() & OTHERS == 0 => Ok(()),
        mode => file.set_permissions(Permissions::from_mode(mode)),
    }
}

/// Closes to others what hostctl keeps below `root`, also what an earlier
/// version left open to them: specs have the secrets of apps, and whoever may
/// read a file may lock it. Images, disks and what else an operator put there
/// stay as they are.
///
/// # Errors
/// Where a directory of hostctl's is somebody else's, or can't be changed.
pub fn tighten(root: &RootDir) -> io::Result<()> {
    let (run, state) = (root.run(), root.state());
    let below = [state.join("generations"), root.drop_ins(), root.vms(), root.apps(), run.join("confirm")];
    for directory in [run, state].into_iter().chain(below) {
        match File::open(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.and_then(|opened| close(&opened)).map_err(|error| named(&directory, error))?,
        }
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let kept = entry.file_name().to_str().is_some_and(is_record);
            // Of the entry itself, not of what a link leads to.
            if kept && entry.metadata().is_ok_and(|metadata| metadata.is_file() && is_open(&metadata)) {
                let mode = entry.metadata()?.mode() & 0o7777 & !OTHERS;
                let closed = fs::set_permissions(entry.path(), Permissions::from_mode(mode));
                closed.map_err(|error| named(&entry.path(), error))?;
            }
        }
    }
    Ok(())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn is_open(metadata: &fs::Metadata) -> bool {
    metadata.mode() & OTHERS != 0 && metadata.uid() == rustix::process::geteuid().as_raw()
}

/// Whether a file of that name is one that hostctl writes.
fn is_record(name: &str) -> bool {
    name == "lock" || [".json", ".toml", ".log", ".log.1", ".new"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_an_earlier_version_left_open_is_closed_and_what_is_the_operators_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::new(dir.path());
        let put = |path: &Path| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        };
        let ours = ["generations/1.json", "generations/.2.json.new", "host.d/commands.json", "hostctl.log"];
        let mut ours: Vec<_> = ours.iter().map(|file| root.state().join(file)).collect();
        ours.extend(["lock", "firewall.json", "forwarding.json"].map(|file| root.run().join(file)));
        let theirs = [root.images().join("probe/image.json"), root.state().join("data.qcow2")];
        ours.iter().chain(&theirs).for_each(|path| put(path));
        let directories = [root.run(), root.state(), root.drop_ins(), root.state().join("generations")];
        for path in &directories {
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        }
        let elsewhere = dir.path().join("elsewhere");
        put(&elsewhere);
        std::os::unix::fs::symlink(&elsewhere, root.drop_ins().join("link.json")).unwrap();
        tighten(&root).unwrap();
        assert_eq!(ours.iter().map(|path| mode(path)).collect::<Vec<_>>(), vec![0o600; ours.len()]);
        assert_eq!(directories.each_ref().map(|path| mode(path)), [0o700; 4]);
        assert_eq!(theirs.each_ref().map(|path| mode(path)), [0o644; 2]);
        assert_eq!(mode(&elsewhere), 0o644);
        tighten(&root).unwrap();
        tighten(&RootDir::new(dir.path().join("nothing"))).unwrap();
    }

    #[test]
    fn a_directory_is_its_owners_alone_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        directory(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o700));
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        directory(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
    }
}
