//! A host whose service manager is a real systemd: a user manager run by root,
//! in the lab's network namespace, with hostctl's units and no others. What a
//! unit's settings do is what they do on a machine; only the targets of a boot
//! are missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use hostctl::testbed::{NamedNamespaces, Options};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use crate::support::lab::Lab;

/// Where the host's files, the program and the images are, wherever the clone
/// lies: no unit hides this directory from its processes, as it may hide /root,
/// /home and /tmp.
const SEEN_BY_UNITS: &str = "/srv";

/// hostctl's units.
pub const UNITS: [&str; 6] = [
    "hostctl-hold.service",
    "hostctl-firewall.service",
    "hostctl.service",
    "hostctl-vm@.service",
    "hostctl-audit.service",
    "nftables.service.d/hostctl.conf",
];

/// One of Debian's: rules of its own, every other table flushed.
const NFTABLES: &str = "[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=nft flush ruleset
ExecReload=nft flush ruleset
ExecStop=nft flush ruleset
";

/// Writes the units as `make install` does, for a program.
pub fn install(units: &Path, program: &str) {
    for name in UNITS {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/systemd").join(name);
        let text = fs::read_to_string(source).unwrap().replace("@hostctl@", program);
        // Of the manager that the unit is in.
        let text = text.replace("=-systemctl", "=-systemctl --user");
        // Short enough for a test to see that supervisors keep it.
        let text = text.replace("WatchdogSec=60", "WatchdogSec=10");
        fs::create_dir_all(units.join(name).parent().unwrap()).unwrap();
        fs::write(units.join(name), text).unwrap();
    }
}

pub struct Systemd {
    pub lab: Lab,
    manager: Child,
    cgroup: PathBuf,
}

/// A lab whose files units can see, of this test's mount namespace alone.
fn lab() -> Lab {
    NamedNamespaces::enter().unwrap();
    let seen = Path::new(SEEN_BY_UNITS);
    fs::create_dir_all(seen).unwrap();
    mount("tmpfs", seen, "tmpfs", MountFlags::empty(), None).unwrap();
    tempfile::env::override_temp_dir(seen).unwrap();
    let lab = Lab::new(Options::default()).with_images();
    let images = lab.host.root.images();
    fs::create_dir(seen.join("images")).unwrap();
    mount_bind(fs::canonicalize(&images).unwrap(), seen.join("images")).unwrap();
    fs::remove_file(&images).unwrap();
    std::os::unix::fs::symlink(seen.join("images"), images).unwrap();
    fs::File::create(seen.join("hostctl")).unwrap();
    mount_bind(env!("CARGO_BIN_EXE_hostctl"), seen.join("hostctl")).unwrap();
    lab
}

