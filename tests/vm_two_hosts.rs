//! Several hostctls on one machine, who see each other's processes: each
//! applies, rolls back and cleans up beside the others' running guests and
//! apps, and ends none of them. Whose a process is, the root directory and the
//! network namespace say together.

use std::fs::{self, DirBuilder, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::processes::{alive, kill, until};
use hostctl::root_dir::RootDir;
use hostctl::testbed::Netns;
use hostctl::vm;
use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::{Pid, Signal};
use serde_json::Value;

/// A hostctl of its own: a mount and a network namespace, and a root directory.
struct Installation {
    mounts: OwnedFd,
    net: Netns,
    root: PathBuf,
    /// What the app's program is called with: this one's own.
    seconds: u32,
    files: tempfile::TempDir,
}

/// A directory that only root may write to.
fn make(path: &Path) {
    DirBuilder::new().recursive(true).mode(0o755).create(path).unwrap();
}

fn tmpfs(path: impl AsRef<Path>) {
    make(path.as_ref());
    mount("tmpfs", path.as_ref(), "tmpfs", MountFlags::empty(), Some(c"mode=755")).unwrap();
}

impl Installation {
    /// With a mount namespace that `prepare` prepares.
    fn new(root: &Path, index: u32, prepare: impl FnOnce() + Send) -> Self {
        let images = std::env::var_os("HOSTCTL_TEST_IMAGES")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/images"), PathBuf::from);
        assert!(images.join("probe/image.json").exists(), "images are missing: run make image");
        let mounts = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
                prepare();
                let state = RootDir::new(root).state();
                make(&state);
                std::os::unix::fs::symlink(images, state.join("images")).unwrap();
                File::open("/proc/thread-self/ns/mnt").unwrap().into()
            });
            made.join().unwrap()
        });
        let seconds = 3_000_000 + std::process::id() % 100_000 * 10 + index;
        let files = tempfile::tempdir().unwrap();
        Self { mounts, net: Netns::new().unwrap(), root: root.into(), seconds, files }
    }

    /// A guest, and a program in a subnet.
    fn spec(&self) -> String {
        format!(
            "[networks.a]\ncidr = \"10.1.0.0/24\"\n[networks.a.subnets.in]\ncidr = \"10.1.0.0/25\"\n\
             type = \"public\"\nnamespace = true\n[networks.a.subnets.vms]\ncidr = \"10.1.0.128/25\"\n\
             type = \"public\"\n[vms.vm1]\nnetwork = \"a\"\nsubnet = \"vms\"\nimage = \"probe\"\n\
             memory = \"128M\"\naccel = \"tcg\"\n[apps.sleeper]\nnetwork = \"a\"\nsubnet = \"in\"\n\
             command = [\"sleep\", \"{}\"]\n",
            self.seconds
        )
    }

    /// Runs a program in this place.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let (mounts, net) = (self.mounts.try_clone().unwrap(), self.net.fd().try_clone_to_owned().unwrap());
        // SAFETY: runs between fork and exec, and makes system calls.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || {
                setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS)?;
                Ok(setns(net.as_fd(), CloneFlags::CLONE_NEWNET)?)
            });
        }
        command
    }

    fn try_hostctl(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = self.command(env!("CARGO_BIN_EXE_hostctl"));
        command.arg("--root-dir").arg(&self.root).args(arguments);
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), text)
    }

    fn hostctl(&self, arguments: &[&str]) -> String {
        let (success, text) = self.try_hostctl(arguments);
        assert!(success, "{arguments:?}: {text}");
        text
    }

    fn apply(&self, spec: &str) -> String {
        let file = self.files.path().join("host.toml");
        fs::write(&file, spec).unwrap();
        self.hostctl(&["apply", "--yes", file.to_str().unwrap()])
    }

    /// Its guest's QEMU and its app's program, once they run.
    fn processes(&self) -> [u32; 2] {
        let wanted = self.seconds.to_string();
        let found = || {
            let list: Value = serde_json::from_str(&self.hostctl(&["--json", "vm", "list"])).unwrap();
            let qemu = u32::try_from(list[0]["pid"].as_u64()?).unwrap();
            let sleeps = |pid: &u32| {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line == format!("sleep\0{wanted}\0")
            };
            Some([qemu, pids().into_iter().find(sleeps)?])
        };
        let begun = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{}", self.hostctl(&["status"]));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A supervisor, by the lock that it has signed.
    fn supervisor(&self, of: &str) -> u32 {
        let path = RootDir::new(&self.root).run().join(of).join("lock");
        let output = self.command("cat").arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap().parse().unwrap()
    }

    /// Has the guest's QEMU run on without a supervisor and without a file.
    fn make_stray(&self) {
        kill_and_wait(self.supervisor("vms/vm1"));
        let vms = RootDir::new(&self.root).vms();
        assert!(self.command("rm").arg("-r").arg(vms).status().unwrap().success());
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        let (success, text) = self.try_hostctl(&["down"]);
        assert!(success || std::thread::panicking(), "{text}");
    }
}

