//! Plays a QEMU that its guest has taken over: it is started as one, under
//! its name, tries what it must not be able to do, and says on its stderr what
//! came of it: a line `WHAT: OUTCOME` for each, and `done`.

#![allow(unsafe_code, missing_docs)]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use nix::libc::{self, c_int, c_long};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(tap) = arguments.iter().find_map(|word| word.strip_prefix("tap,id=net,fd=")) {
        let number = tap.split(',').next().and_then(|number| number.parse().ok());
        tap_ioctls(number.unwrap_or(-1));
    }
    let home = Path::new(&arguments[0]).parent().unwrap_or(Path::new("/")).to_owned();
    files(&home);
    writes();
    calls();
    processes();
    quantities();
    eprintln!("done");
    loop {
        std::thread::park();
    }
}

fn say(what: &str, outcome: impl std::fmt::Display) {
    eprintln!("{what}: {outcome}");
}

/// The error's name, or `allowed`.
fn outcome(result: c_long) -> String {
    if result >= 0 {
        return "allowed".into();
    }
    nix::errno::Errno::last().to_string().split(':').next().unwrap_or_default().into()
}

fn of_io<T>(result: std::io::Result<T>) -> String {
    match result {
        Ok(_) => "allowed".into(),
        Err(error) => {
            let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0));
            errno.to_string().split(':').next().unwrap_or_default().into()
        }
    }
}

fn tap_ioctls(tap: c_int) {
    let mut request = [0_u64; 64];
    let forbidden: [(&str, u64); 18] = [
        ("SIOCSIFHWADDR", 0x8924),
        ("TUNSETNOCSUM", 0x4004_54c8),
        ("TUNSETIFF", 0x4004_54ca),
        ("TUNSETPERSIST", 0x4004_54cb),
        ("TUNSETOWNER", 0x4004_54cc),
        ("TUNSETLINK", 0x4004_54cd),
        ("TUNSETGROUP", 0x4004_54ce),
        ("TUNSETOFFLOAD", 0x4004_54d0),
        ("TUNSETTXFILTER", 0x4004_54d1),
        ("TUNSETSNDBUF", 0x4004_54d4),
        ("TUNATTACHFILTER", 0x4010_54d5),
        ("TUNSETVNETHDRSZ", 0x4004_54d8),
        ("TUNSETQUEUE", 0x4004_54d9),
        ("TUNSETVNETLE", 0x4004_54dc),
        ("TUNSETSTEERINGEBPF", 0x8004_54e0),
        ("TUNSETFILTEREBPF", 0x8004_54e1),
        ("TUNSETCARRIER", 0x4004_54e2),
        ("TUNGETDEVNETNS", 0x54e3),
    ];
    for (name, number) in forbidden {
        for upper in [0, 1 << 32, 0xffff_ffff_u64 << 32] {
            // An argument that each of them would take: 1, or a pointer.
            let argument = if name == "TUNSETOFFLOAD" { 1 } else { request.as_mut_ptr() as u64 };
            let result = unsafe { libc::syscall(libc::SYS_ioctl, tap, number | upper, argument) };
            say(&format!("ioctl {name}"), outcome(result));
        }
    }
    #[cfg(target_arch = "x86_64")]
    for call in [514, 16] {
        let result = unsafe { libc::syscall(0x4000_0000 | call, tap, 0x8924_u64, request.as_mut_ptr()) };
        say(&format!("x32 ioctl {call}"), if result >= 0 { "allowed".into() } else { outcome(result) });
    }
    let result = unsafe { libc::syscall(libc::SYS_ioctl, tap, 0x8004_54d2_u64, request.as_mut_ptr()) };
    say("ioctl TUNGETIFF", outcome(result));
}

fn files(home: &Path) {
    for path in [
        "/etc/passwd",
        "/etc/shadow",
        "/var",
        "/root",
        "/home",
        "/run",
        "/sys",
        "/usr/bin/env",
        "/proc/sys",
        "/proc/cmdline",
        "/proc/mounts",
        "/proc/2",
        "/dev/net/tun",
        "/dev/kvm",
        "/dev/mem",
        "/dev/vda",
        "/dev/pts",
    ] {
        say(&format!("see {path}"), of_io(fs::symlink_metadata(path)));
    }
    for file in ["world-readable", "generations/1.json"] {
        say(&format!("see {file}"), of_io(File::open(home.join(file))));
    }
    say("connect to a socket that is open to all", of_io(UnixStream::connect(home.join("socket"))));
    let connected = SocketAddr::from_abstract_name(b"hostctl-test-abstract")
        .and_then(|address| UnixStream::connect_addr(&address));
    say("connect to an abstract socket", of_io(connected));
    let names = |path: &str| {
        let mut names: Vec<_> = fs::read_dir(path)
            .map(|entries| {
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            })
            .unwrap_or_default();
        names.sort();
        names.join(" ")
    };
    for path in ["/", "/dev", "/etc", "/tmp"] {
        say(&format!("list {path}"), names(path));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| {
        ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp:", "Groups"]
            .iter()
            .any(|name| line.starts_with(name))
    }) {
        say("status", line.replace('\t', " "));
    }
}

