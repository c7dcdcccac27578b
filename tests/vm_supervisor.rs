//! Real guests under real supervisors, in network namespaces of their own.
//! They boot the probe image; everything is emulated (TCG).

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use hostctl::topology::{Accel, Arch, Disk, DiskFormat, Image, ImageFiles, Machine, Name};
use hostctl::vm::{self, Client, State};

use crate::support::processes::{alive, kill, signal, until};
use crate::support::vm_host::Host;

const BOOT: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(30);

#[test]
fn a_guest_boots_answers_talks_and_stops() {
    let host = Host::new(|_| {});
    let mut states = Vec::new();
    host.start();
    let status = vm::wait_until(&host.root, &host.vm.name, &State::Ready, BOOT, |status| {
        states.push(status.state.clone());
    })
    .unwrap();
    assert!(states.contains(&State::Running) || states.contains(&State::Starting), "{states:?}");
    let pid = status.pid.unwrap();

    // Few of its program's pages stay with a supervisor that waits.
    let supervisor = status.supervisor_pid;
    let own = |key: &str| {
        let text = std::fs::read_to_string(format!("/proc/{supervisor}/smaps_rollup")).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    // 29 MB where all that it began with stays, in a program that isn't optimised.
    let of_files = own("Pss_File:");
    assert!(of_files < 20_000, "{of_files} kB of its program, {} kB in all", own("Pss:"));

    // The network card and its addresses.
    host.guest_answers();

    // The guest agent.
    let mut client = Client::connect(&host.root, &host.vm.name).unwrap();
    let output = client.exec("/bin/hostname", &[], BOOT).unwrap();
    assert_eq!((output.exit_code, output.stdout.as_slice()), (Some(0), &b"vm1\n"[..]));
    let output = client.exec_with_input("/bin/sh", &["-c", "cat >&2; exit 3"], Some("in"), BOOT).unwrap();
    assert_eq!((output.exit_code, output.stderr.as_slice()), (Some(3), &b"in"[..]));
    let refused = client.exec("/no/such/program", &[], BOOT).unwrap_err().to_string();
    assert!(refused.contains("No such file"), "{refused}");
    let late = client.exec("/bin/sleep", &["60"], Duration::from_millis(300)).unwrap_err().to_string();
    assert!(late.contains("took longer than 0.3 s"), "{late}");
    assert!(client.status().unwrap().agent);

    // The console: several at a time; who doesn't read is dropped and disturbs nobody.
    let mut stuck = host.console();
    let mut console = host.console();
    console.write_all(b"\necho sum-$((40+2))\n").unwrap();
    read_until(&mut console, "sum-42");
    client.exec("/bin/sh", &["-c", "seq 1 60000 >/dev/ttyS0"], BOOT).unwrap();
    let mut console = host.console();
    console.write_all(b"\necho sum-$((50+5))\n").unwrap();
    read_until(&mut console, "sum-55");
    assert!(stuck.read_to_end(&mut Vec::new()).unwrap() < 1 << 20);
    host.logged("hostctl probe guest vm1 ready");

    // What QEMU may do: nothing.
    confined(pid, host.vm.uid);

    let begun = Instant::now();
    client.stop(STOP).unwrap();
    assert!(begun.elapsed() < STOP, "the guest powered off by itself");
    assert!(!alive(pid));
    let mut left = host.runtime_files();
    left.retain(|file| !file.starts_with("console.log"));
    assert_eq!(left, Vec::<String>::new());
    assert!(vm::observe(&host.root).unwrap()[0].pid.is_none());
}

fn confined(pid: u32, uid: u32) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:"), vec![uid.to_string(); 4]);
    assert_eq!(field("Gid:"), vec![uid.to_string(); 4]);
    assert_eq!(field("Groups:"), Vec::<String>::new());
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    assert_eq!(field("Seccomp:"), ["2"]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:", "CapBnd:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    let links = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    assert_eq!(links.lines().skip(2).count(), 1, "only a loopback: {links}");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(3).unwrap();
    assert_eq!(session, pid.to_string(), "a session of its own");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!(environment, b"");
    // A filter of hostctl's beside QEMU's own.
    assert!(field("Seccomp_filters:")[0].parse::<u32>().unwrap() >= 3, "{status}");
    assert_eq!(field("NSpid:"), [pid.to_string(), "1".into()], "process 1 of a namespace of its own");
    for namespace in ["mnt", "pid", "net", "ipc", "uts"] {
        let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{namespace}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{namespace}");
    }
    sees_nothing_of_the_host(pid);
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for limit in
        ["Max address space", "Max file size", "Max open files", "Max processes", "Max locked memory"]
    {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
        assert!(!line.contains("unlimited"), "{line}");
    }
}

fn sees_nothing_of_the_host(pid: u32) {
    let root = std::path::PathBuf::from(format!("/proc/{pid}/root"));
    let mut names: Vec<String> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("lib"))
        .collect();
    names.sort();
    assert_eq!(names, ["dev", "etc", "proc", "tmp", "usr"]);
    for hidden in ["etc/passwd", "usr/local", "usr/bin/env", "dev/net", "dev/kvm", "proc/sys", "proc/cmdline"]
    {
        assert!(!root.join(hidden).exists(), "{hidden}");
    }
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    for mount in mounts.lines() {
        let fields: Vec<&str> = mount.split(' ').collect();
        let (place, options) = (fields[4], fields[5]);
        let writable = options.split(',').any(|option| option == "rw");
        assert_eq!(writable, ["/tmp", "/dev/shm", "/proc"].contains(&place), "{mount}");
        assert!(options.contains("nosuid"), "{mount}");
    }
}

