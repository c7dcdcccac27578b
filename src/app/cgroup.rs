//! Limits by cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bounded::read_bounded;
use crate::ownership::CGROUP;
use crate::root_dir::RootDir;
use crate::topology::{App, AppLimits, Name, NamespaceName};

use super::error::AppError;

/// The period of `cpu.max`, in microseconds: the kernel's default.
const PERIOD: u64 = 100_000;

/// One file of a group, and what is written to it.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: &'static str,
    value: String,
    /// Not there on every kernel.
    optional: bool,
}

/// An app's group; gone when it is dropped, and its processes are.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
}

fn settings(limits: &AppLimits) -> Vec<Setting> {
    let setting = |controller, file, value: String| Setting { controller, file, value, optional: false };
    let mut settings = Vec::new();
    if let Some(memory) = limits.memory {
        settings.push(setting("memory", "memory.max", (u64::from(memory.mebibytes()) << 20).to_string()));
        let swap = setting("memory", "memory.swap.max", "0".into());
        settings.push(Setting { optional: true, ..swap });
        // All or nothing: an app without one of its processes is in no known state.
        settings.push(setting("memory", "memory.oom.group", "1".into()));
    }
    if let Some(millicpus) = limits.millicpus {
        let quota = u64::from(millicpus) * PERIOD / 1000;
        settings.push(setting("cpu", "cpu.max", format!("{quota} {PERIOD}")));
    }
    if let Some(pids) = limits.pids {
        settings.push(setting("pids", "pids.max", pids.to_string()));
    }
    settings
}

fn path(mount: &Path, root: &RootDir, namespace: &NamespaceName, name: &Name) -> PathBuf {
    mount.join(CGROUP).join(format!("{}.{namespace}.{name}", root.instance()))
}

fn mounted() -> Result<(Option<PathBuf>, bool), AppError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = read_bounded(path, 1 << 20).map_err(AppError::file("read", path))?;
    Ok(hierarchies(&String::from_utf8_lossy(&text)))
}

/// Where the cgroup v2 hierarchy is mounted, from `mountinfo`
/// (proc_pid_mountinfo(5)); and whether there is a v1 one.
fn hierarchies(mountinfo: &str) -> (Option<PathBuf>, bool) {
    let (mut v2, mut v1) = (None, false);
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        match kind.split(' ').next() {
            Some("cgroup2") if v2.is_none() => v2 = mount.split(' ').nth(4).map(PathBuf::from),
            Some("cgroup") => v1 = true,
            _ => {}
        }
    }
    (v2, v1)
}

impl Cgroup {
    /// The group of an app that has limits, with nobody in it.
    pub fn create(root: &RootDir, app: &App) -> Result<Option<Self>, AppError> {
        if app.limits == AppLimits::default() {
            return Ok(None);
        }
        let (v2, v1) = mounted()?;
        let settings = settings(&app.limits);
        let mount = check(v2.as_deref(), v1, &settings)?;
        let parent = mount.join(CGROUP);
        make(&parent)?;
        for setting in &settings {
            // Controllers are handed down a level at a time.
            for dir in [mount, &parent] {
                write(&dir.join("cgroup.subtree_control"), &format!("+{}", setting.controller))?;
            }
        }
        let group = Self { path: path(mount, root, &app.namespace, &app.name) };
        make(&group.path)?;
        group.apply(&settings)?;
        Ok(Some(group))
    }

    /// The group that a killed supervisor left.
    pub fn find(root: &RootDir, namespace: &NamespaceName, name: &Name) -> Option<Self> {
        let path = path(&mounted().ok()?.0?, root, namespace, name);
        path.is_dir().then_some(Self { path })
    }

    fn apply(&self, settings: &[Setting]) -> Result<(), AppError> {
        for setting in settings {
            let file = self.path.join(setting.file);
            if setting.optional && !file.exists() {
                continue;
            }
            write(&file, &setting.value)?;
        }
        Ok(())
    }

    /// For a process that writes `0` to it, to become a member.
    pub fn members(&self) -> Result<File, AppError> {
        let path = self.path.join("cgroup.procs");
        File::options().write(true).open(&path).map_err(AppError::file("open", &path))
    }

