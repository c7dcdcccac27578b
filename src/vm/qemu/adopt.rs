//! Taking over a QEMU that an earlier supervisor left, maybe one of another
//! version of hostctl.

use crate::ownership::UIDS;
use crate::root_dir::RootDir;
use crate::supervise::birthplace::Birthplace;
use crate::supervise::process::{Process, of_users};
use crate::topology::Name;

use super::command_line::name_of;
use super::launch::Launched;
use crate::vm::error::VmError;
use crate::vm::record::LaunchRecord;
use crate::vm::runtime_dir::{LAUNCH, QMP, RuntimeDir};

/// Takes over the QEMU that an earlier supervisor left, where one lives.
pub(in crate::vm) fn adopt(
    root: &RootDir,
    name: &Name,
    dir: &RuntimeDir,
) -> Result<Option<Launched>, VmError> {
    // One that is no record at all says as little as one without fields.
    let Some(record) = dir.read_record::<LaunchRecord>(LAUNCH)? else { return Ok(None) };
    let written = record.pid.get().copied().zip(record.start_time.get().copied());
    if let Some(birthplace) = record.birthplace.get() {
        let here = Birthplace::here().map_err(VmError::kernel("look at our namespaces"))?;
        if birthplace.boot != here.boot {
            return Ok(None);
        }
        let visible = birthplace.shares_pids_with(&here);
        if !(birthplace.shares_network_with(&here) && visible) {
            let alive = match written {
                Some((pid, start_time)) if visible => Process::find(pid, start_time).is_some(),
                // Its socket tells whether it lives, wherever that is.
                _ => dir.is_listened_on(QMP),
            };
            let (pid, network) = (written.map_or(0, |(pid, _)| pid), birthplace.network);
            return if alive { Err(VmError::Elsewhere { pid, network }) } else { Ok(None) };
        }
    }
    let process = match written {
        Some((pid, start_time)) => Process::find(pid, start_time),
        None => search(root, name, &record)?,
    };
    Ok(process.map(|process| Launched { record, process, child: None, stderr: None }))
}

/// The QEMU of a VM whose record doesn't say which process that is: the only
/// one that this instance started under that name, and under that user, where
/// the record says so much.
fn search(root: &RootDir, name: &Name, record: &LaunchRecord) -> Result<Option<Process>, VmError> {
    let user = record.vm.get().and_then(|vm| vm.uid.get().copied());
    let uids = user.filter(|uid| UIDS.contains(uid)).map_or(UIDS, |uid| uid..=uid);
    let instance = root.instance();
    let mut found = of_users(uids).map_err(VmError::file("read", "/proc"))?;
    found.retain(|(_, words)| name_of(&instance, words).as_deref() == Some(name.as_str()));
    // Of several it can't be told which.
    Ok(found.pop().filter(|_| found.is_empty()).map(|(process, _)| process))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use serde_json::{Value, json};

    use super::*;
    use crate::ownership::qemu_name;

    const UID: u32 = 0x7ead_0001;

    /// Something that looks like the QEMU of vm1, as `uid`; it ends with its input.
    fn qemu(root: &RootDir, uid: u32) -> Child {
        let mut command = Command::new("/bin/sh");
        command.arg0("/usr/bin/qemu-system-x86_64").args(["-c", "read line", "-name"]);
        command.arg(qemu_name(&root.instance(), "vm1")).uid(uid).stdin(Stdio::piped());
        command.spawn().unwrap()
    }

    #[test]
    fn one_whose_pid_isnt_known_is_found_by_its_name_and_user() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        let name = Name::new("vm1").unwrap();
        let dir = RuntimeDir::create(&root, &name).unwrap();
        let adopt = |record: Value| {
            dir.write_json(LAUNCH, &record).unwrap();
            super::adopt(&root, &name, &dir).unwrap().map(|launched| launched.process.pid)
        };
        let mut ours = qemu(&root, UID);
        let known = json!({ "pid": "lost", "vm": { "uid": UID } });
        assert_eq!(adopt(known.clone()), Some(ours.id()));
        assert_eq!(adopt(json!({})), Some(ours.id()));
        assert_eq!(adopt(json!("no record")), Some(ours.id()));
        // A pid that is known is believed, and that process has ended.
        assert_eq!(adopt(json!({ "pid": ours.id(), "start_time": 1 })), None);
        // Another guest's QEMU that was taken over can call itself what it likes.
        let mut stranger = qemu(&root, UID + 1);
        assert_eq!(adopt(known.clone()), Some(ours.id()));
        assert_eq!(adopt(json!({})), None, "it can't be told which");
        ours.kill().unwrap();
        ours.wait().unwrap();
        assert_eq!(adopt(known), None);
        let other_boot = json!({ "birthplace": { "boot": "another", "network": 1, "pids": 1 } });
        assert_eq!(adopt(other_boot), None);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