#[test]
fn a_crash_is_followed_by_a_new_start() {
    let host = Host::new(|_| {});
    host.start();
    let first = host.ready();
    kill(first.pid.unwrap());
    until("it fails", || matches!(host.status().state, State::Failed(_)));
    let failed = host.status();
    assert!(matches!(&failed.state, State::Failed(why) if why.contains("killed by signal 9")), "{failed:?}");
    assert_eq!((failed.failures, failed.retry_in_ms), (1, Some(1000)));
    let again = host.ready();
    assert_ne!(again.pid, first.pid);
    assert_eq!(again.restarts, 1);

    // On request it is no failure, and the supervisor stays.
    let mut client = Client::connect(&host.root, &host.vm.name).unwrap();
    client.restart(STOP).unwrap();
    let third = host.ready();
    assert_ne!(third.pid, again.pid);
    assert_eq!((third.restarts, third.failures), (2, 0));
    assert_eq!(third.supervisor_pid, first.supervisor_pid);
}

#[test]
fn a_guest_outlives_its_supervisor() {
    let host = Host::new(|_| {});
    host.start();
    let first = host.ready();
    let mut client = Client::connect(&host.root, &host.vm.name).unwrap();
    let second = vm::spawn_supervisor(&host.root, &host.vm.name, &host.program).unwrap_err().to_string();
    assert!(second.contains("has a supervisor already"), "{second}");

    // While nobody reads the console, the guest writes more than any buffer holds.
    let flood = "(sleep 2; seq 1 60000 >/dev/ttyS0; echo done >/tmp/flood) >/dev/null 2>&1 &";
    client.exec("/bin/sh", &["-c", flood], BOOT).unwrap();
    kill(first.supervisor_pid);
    until("the lock is free", || !vm::observe(&host.root).unwrap()[0].supervised);
    let observed = vm::observe(&host.root).unwrap();
    assert_eq!(observed[0].pid, first.pid);
    assert_eq!(observed[0].launched, Some(vm::VmRecord::from(&host.vm)));
    assert_eq!(observed[0].status, None);
    std::thread::sleep(Duration::from_secs(4));

    host.start();
    let second = host.ready();
    assert_eq!((second.pid, second.started_at), (first.pid, first.started_at));
    assert_ne!(second.supervisor_pid, first.supervisor_pid);
    assert_eq!(second.restarts, 0);
    let mut client = Client::connect(&host.root, &host.vm.name).unwrap();
    until("the flood is over", || {
        client.exec("/bin/cat", &["/tmp/flood"], BOOT).unwrap().stdout == b"done\n"
    });
    let mut console = host.console();
    console.write_all(b"\necho sum-$((40+2))\n").unwrap();
    read_until(&mut console, "sum-42");
    client.stop(STOP).unwrap();
    assert!(!alive(first.pid.unwrap()));
}

