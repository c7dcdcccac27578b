//! Real guests under real supervisors, in network namespaces of their own.
//! They boot the probe image; everything is emulated (TCG).

#![allow(clippy::unwrap_used)]

mod vm_host;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use hostctl::topology::{Disk, DiskFormat, Image, ImageFiles};
use hostctl::vm::{self, Client, State};

use vm_host::{Host, alive, kill, signal, until};

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
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    let links = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    assert_eq!(links.lines().skip(2).count(), 1, "only a loopback: {links}");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(3).unwrap();
    assert_eq!(session, pid.to_string(), "a session of its own");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!(environment, b"");
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
    assert_eq!(observed[0].launched.as_ref(), Some(&host.vm));
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
    assert!(!alive(pid));
}

#[test]
fn sigterm_stops_the_guest_gracefully() {
    let host = Host::new(|vm| vm["accel"] = "auto".into());
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

#[test]
fn a_qemu_that_refuses_its_disk_says_why() {
    let host = Host::new(|vm| vm["restart"] = false.into());
    let path = host.root.path().join("disk.img");
    std::fs::write(&path, [0; 4096]).unwrap();
    let mut vm = host.vm.clone();
    let disk = Disk { path, format: DiskFormat::Qcow2, read_only: true };
    vm.image = Image::Files(ImageFiles { kernel: None, initrd: None, disk: Some(disk) });
    vm::write_desired(&host.root, &vm).unwrap();
    vm::spawn_supervisor(&host.root, &vm.name, &host.program).unwrap();
    let failed = vm::wait_until(&host.root, &vm.name, &State::Ready, BOOT, |_| {}).unwrap_err().to_string();
    assert!(failed.contains("not in qcow2 format"), "{failed}");
    until("the supervisor leaves", || !vm::observe(&host.root).unwrap()[0].supervised);
    let failure = vm::observe(&host.root).unwrap()[0].failure.clone().unwrap();
    assert!(failure.starts_with("QEMU exited with status 1"), "{failure}");
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
    let host = Host::new(|vm| vm["image"] = serde_json::json!({ "named": "nothing" }));
    host.start();
    let failed = vm::wait_until(&host.root, &host.vm.name, &State::Ready, BOOT, |_| {}).unwrap_err();
    assert!(failed.to_string().contains("there is no image nothing"), "{failed}");
}

#[test]
fn a_microvm_boots_and_stops() {
    let host = Host::new(|vm| vm["machine"] = "microvm".into());
    host.start();
    host.ready();
    host.guest_answers();
    vm::stop(&host.root, &host.vm.name, STOP).unwrap();
}

#[test]
fn an_aarch64_guest_boots_and_stops() {
    let host = Host::new(|vm| {
        vm["arch"] = "aarch64".into();
        vm["machine"] = "virt".into();
        vm["image"] = serde_json::json!({ "named": "probe-aarch64" });
    });
    host.start();
    host.ready();
    host.guest_answers();
    vm::stop(&host.root, &host.vm.name, STOP).unwrap();
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
        std::fs::write(&disk, b"no such format").unwrap();
        vm["image"] = serde_json::json!({ "files": {
            "kernel": null, "initrd": null,
            "disk": { "path": disk, "format": "qcow2", "read_only": false }
        }});
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