    /// Kills every member at once; a kernel before 5.14 can't, and what it
    /// doesn't kill is killed one by one.
    pub fn kill(&self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        // Busy as long as a killed process is on its way out.
        while fs::remove_dir(&self.path).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The hierarchy, where it can enforce all of `settings`.
fn check<'a>(v2: Option<&'a Path>, v1: bool, settings: &[Setting]) -> Result<&'a Path, AppError> {
    let path = v2.map(|mount| mount.join("cgroup.controllers"));
    let text = path.as_deref().and_then(|path| read_bounded(path, 4096).ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let available: Vec<&str> = text.split_ascii_whitespace().collect();
    let mut missing: Vec<&str> = settings.iter().map(|setting| setting.controller).collect();
    missing.dedup();
    missing.retain(|controller| !available.contains(controller));
    match v2 {
        Some(mount) if missing.is_empty() => Ok(mount),
        _ => {
            let found = match (v2, available.as_slice(), v1) {
                (None, _, false) => "no cgroups".into(),
                (None, _, true) => "cgroup v1 only".into(),
                (Some(_), [], true) => "its controllers in cgroup v1 and none in v2".into(),
                (Some(_), [], false) => "a cgroup v2 without controllers".into(),
                (Some(_), some, _) => format!("a cgroup v2 with {}", some.join(", ")),
            };
            Err(AppError::NoCgroup { missing: missing.join(" and the "), found })
        }
    }
}

fn make(path: &Path) -> Result<(), AppError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(AppError::file("make", path)(error))
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, value: &str) -> Result<(), AppError> {
    // A cgroup's file is there or the controller isn't.
    let file = File::options().write(true).open(path);
    let written = file.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    written.map_err(AppError::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> AppLimits {
        AppLimits { memory: Some("64M".parse().unwrap()), millicpus: Some(250), pids: Some(10) }
    }

    #[test]
    fn limits_become_the_kernels_files() {
        let written: Vec<_> = settings(&all()).into_iter().map(|set| (set.file, set.value)).collect();
        let expected = [
            ("memory.max", "67108864"),
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("cpu.max", "25000 100000"),
            ("pids.max", "10"),
        ];
        assert_eq!(written, expected.map(|(file, value)| (file, value.to_owned())));
        assert_eq!(settings(&AppLimits::default()), []);
    }

    #[test]
    fn the_hierarchy_is_found() {
        let v1 = "30 24 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n";
        let v2 = "42 32 0:40 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(hierarchies(v1), (None, true));
        assert_eq!(hierarchies(v2), (Some("/sys/fs/cgroup".into()), false));
        assert_eq!(hierarchies(&format!("{v1}{v2}")), (Some("/sys/fs/cgroup".into()), true));
        assert_eq!(hierarchies("nonsense"), (None, false));
    }

    #[test]
    fn a_host_that_cant_says_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let said = |v2: Option<&Path>, v1| check(v2, v1, &settings(&all())).unwrap_err().to_string();
        assert!(said(None, true).contains("the memory and the cpu and the pids controller"));
        assert!(said(None, true).contains("this host has cgroup v1 only"));
        assert!(said(None, false).contains("no cgroups"));
        assert!(said(Some(dir.path()), true).contains("none in v2"));
        let controllers = dir.path().join("cgroup.controllers");
        fs::write(&controllers, "cpu pids\n").unwrap();
        let some = said(Some(dir.path()), false);
        assert!(
            some.contains(
                "need cgroup v2 with the memory controller; this host has a cgroup v2 with cpu, pids"
            )
        );
        fs::write(&controllers, "cpuset cpu io memory pids\n").unwrap();
        assert_eq!(check(Some(dir.path()), false, &settings(&all())).unwrap(), dir.path());
    }

    #[test]
    fn a_groups_files_are_written_and_none_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let group = Cgroup { path: dir.path().join("group") };
        fs::create_dir(&group.path).unwrap();
        for file in ["memory.max", "memory.oom.group", "cpu.max"] {
            fs::write(group.path.join(file), "").unwrap();
        }
        let limits = AppLimits { pids: None, ..all() };
        group.apply(&settings(&limits)).unwrap();
        assert_eq!(fs::read_to_string(group.path.join("cpu.max")).unwrap(), "25000 100000");
        assert!(!group.path.join("memory.swap.max").exists());
        assert!(group.apply(&settings(&all())).is_err(), "there is no pids.max");
    }

    #[test]
    fn what_is_in_a_left_group_is_killed_and_the_group_removed() {
        let (root, name) = (RootDir::new("/nowhere/hostctl-test"), Name::new("api").unwrap());
        let namespace = NamespaceName::new(format!("test-{}", std::process::id())).unwrap();
        let Ok((Some(mount), _)) = mounted() else { return };
        let path = path(&mount, &root, &namespace, &name);
        // Without the right to make groups, or before Linux 5.14, there is nothing to see.
        if fs::create_dir_all(&path).is_err() || !path.join("cgroup.kill").exists() {
            let _ = fs::remove_dir(&path);
            return;
        }
        let mut child = std::process::Command::new("sleep").arg("60").env_clear().spawn().unwrap();
        write(&path.join("cgroup.procs"), &child.id().to_string()).unwrap();
        let group = Cgroup::find(&root, &namespace, &name).unwrap();
        group.kill();
        child.wait().unwrap();
        drop(group);
        assert!(!path.exists() && Cgroup::find(&root, &namespace, &name).is_none());
        let _ = fs::remove_dir(mount.join(CGROUP));
    }
}
