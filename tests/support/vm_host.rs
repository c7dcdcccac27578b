//! A host with one VM, in a network namespace of its own.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hostctl::root_dir::RootDir;
use hostctl::tap;
use hostctl::topology::{Accel, Arch, IfName, Image, Machine, Name, Offload, Port, PortV6, Supervisor, Vm};
use hostctl::vm::{self, Client, State, VmReport};

use crate::support::processes::until;

pub struct Host {
    pub root: RootDir,
    pub vm: Vm,
    /// hostctl, which supervises: `program --root-dir ROOT vm run NAME`.
    pub program: PathBuf,
    _dir: tempfile::TempDir,
}

impl Host {
    /// The VM vm1 of the probe image, `edit`ed. The calling thread moves to a
    /// network namespace of its own.
    pub fn new(edit: impl FnOnce(&mut Vm)) -> Self {
        let images = std::env::var_os("HOSTCTL_TEST_IMAGES")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/images"), PathBuf::from);
        for image in ["probe", "probe-aarch64"] {
            let file = images.join(image).join("image.json");
            assert!(file.exists(), "{} is missing: run vm-images/build.sh", file.display());
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::new(dir.path());
        std::fs::create_dir_all(root.state()).unwrap();
        std::os::unix::fs::symlink(images, root.images()).unwrap();

        let program = PathBuf::from(env!("CARGO_BIN_EXE_hostctl"));

        let name = |text: &str| Name::new(text).unwrap();
        let v6 = PortV6 {
            address: "fd00:0:0:1::2".parse().unwrap(),
            prefix: 64,
            gateway: "fd00:0:0:1::1".parse().unwrap(),
            link_local: "fe80::ff:fe00:1".parse().unwrap(),
        };
        let port = Port {
            interface: IfName::new("vm-vm1").unwrap(),
            altname: None,
            network: name("vm1"),
            subnet: name("vm1"),
            bridge: IfName::new("br-vm1").unwrap(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            address: "10.1.0.2".parse().unwrap(),
            prefix: 24,
            gateway: "10.1.0.1".parse().unwrap(),
            v6: Some(v6),
        };
        let mut vm = Vm {
            name: name("vm1"),
            port,
            dns: Vec::new(),
            vcpus: 1,
            memory: 256,
            image: Image::Named(name("probe")),
            volumes: Vec::new(),
            io_uring: false,
            arch: Arch::X86_64,
            machine: Machine::Q35,
            accel: Accel::Tcg,
            offload: Offload::Auto,
            cmdline: String::new(),
            autostart: true,
            restart: true,
            supervisor: Supervisor::Hostctl,
            // Tests run side by side: a user of this one's own.
            uid: 0x7000_0000_u32 + std::process::id() % 0x0fff_ffff,
        };
        edit(&mut vm);
        let tap = vm.port.interface.as_str();
        tap::create(&vm.port.interface).unwrap();
        ip(&["address", "add", "10.1.0.1/24", "dev", tap]);
        ip(&["address", "add", "fd00:0:0:1::1/64", "dev", tap, "nodad"]);
        ip(&["link", "set", tap, "up"]);
        Self { root, vm, program, _dir: dir }
    }

    /// Starts a supervisor in the background.
    pub fn start(&self) {
        vm::write_desired(&self.root, &self.vm).unwrap();
        vm::spawn_supervisor(&self.root, &self.vm.name, &self.program).unwrap();
    }

    pub fn status(&self) -> VmReport {
        Client::connect(&self.root, &self.vm.name).unwrap().status().unwrap()
    }

    pub fn ready(&self) -> VmReport {
        let limit = Duration::from_secs(180);
        let waited = vm::wait_until(&self.root, &self.vm.name, &State::Ready, limit, |_| {});
        waited.unwrap_or_else(|error| {
            let log = |file| std::fs::read_to_string(self.root.vm("vm1").join(file)).unwrap_or_default();
            panic!("{error}\n{}\n{}\n{}", log("supervisor.log"), log("qemu.log"), log("console.log"))
        })
    }

    /// Its HTTP server, on both of its addresses.
    pub fn guest_answers(&self) {
        for address in ["10.1.0.2:80", "[fd00:0:0:1::2]:80"] {
            let address: SocketAddr = address.parse().unwrap();
            until("the guest serves", || {
                TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
            });
        }
    }

    pub fn console(&self) -> UnixStream {
        UnixStream::connect(self.root.vm("vm1").join("console.sock")).unwrap()
    }

    /// Waits for a text on the console's log.
    pub fn logged(&self, text: &str) {
        until(text, || {
            let read = |file| std::fs::read(self.root.vm("vm1").join(file)).unwrap_or_default();
            [read("console.log.1"), read("console.log")]
                .iter()
                .any(|log| String::from_utf8_lossy(log).contains(text))
        });
    }

    pub fn runtime_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.vm("vm1")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let stopped = vm::stop(&self.root, &self.vm.name, Duration::ZERO);
        for (pid, _) in vm::find_strays(&self.root).unwrap_or_default() {
            let _ = vm::kill_stray(&self.root, pid);
        }
        if !std::thread::panicking() {
            stopped.unwrap();
        }
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}: {status}");
}