fn kill_and_wait(pid: u32) {
    kill(pid);
    until("it is gone", || !alive(pid));
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[track_caller]
fn assert_live(processes: [u32; 2], when: &str) {
    assert_eq!(processes.map(alive), [true; 2], "{when}: {processes:?}");
}

/// Everything that one does, beside what the other has running.
fn live_side_by_side(one: &Installation, other: &Installation) {
    one.apply(&one.spec());
    let ones = one.processes();
    other.apply(&other.spec());
    let others = other.processes();
    assert_live(ones, "the other applied the same");
    assert!(ones.iter().all(|pid| !others.contains(pid)), "{ones:?} {others:?}");

    // An edit that takes all of it away, and back.
    other.apply("[networks.b]\ncidr = \"10.2.0.0/24\"\n");
    assert_eq!(others.map(alive), [false; 2]);
    assert_live(ones, "the other's guests went");
    other.hostctl(&["rollback"]);
    let others = other.processes();
    assert_live(ones, "the other rolled back");

    // A QEMU that nobody accounts for is its own hostctl's stray.
    other.make_stray();
    for command in [&["rollback"][..], &["audit", "--repair", "--fail-on", "critical"]] {
        // Whether it has anything to do or not.
        let (_, text) = one.try_hostctl(command);
        assert!(!text.contains("kill") && alive(others[0]), "{command:?}: {text}");
    }
    assert!(one.apply(&one.spec()).starts_with("nothing to do\n"));
    assert!(alive(others[0]), "an apply's strays are its own");
    let text = other.apply(&other.spec());
    assert!(text.contains(&format!("{}", others[0])) && !alive(others[0]), "{text}");
    assert_live(ones, "the other ended its stray");
    let others = other.processes();

    one.make_stray();
    other.hostctl(&["cleanup"]);
    assert_eq!(others.map(alive), [false; 2]);
    assert_live(ones, "the other cleaned up");
    one.hostctl(&["down"]);
    assert_eq!(ones.map(alive), [false; 2]);
}

#[test]
fn the_same_path_is_two_directories() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let root = tempfile::tempdir().unwrap();
    let [one, other] = [0, 1].map(|index| {
        let directory = directories[index].path();
        Installation::new(root.path(), u32::try_from(index).unwrap(), || {
            mount_bind(directory, root.path()).unwrap();
            tmpfs("/run/netns");
        })
    });
    live_side_by_side(&one, &other);
}

#[test]
fn the_machines_own_root_is_that_of_two_hosts() {
    // Containers that see each other's processes: one `/`, and each its own
    // of what hostctl writes to.
    let [one, other] = [2, 3].map(|index| {
        Installation::new(Path::new("/"), index, || {
            tmpfs("/run");
            tmpfs("/var/lib");
        })
    });
    live_side_by_side(&one, &other);
}

#[test]
fn a_directory_has_one_network_namespace_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let one = Installation::new(root.path(), 4, || tmpfs("/run/netns"));
    one.apply(&one.spec());
    let ones = one.processes();
    // The very same directory, from somewhere else.
    let strange = Netns::new().unwrap();
    let elsewhere = |arguments: &[&str]| {
        let hostctl = strange.run(|| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_hostctl"));
            command.arg("--root-dir").arg(root.path()).args(arguments).output().unwrap()
        });
        (hostctl.status.success(), String::from_utf8([hostctl.stdout, hostctl.stderr].concat()).unwrap())
    };
    let empty = one.files.path().join("empty.toml");
    fs::write(&empty, "").unwrap();
    let commands: [&[&str]; 9] = [
        &["apply", empty.to_str().unwrap()],
        &["apply", "--firewall-only", empty.to_str().unwrap()],
        &["apply", "--confirm", "1h", empty.to_str().unwrap()],
        &["vpc", "create", "--name", "b", "--cidr", "10.2.0.0/24"],
        &["rollback", "1"],
        &["audit", "--repair"],
        &["down"],
        &["cleanup"],
        &["vm", "down", "vm1"],
    ];
    let refused = |when: &str| {
        for command in commands {
            let (success, text) = elsewhere(command);
            assert!(!success && text.contains("another network namespace"), "{when}: {command:?}: {text}");
            assert_live(ones, when);
        }
    };
    refused("it says whose it is");
    // As an earlier version leaves it: only the supervisors tell.
    let births = ["birthplace.json", "vms/vm1/birthplace.json", "apps/a-in/sleeper/birthplace.json"];
    for file in births {
        fs::remove_file(one.root.join("run/hostctl").join(file)).unwrap();
    }
    refused("its supervisors are there");
    // Without one the guest's own record does.
    kill_and_wait(one.supervisor("vms/vm1"));
    kill_and_wait(one.supervisor("apps/a-in/sleeper"));
    let (success, text) = elsewhere(&["down"]);
    assert!(!success && text.contains("VM vm1 runs there"), "{text}");
    assert!(alive(ones[0]));
    // The pid that another PID namespace wrote down is nobody's here; that the
    // guest lives, its socket tells.
    let record = one.root.join("run/hostctl/vms/vm1/launch.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("\"pids\":", "\"pids\":1")).unwrap();
    let (success, said) = one.try_hostctl(&["vm", "run", "vm1"]);
    assert!(!success && said.contains("another PID namespace"), "{said}");
    assert!(alive(ones[0]));
    fs::write(&record, text).unwrap();
    // Its own hostctl takes the guest over; once all is down anybody may have it.
    one.apply(&one.spec());
    assert!(alive(ones[0]), "taken over");
    one.hostctl(&["down"]);
    let (success, text) = elsewhere(&["apply", empty.to_str().unwrap()]);
    assert!(success, "{text}");
}