#[test]
fn a_guest_that_powers_itself_off_stays_off() {
    let host = Host::new(|_| {});
    host.start();
    let pid = host.ready().pid.unwrap();
    let mut client = Client::connect(&host.root, &host.vm.name).unwrap();
    // The guest is gone before its agent could answer.
    let _ = client.exec("/bin/busybox", &["poweroff", "-f"], Duration::from_secs(5));
    until("QEMU and its supervisor end", || !alive(pid) && !vm::observe(&host.root).unwrap()[0].supervised);
    assert_eq!(vm::observe(&host.root).unwrap()[0].failure, None);
}

#[test]
fn a_guest_that_reboots_keeps_its_process() {
    let host = Host::new(|_| {});
    host.start();
    let first = host.ready();
    let mut client = Client::connect(&host.root, &host.vm.name).unwrap();
    let _ = client.exec("/bin/busybox", &["reboot", "-f"], Duration::from_secs(5));
    until("it boots again", || host.status().state == State::Running);
    let again = host.ready();
    assert_eq!((again.pid, again.restarts), (first.pid, 0));
}

#[test]
fn an_orphan_is_stopped_and_a_stray_is_found() {
    let host = Host::new(|_| {});
    host.start();
    let first = host.ready();
    kill(first.supervisor_pid);
    until("the lock is free", || !vm::observe(&host.root).unwrap()[0].supervised);
    vm::stop(&host.root, &host.vm.name, STOP).unwrap();
    assert!(!alive(first.pid.unwrap()));
    vm::stop(&host.root, &host.vm.name, STOP).unwrap();

    host.start();
    let second = host.ready();
    assert_eq!(vm::find_strays(&host.root).unwrap(), []);
    // A QEMU that its supervisor is about to write down is no stray.
    let record = host.root.vm(host.vm.name.as_str()).join("launch.json");
    let aside = record.with_extension("aside");
    std::fs::rename(&record, &aside).unwrap();
    assert_eq!(vm::find_strays(&host.root).unwrap(), []);
    std::fs::rename(&aside, &record).unwrap();
    kill(second.supervisor_pid);
    std::fs::remove_dir_all(host.root.vms()).unwrap();
    let pid = second.pid.unwrap();
    assert_eq!(vm::find_strays(&host.root).unwrap(), [(pid, "vm1".to_owned())]);
    assert_eq!(vm::find_strays(&hostctl::root_dir::RootDir::default()).unwrap(), []);
    vm::kill_stray(&host.root, pid).unwrap();
    // Nobody here is its parent: it has its pid until process 1 asks for its end.
    until("it is gone", || !alive(pid));
}

#[test]
fn sigterm_stops_the_guest_gracefully() {
    let host = Host::new(|vm| vm.accel = Accel::Auto);
    host.start();
    let status = host.ready();
    // Whichever it is here, the guest came up on it, and it says why.
    assert!(status.accel.is_some() && status.accel_reason.as_ref().is_some_and(|reason| !reason.is_empty()));
    signal(status.supervisor_pid, rustix::process::Signal::TERM);
    until("both end", || !alive(status.pid.unwrap()) && !vm::observe(&host.root).unwrap()[0].supervised);
    assert_eq!(vm::observe(&host.root).unwrap()[0].failure, None);
}