fn writes() {
    for path in ["/x", "/usr/lib/x", "/dev/x", "/etc/x", "/proc/x"] {
        say(&format!("write {path}"), of_io(File::create(path)));
    }
    // Until a place is full: bytes in files of half a MiB.
    for place in ["/tmp", "/dev/shm"] {
        let mut total = 0_usize;
        let block = vec![1; 1 << 19];
        for number in 0..256 {
            let Ok(mut file) = File::create(format!("{place}/{number}")) else { break };
            match file.write_all(&block) {
                Ok(()) => total += block.len(),
                Err(_) => break,
            }
        }
        say(&format!("MiB in {place}"), total >> 20);
        for number in 0..256 {
            let _ = fs::remove_file(format!("{place}/{number}"));
        }
    }
    let large = File::create("/tmp/large").and_then(|file| file.set_len(1 << 40));
    say("a file of a TiB", of_io(large));
    let _ = fs::remove_file("/tmp/large");
}

fn calls() {
    let root = CString::default();
    let call = |what: &str, result: c_long| say(&format!("call {what}"), outcome(result));
    unsafe {
        call("setuid", libc::setuid(0).into());
        call("setgid", libc::setgid(0).into());
        call("mount", libc::syscall(libc::SYS_mount, 0, root.as_ptr(), 0, 0, 0));
        call("unshare", libc::unshare(libc::CLONE_NEWUSER).into());
        call(
            "clone into a user namespace",
            libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0),
        );
        call("clone3", libc::syscall(libc::SYS_clone3, 0, 0));
        call("setns", libc::setns(0, 0).into());
        call("ptrace", libc::syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0));
        call("bpf", libc::syscall(libc::SYS_bpf, 0, 0, 0));
        call("perf_event_open", libc::syscall(libc::SYS_perf_event_open, 0, 0, -1, -1, 0));
        call("keyctl", libc::syscall(libc::SYS_keyctl, 0, 0, 0, 0, 0));
        call("io_uring_setup", libc::syscall(libc::SYS_io_uring_setup, 1, 0));
        call("memfd_create", libc::syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0));
        call("shmget", libc::syscall(libc::SYS_shmget, 0, 1 << 30, 0o1600));
        call("mq_open", libc::syscall(libc::SYS_mq_open, c"x".as_ptr(), libc::O_CREAT, 0o600, 0));
        for (name, family) in [
            ("inet", libc::AF_INET),
            ("packet", libc::AF_PACKET),
            ("netlink", libc::AF_NETLINK),
            ("vsock", libc::AF_VSOCK),
            ("alg", libc::AF_ALG),
        ] {
            call(&format!("socket {name}"), libc::socket(family, libc::SOCK_DGRAM, 0).into());
        }
        call("socket unix", libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0).into());
    }
}

fn processes() {
    say("pid", std::process::id());
    say("parent", std::os::unix::process::parent_id());
    let seen = fs::read_dir("/proc").map(|entries| {
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).count()
    });
    say("processes seen", seen.unwrap_or_default());
    let others = (2..100_000).filter(|pid| unsafe { libc::kill(*pid, 0) } == 0).count();
    say("others to signal", others);
    // As many as it gets, which then end.
    let mut children = Vec::new();
    loop {
        match unsafe { libc::fork() } {
            0 => unsafe {
                libc::pause();
                libc::_exit(0)
            },
            pid if pid > 0 && children.len() < 4096 => children.push(pid),
            pid => {
                if pid > 0 {
                    children.push(pid);
                }
                break;
            }
        }
    }
    say("processes", children.len());
    for pid in children {
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
}

fn quantities() {
    let mut opened = 0;
    while opened < 100_000 && unsafe { libc::dup(0) } >= 0 {
        opened += 1;
    }
    say("descriptors", opened);
    let reserved = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            1 << 36,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    say("64 GiB of memory", if reserved == libc::MAP_FAILED { outcome(-1) } else { "allowed".into() });
}