impl Systemd {
    /// Starts it.
    ///
    /// # Errors
    /// Says why this machine can't have one.
    pub fn new() -> Result<Self, &'static str> {
        let lab = lab();
        // What a booted machine looks like, in this test's mount namespace: mounts
        // are shared, and systemd was here.
        mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).unwrap();
        fs::create_dir_all("/run/systemd").unwrap();
        mount("tmpfs", "/run/systemd", "tmpfs", MountFlags::empty(), None).unwrap();
        fs::create_dir("/run/systemd/system").unwrap();
        let hierarchy = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let hierarchy = hierarchy.into_iter().find(|path| path.join("cgroup.procs").exists());
        let hierarchy = hierarchy.ok_or("it needs cgroup v2, and this machine has none")?;
        let cgroup = hierarchy.join(format!("hostctl-test-{}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();

        let root = lab.root_dir().to_path_buf();
        // What a unit may not see is covered by these, which process 1 makes.
        std::os::unix::fs::symlink(root.join("run/systemd/inaccessible"), "/run/systemd/inaccessible")
            .unwrap();
        let units = root.join("units");
        install(&units, &format!("{SEEN_BY_UNITS}/hostctl --root-dir {}", root.display()));
        fs::write(units.join("nftables.service"), NFTABLES).unwrap();
        for target in ["default", "basic", "shutdown", "network-pre", "network-online"] {
            fs::write(units.join(format!("{target}.target")), "[Unit]\n").unwrap();
        }
        let said = root.join("units.log");
        let said =
            format!("[Service]\nStandardOutput=append:{0}\nStandardError=append:{0}\n", said.display());
        fs::create_dir(units.join("service.d")).unwrap();
        fs::write(units.join("service.d/log.conf"), said).unwrap();
        for directory in ["run", "var/lib", "etc/hostctl"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let script = "echo $$ > \"$1/cgroup.procs\" && exec unshare --cgroup --mount --propagation unchanged \
            sh -c 'mount --make-rprivate /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" --user --log-target=console' \"$2\"";
        let mut command = Command::new("sh");
        // Debian 12 has it in the PATH as well, 13 doesn't.
        let program = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"].map(Path::new);
        let program = program.into_iter().find(|path| path.exists()).unwrap_or(Path::new("systemd"));
        command.args(["-c", script, "sh"]).arg(&cgroup).arg(program).env("SYSTEMD_UNIT_PATH", &units);
        // Where a user's units have their RuntimeDirectory and StateDirectory.
        command.env("XDG_RUNTIME_DIR", root.join("run")).env("XDG_CONFIG_HOME", root.join("var/lib"));
        let log = fs::File::create(root.join("systemd.log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let manager = lab.world.hypervisor.run(|| command.spawn()).unwrap();
        let systemd = Self { lab, manager, cgroup };
        systemd.until("the manager answers", || systemd.systemctl(&["show-environment"]).status.success());
        systemd.shows_units_the_host()?;
        Ok(systemd)
    }

    /// Since systemd 254 a user manager, also root's, gives each confined unit a
    /// user namespace, in which nobody may change the host's network.
    fn shows_units_the_host(&self) -> Result<(), &'static str> {
        let root = self.lab.root_dir();
        let unit = format!(
            "[Service]\nType=oneshot\nProtectHome=yes\nExecStart=/bin/sh -c 'readlink /proc/self/ns/user >{}'\n",
            root.join("namespace").display()
        );
        fs::write(root.join("units/namespace.service"), unit).unwrap();
        self.does(&["start", "namespace.service"]);
        let theirs = fs::read_to_string(root.join("namespace")).unwrap();
        let ours = fs::read_link("/proc/self/ns/user").unwrap();
        (theirs.trim() == ours.to_str().unwrap())
            .then_some(())
            .ok_or("the user manager of this systemd gives units a user namespace of their own")
    }

    /// Waits; shows the manager's log where it takes too long.
    pub fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !done() {
            assert!(Instant::now() < deadline, "too long until {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the manager and the units' processes said.
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.lab.root_dir().join(name)).unwrap_or_default();
        format!("{}{}", read("systemd.log"), read("units.log"))
    }

    pub fn systemctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(arguments).env("XDG_RUNTIME_DIR", self.lab.root_dir().join("run"));
        self.lab.world.hypervisor.run(|| command.output()).unwrap()
    }

    /// A systemctl that has to succeed.
    pub fn does(&self, arguments: &[&str]) {
        let output = self.systemctl(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let status = self.systemctl(&["status", "--no-pager", "--lines", "0", "*"]).stdout;
            panic!("systemctl {arguments:?}: {error}{}\n{}", String::from_utf8_lossy(&status), self.log());
        }
    }

    /// One property of a unit.
    pub fn show(&self, unit: &str, property: &str) -> String {
        let output = self.systemctl(&["show", "--value", "--property", property, unit]);
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    pub fn write_spec(&self, spec: &str) {
        fs::write(self.lab.host.root.host_spec(), spec).unwrap();
    }

    /// What the program prints; it has to succeed.
    pub fn hostctl(&self, arguments: &[&str]) -> String {
        let output = self.lab.hostctl(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // As `hostctl down` asks them to, guests and apps go first.
        let _ = self.lab.hostctl(&["down"]);
        // With a unit goes its private /tmp, which lies in the machine's.
        let _ = self.systemctl(&["stop", "hostctl*.service"]);
        let _ = self.manager.kill();
        let _ = self.manager.wait();
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !remove(&self.cgroup) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a cgroup and those in it; false while somebody is in one.
fn remove(cgroup: &Path) -> bool {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(cgroup).is_ok()
}