#[test]
fn names_of_namespaces_may_be_shared() {
    // One /run/netns, two network namespaces with a hostctl each.
    let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = Installation::new(roots[0].path(), 5, || tmpfs("/run/netns"));
    one.apply(&one.spec());
    let ones = one.processes();
    let other = Installation {
        mounts: one.mounts.try_clone().unwrap(),
        net: Netns::new().unwrap(),
        root: roots[1].path().into(),
        seconds: one.seconds + 1,
        files: tempfile::tempdir().unwrap(),
    };
    other.apply("[networks.b]\ncidr = \"10.2.0.0/24\"\n");
    assert_live(ones, "the other applied");
    let file = other.files.path().join("same.toml");
    fs::write(&file, other.spec().replace("[vms.vm1]", "[vms.vm1]\nautostart = false")).unwrap();
    let (success, text) = other.try_hostctl(&["apply", file.to_str().unwrap()]);
    assert!(!success && text.contains("already a network namespace a-in that hostctl didn't make"), "{text}");
    other.hostctl(&["cleanup"]);
    assert_live(ones, "the other cleaned up");
    let names = one.command("ip").args(["netns", "list"]).output().unwrap();
    assert!(String::from_utf8(names.stdout).unwrap().contains("a-in"));
    // An earlier version's mark doesn't say whose it is: its port does.
    let mark = |net: &Installation, text: &str| {
        let arguments = ["-n", "a-in", "link", "set", "lo", "alias", text];
        assert!(net.command("ip").args(arguments).status().unwrap().success());
    };
    mark(&one, "hostctl:namespace:a-in");
    other.hostctl(&["down"]);
    assert_live(ones, "the other went down");
    let text = one.apply(&one.spec());
    assert!(text.contains("link set lo alias hostctl:namespace:a-in@"), "{text}");
    assert_live(ones, "its own hostctl signed it");
    assert!(one.apply(&one.spec()).contains("nothing to do"));
}

/// A process that looks like a QEMU of that name; ended with the test.
struct Disguised(Child);

impl Disguised {
    fn new(instance: &str) -> Self {
        let mut command = Command::new("sh");
        command.arg0("qemu-system-x86_64").uid(0x7000_0001).gid(0x7000_0001);
        command.process_group(0);
        command.args(["-c", "sleep 600; :", "-name", &format!("guest=hostctl:{instance}:vm1")]);
        let child = command.spawn().unwrap();
        let begun = Instant::now();
        while !fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap().contains("guest=") {
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
        Self(child)
    }
}

impl Drop for Disguised {
    fn drop(&mut self) {
        // Its sleeper too.
        let group = Pid::from_raw(self.0.id().cast_signed()).unwrap();
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn nobody_is_a_stray_by_a_name_that_several_may_have() {
    let directory = tempfile::tempdir().unwrap();
    let root = RootDir::new(directory.path());
    // As versions before named them: 64-bit FNV-1a of the path.
    let path = directory.path().canonicalize().unwrap();
    let former = path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let elsewhere = Netns::new().unwrap().run(|| root.instance());
    let others = [format!("{former:016x}"), elsewhere.clone()].map(|instance| Disguised::new(&instance));
    assert_ne!(elsewhere, root.instance());
    assert_eq!(vm::find_strays(&root).unwrap(), []);
    for other in &others {
        vm::kill_stray(&root, other.0.id()).unwrap();
        assert!(alive(other.0.id()));
    }
    let ours = Disguised::new(&root.instance());
    // The shell's own child looks like it for a moment.
    assert!(vm::find_strays(&root).unwrap().contains(&(ours.0.id(), "vm1".to_owned())));
}