#[test]
fn a_guest_that_doesnt_hear_is_ended_at_the_deadline() {
    let host = Host::new(|_| {});
    let stop = |limit| vm::stop(&host.root, &host.vm.name, limit).unwrap();
    // In its first moments, before QEMU answers or the guest listens.
    host.start();
    until("there is a QEMU", || {
        Client::connect(&host.root, &host.vm.name)
            .and_then(|mut client| client.status())
            .is_ok_and(|status| status.pid.is_some())
    });
    let early = host.status().pid.unwrap();
    let begun = Instant::now();
    stop(Duration::from_millis(200));
    assert!(!alive(early) && begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    // A QEMU that hangs: nothing but a kill helps.
    host.start();
    let hung = host.ready().pid.unwrap();
    signal(hung, rustix::process::Signal::STOP);
    let begun = Instant::now();
    stop(Duration::from_secs(1));
    assert!(!alive(hung) && begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_disk_and_boot_files_that_only_root_may_read() {
    let host = Host::new(|_| {});
    let dir = host.root.path().join("a, b");
    std::fs::create_dir(&dir).unwrap();
    let private = |file: &str, bytes: &[u8]| {
        let path = dir.join(file);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let image = host.root.images().join("probe");
    let kernel = private("vmlinuz", &std::fs::read(image.join("vmlinuz")).unwrap());
    let initrd = private("initrd", &std::fs::read(image.join("initrd.img")).unwrap());
    let mut content = vec![0_u8; 1 << 20];
    content[..5].copy_from_slice(b"hello");
    let disk = private("disk.img", &content);
    let mut vm = host.vm.clone();
    vm.image = Image::Files(ImageFiles {
        kernel: Some(kernel),
        initrd: Some(initrd),
        disk: Some(Disk { path: disk.clone(), format: DiskFormat::Raw, read_only: false }),
    });
    let volume = |name: &str, read_only| Disk {
        path: private(name, &[b'-'; 1 << 16]),
        format: DiskFormat::Raw,
        read_only,
    };
    vm.volumes = vec![volume("data.img", false), volume("fixed.img", true)];
    vm::write_desired(&host.root, &vm).unwrap();
    vm::spawn_supervisor(&host.root, &vm.name, &host.program).unwrap();
    // Files say nothing of an agent: ready is running.
    host.ready();
    until("the agent answers all the same", || host.status().agent);
    let mut client = Client::connect(&host.root, &vm.name).unwrap();
    let mut run = |script: &str| client.exec("/bin/sh", &["-c", script], BOOT).unwrap();
    assert_eq!(run("head -c 5 /dev/vda").stdout, b"hello");
    let written = run("echo world | dd of=/dev/vda conv=notrunc,fsync 2>&1");
    assert_eq!(written.exit_code, Some(0), "{}", String::from_utf8_lossy(&written.stdout));
    assert_eq!(&std::fs::read(&disk).unwrap()[..6], b"world\n");
    // What /dev/disk/by-id/virtio-volumeN is made of.
    let write = |serial: &str| {
        format!(
            "for at in /sys/block/vd*; do [ \"$(cat $at/serial)\" != {serial} ] || \
             echo kept | dd of=/dev/${{at##*/}} conv=notrunc,fsync 2>/dev/null; done"
        )
    };
    assert_eq!(run(&write("volume1")).exit_code, Some(0));
    assert_ne!(run(&write("volume2")).exit_code, Some(0), "a read-only volume was written to");
    assert_eq!(&std::fs::read(&vm.volumes[0].path).unwrap()[..5], b"kept\n");
    assert_eq!(&std::fs::read(&vm.volumes[1].path).unwrap()[..5], b"-----");
    client.stop(STOP).unwrap();
}

/// A block device of a file, for as long as it is needed.
struct Loop(String);

impl Loop {
    fn of(file: &std::path::Path) -> Self {
        let output = std::process::Command::new("losetup").args(["-f", "--show"]).arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(String::from_utf8(output.stdout).unwrap().trim().into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// With and without io_uring: what is written is there, what is written as zeroes
/// takes no room, and `vm show` says how it is done.
#[test]
fn disks_are_done_in_a_thread_of_their_own_past_the_cache_and_by_a_ring_where_it_is_asked_for() {
    for asked in [false, true] {
        let host = Host::new(|vm| vm.io_uring = asked);
        let file = |name: &str| {
            let path = host.root.path().join(name);
            // Nothing of it is a hole.
            std::fs::write(&path, vec![b'-'; 4 << 20]).unwrap();
            path
        };
        let (data, behind) = (file("data.img"), file("behind.img"));
        let device = Loop::of(&behind);
        let disk =
            |path: &std::path::Path| Disk { path: path.into(), format: DiskFormat::Raw, read_only: false };
        let mut vm = host.vm.clone();
        vm.volumes = vec![disk(&data), disk(std::path::Path::new(&device.0))];
        vm::write_desired(&host.root, &vm).unwrap();
        vm::spawn_supervisor(&host.root, &vm.name, &host.program).unwrap();
        let status = host.ready();
        let pid = status.pid.unwrap();
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        let rings = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter(|entry| {
            let target = std::fs::read_link(entry.as_ref().unwrap().path()).unwrap_or_default();
            target.to_string_lossy().contains("io_uring")
        });
        let rings = rings.count();
        let told = status.disk_io.unwrap();
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        let opens = matches!(disabled.trim(), "" | "0");
        if asked && opens {
            assert_eq!(
                told,
                "a thread of their own; files by io_uring, block devices by io_uring past the page cache"
            );
            assert!(rings > 0 && words.matches(r#""aio":"io_uring""#).count() == 2, "{rings} {words}");
        } else {
            let start = "a thread of their own; files by threads, block devices by native past the page cache (io_uring: ";
            assert!(told.starts_with(start), "{told}");
            assert!(rings == 0 && words.matches(r#""aio":"native""#).count() == 1, "{rings} {words}");
        }
        assert_eq!(words.matches("iothread=disks").count(), 2, "{words}");
        let mut client = Client::connect(&host.root, &vm.name).unwrap();
        let mut run = |script: &str| {
            let done = client.exec("/bin/sh", &["-c", script], BOOT).unwrap();
            assert_eq!(done.exit_code, Some(0), "{script}: {}", String::from_utf8_lossy(&done.stdout));
        };
        for (letter, path) in [("a", &data), ("b", &behind)] {
            let room = || std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path).unwrap()) * 512;
            let before = room();
            run(&format!("echo kept | dd of=/dev/vd{letter} conv=notrunc,fsync 2>&1"));
            run(&format!("dd if=/dev/zero of=/dev/vd{letter} bs=1M seek=1 count=2 conv=notrunc,fsync 2>&1"));
            let found = std::fs::read(path).unwrap();
            assert!(found.starts_with(b"kept\n") && found.ends_with(b"-----"), "vd{letter}");
            assert!(found[1 << 20..3 << 20].iter().all(|byte| *byte == 0), "vd{letter}");
            assert!(room() + (1 << 20) <= before, "vd{letter}: {before} bytes, then {}", room());
        }
        client.stop(STOP).unwrap();
    }
}

#[test]
fn a_qemu_that_refuses_its_disk_says_why() {
    let host = Host::new(|vm| vm.restart = false);
    let path = host.root.path().join("disk.img");
    // A qcow2 with a feature that nobody has.
    std::fs::write(&path, qcow2(&[(72, 0x80)])).unwrap();
    let failed = fails_with(&host, Disk { path, format: DiskFormat::Qcow2, read_only: true });
    assert!(failed.contains("nsupported") && failed.contains("QEMU exited with status 1"), "{failed}");
}

/// Why the VM doesn't start with this disk, as the supervisor leaves it.
fn fails_with(host: &Host, disk: Disk) -> String {
    let mut vm = host.vm.clone();
    vm.image = Image::Files(ImageFiles { kernel: None, initrd: None, disk: Some(disk) });
    vm::write_desired(&host.root, &vm).unwrap();
    vm::spawn_supervisor(&host.root, &vm.name, &host.program).unwrap();
    let failed = vm::wait_until(&host.root, &vm.name, &State::Ready, BOOT, |_| {}).unwrap_err().to_string();
    until("the supervisor leaves", || !vm::observe(&host.root).unwrap()[0].supervised);
    let failure = vm::observe(&host.root).unwrap()[0].failure.clone().unwrap();
    assert!(failed.contains(&failure), "{failed}: {failure}");
    failure
}

/// The beginning of a qcow2 of 1 MiB, version 3, with other bytes at places.
fn qcow2(others: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    for (at, byte) in [(23, 16), (29, 0x10), (39, 1), (99, 4), (103, 104)].iter().chain(others) {
        bytes[*at] = *byte;
    }
    bytes
}

#[test]
fn a_disk_of_several_files_or_another_format_is_refused() {
    use DiskFormat::{Qcow2, Raw};
    let host = Host::new(|vm| vm.restart = false);
    let path = host.root.path().join("disk.img");
    let cases = [
        (Qcow2, qcow2(&[(15, 0x70), (19, 5)]), "it has a backing file"),
        (Qcow2, qcow2(&[(79, 4)]), "it has an external data file"),
        (Qcow2, vec![0; 4096], "it is not in qcow2 format"),
        (Raw, qcow2(&[]), "say format = \"qcow2\""),
        (Raw, b"# Disk DescriptorFile\nversion=1\n".to_vec(), "begins as a VMDK does"),
    ];
    for (format, bytes, expected) in cases {
        std::fs::write(&path, bytes).unwrap();
        let failed = fails_with(&host, Disk { path: path.clone(), format, read_only: false });
        assert!(failed.contains(expected) && failed.contains("disk.img"), "{expected}: {failed}");
        // Before anything is started, too.
        let mut vm = host.vm.clone();
        vm.volumes = vec![Disk { path: path.clone(), format, read_only: true }];
        let failed = vm::BootFiles::resolve(&host.root, &vm).unwrap_err().to_string();
        assert!(failed.contains(expected), "{expected}: {failed}");
    }
}

#[test]
fn a_file_of_roots_isnt_reached_through_a_link() {
    use std::os::unix::fs::{chown, symlink};
    let host = Host::new(|vm| vm.restart = false);
    let secret = host.root.path().join("secret");
    std::fs::write(&secret, [b's'; 4096]).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let users = host.root.path().join("users");
    std::fs::create_dir(&users).unwrap();
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(&users, Some(1234), Some(1234)).unwrap();
    let disk = users.join("disk.img");
    symlink(&secret, &disk).unwrap();
    let failed = fails_with(&host, Disk { path: disk.clone(), format: DiskFormat::Raw, read_only: false });
    assert!(failed.contains("is a symbolic link that others than root can have placed there"), "{failed}");
    let mut vm = host.vm.clone();
    for place in ["kernel", "initrd", "volume"] {
        let file =
            |path: &std::path::Path| Disk { path: path.into(), format: DiskFormat::Raw, read_only: true };
        vm.volumes = vec![file(&disk)];
        let mut files = ImageFiles { kernel: Some(secret.clone()), initrd: None, disk: None };
        match place {
            "kernel" => (files.kernel, vm.volumes) = (Some(disk.clone()), Vec::new()),
            "initrd" => (files.initrd, vm.volumes) = (Some(disk.clone()), Vec::new()),
            _ => {}
        }
        vm.image = Image::Files(files);
        let refused = vm::BootFiles::resolve(&host.root, &vm).unwrap_err().to_string();
        assert!(refused.contains("symbolic link"), "{place}: {refused}");
    }
    // An image that somebody unpacked brings links of its own, as root's.
    let image = host.root.path().join("images/evil");
    std::fs::create_dir_all(&image).unwrap();
    symlink(&secret, image.join("vmlinuz")).unwrap();
    std::fs::write(image.join("image.json"), r#"{"arch":"x86_64","kernel":"vmlinuz"}"#).unwrap();
    std::fs::remove_file(host.root.images()).unwrap();
    symlink(host.root.path().join("images"), host.root.images()).unwrap();
    vm.image = named("evil");
    vm.volumes.clear();
    let refused = vm::BootFiles::resolve(&host.root, &vm).unwrap_err().to_string();
    assert!(refused.contains("vmlinuz is a symbolic link"), "{refused}");
}

#[test]
fn systemd_is_told() {
    let host = Host::new(|_| {});
    vm::write_desired(&host.root, &host.vm).unwrap();
    let address = host.root.path().join("notify.sock");
    let notices = UnixDatagram::bind(&address).unwrap();
    notices.set_read_timeout(Some(BOOT)).unwrap();
    let mut unit = std::process::Command::new(&host.program);
    unit.arg("--root-dir").arg(host.root.path()).args(["vm", "run", "vm1"]);
    // A watchdog of 0.4 s hears of it every 0.2 s, from the beginning to the end.
    unit.env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "400000");
    let mut unit = unit.spawn().unwrap();
    let mut heard = String::new();
    let mut hear = |until: &str| {
        let mut buffer = [0; 1024];
        while !heard.contains(until) {
            let count = notices.recv(&mut buffer).unwrap();
            heard.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
            heard.push('\n');
        }
        std::mem::take(&mut heard)
    };
    let booting = hear("STATUS=ready");
    assert_eq!(booting.matches("READY=1").count(), 1, "{booting}");
    assert!(booting.matches("WATCHDOG=1").count() > 3, "{booting}");
    assert!(hear("WATCHDOG=1").lines().all(|line| line != "STOPPING=1"));
    signal(unit.id(), rustix::process::Signal::TERM);
    // Stopping is the supervisor's end, not the guest's time to power off.
    let ending = hear("STOPPING=1");
    assert!(ending.contains("STATUS=stopping") && ending.contains("STATUS=stopped\n"), "{ending}");
    assert!(!ending.contains("READY=1"), "{ending}");
    assert!(unit.wait().unwrap().success());
}

#[test]
fn a_guest_that_cant_start_says_why() {
    let host = Host::new(|vm| vm.image = named("nothing"));
    host.start();
    let failed = vm::wait_until(&host.root, &host.vm.name, &State::Ready, BOOT, |_| {}).unwrap_err();
    assert!(failed.to_string().contains("there is no image nothing"), "{failed}");
}

#[test]
fn a_microvm_boots_and_stops() {
    let host = Host::new(|vm| vm.machine = Machine::Microvm);
    host.start();
    host.ready();
    host.guest_answers();
    vm::stop(&host.root, &host.vm.name, STOP).unwrap();
}

#[test]
fn an_aarch64_guest_boots_and_stops() {
    let host = Host::new(|vm| {
        vm.arch = Arch::Aarch64;
        vm.machine = Machine::Virt;
        vm.image = named("probe-aarch64");
    });
    host.start();
    host.ready();
    host.guest_answers();
    vm::stop(&host.root, &host.vm.name, STOP).unwrap();
}

fn named(image: &str) -> Image {
    Image::Named(Name::new(image).unwrap())
}

fn read_until(console: &mut UnixStream, wanted: &str) {
    console.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(wanted) {
        let count = console.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "the console ended before {wanted}");
        text.extend_from_slice(&buffer[..count]);
        // Only the end is of interest.
        text.drain(..text.len().saturating_sub(8192));
    }
}

#[test]
fn one_that_only_waits_to_start_again_is_stopped() {
    let host = Host::new(|vm| {
        let disk = std::env::temp_dir().join(format!("hostctl-not-a-qcow2-{}", std::process::id()));
        // One that QEMU doesn't take.
        std::fs::write(&disk, qcow2(&[(72, 0x80)])).unwrap();
        let disk = Disk { path: disk, format: DiskFormat::Qcow2, read_only: false };
        vm.image = Image::Files(ImageFiles { kernel: None, initrd: None, disk: Some(disk) });
    });
    for _ in 0..5 {
        host.start();
        until("it crashed", || {
            let status = Client::connect(&host.root, &host.vm.name).and_then(|mut client| client.status());
            status.is_ok_and(|status| status.failures > 0)
        });
        vm::stop(&host.root, &host.vm.name, STOP).unwrap();
        assert!(Client::connect(&host.root, &host.vm.name).is_err());
    }
    let disk = std::env::temp_dir().join(format!("hostctl-not-a-qcow2-{}", std::process::id()));
    std::fs::remove_file(disk).unwrap();
}
