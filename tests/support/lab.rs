//! A host in a small world: hostctl's library works in the hypervisor's
//! namespace, guests without QEMU sit on its TAPs.

use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;

use hostctl::host::{self, Host, HostError, HostStatus, Outcome, Silent, Step, Watch};
use hostctl::root_dir::RootDir;
use hostctl::spec::HostSpec;
use hostctl::testbed::{FakeGuest, Netns, Options, Service, World};
use hostctl::topology::{self, Topology};
use nix::sched::{CloneFlags, unshare};

pub struct Lab {
    pub world: World,
    pub host: Host,
    directory: tempfile::TempDir,
}

/// Waits for a watchdog that is at it.
struct Patient;

impl Watch for Patient {
    fn before(&mut self, _: usize, _: usize, _: &Step) -> Result<(), HostError> {
        Ok(())
    }

    fn patience(&self) -> std::time::Duration {
        std::time::Duration::from_secs(60)
    }
}

impl Drop for Lab {
    /// A test that failed leaves no guest and no app behind either.
    fn drop(&mut self) {
        let host = &self.host;
        let down = self.world.hypervisor.block_on(|| async move { host.down(&mut Patient).await });
        if !std::thread::panicking() {
            down.unwrap().unwrap();
        }
    }
}

/// A guest on its port, with the usual services.
pub struct Guest {
    pub guest: FakeGuest,
    pub v4: IpAddr,
    pub v6: Option<IpAddr>,
    services: Vec<Service>,
}

impl Guest {
    pub fn netns(&self) -> &Netns {
        self.guest.netns()
    }

    /// Who spoke to the guest's services on that port.
    pub fn peers(&self, port: u16) -> Vec<std::net::SocketAddr> {
        let services = self.services.iter().filter(|service| service.address().port() == port);
        services.flat_map(Service::seen).collect()
    }
}

/// A subnet's namespace, in which everybody may ping.
pub fn named_namespace(name: &str) -> Netns {
    let netns = Netns::named(name).unwrap();
    netns.sysctl_set("net/ipv4/ping_group_range", "0 2147483647").unwrap();
    netns
}

/// Runs `work` in a network namespace of its own.
pub fn in_own_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub fn compile(text: &str) -> (HostSpec, Topology) {
    let spec: HostSpec = toml::from_str(text).unwrap();
    let topology = topology::compile(&spec).unwrap_or_else(|issues| panic!("{issues:?}"));
    (spec, topology)
}

impl Lab {
    pub fn new(options: Options) -> Self {
        hostctl::testbed::NamedNamespaces::enter().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::new(directory.path());
        let program = PathBuf::from(env!("CARGO_BIN_EXE_hostctl"));
        Self { world: World::new(options).unwrap(), host: Host { root, program }, directory }
    }

    /// Without IPv6 and a tailnet: what is tested has nothing to do with either.
    pub fn of_ipv4() -> Self {
        Self::new(Options { ipv6: false, tailnet: false, ..Options::default() })
    }

    /// Where bridges hand frames to the inet tables (br_netfilter), or don't.
    pub fn with_bridge_netfilter(called: bool) -> Self {
        Self::new(Options { bridge_nf_call_iptables: Some(called), ..Options::default() })
    }

    /// Lets the host find the images that `make image` built.
    pub fn with_images(self) -> Self {
        let images = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/images");
        let description = images.join("probe/image.json");
        assert!(description.exists(), "{} is missing: run make image", description.display());
        std::fs::create_dir_all(self.host.root.state()).unwrap();
        std::os::unix::fs::symlink(images, self.host.root.images()).unwrap();
        self
    }

    pub fn root_dir(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub fn try_apply(&self, text: &str, watch: &mut (dyn Watch + Send)) -> Result<Outcome, HostError> {
        let (spec, topology) = compile(text);
        let host = &self.host;
        let (spec, topology) = (&spec, &topology);
        self.world.hypervisor.block_on(|| async move { host.apply(spec, topology, watch).await }).unwrap()
    }

    pub fn apply(&self, text: &str) -> Outcome {
        self.try_apply(text, &mut Silent).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn plan(&self, text: &str) -> Result<Vec<Step>, HostError> {
        let (_, topology) = compile(text);
        let (host, topology) = (&self.host, &topology);
        self.world.hypervisor.block_on(|| async move { host.plan(topology).await }).unwrap()
    }

    /// The plan's commands.
    pub fn commands(&self, text: &str) -> Vec<String> {
        let steps = self.plan(text).unwrap_or_else(|error| panic!("{error}"));
        steps.iter().flat_map(Step::commands).collect()
    }

    pub fn down(&self) -> Outcome {
        let host = &self.host;
        let result = self.world.hypervisor.block_on(|| async move { host.down(&mut Silent).await }).unwrap();
        result.unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn status(&self) -> HostStatus {
        let root = &self.host.root;
        let result = self.world.hypervisor.block_on(|| async move { host::status(root).await }).unwrap();
        result.unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn audit(&self) -> host::Audit {
        let root = &self.host.root;
        let result = self.world.hypervisor.block_on(|| async move { host::audit(root).await }).unwrap();
        result.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Puts a guest on the port of the VM `name` of that spec.
    pub fn guest(&self, text: &str, name: &str) -> Guest {
        let (_, topology) = compile(text);
        let port = &topology.vm(name).unwrap_or_else(|| panic!("no VM {name}")).port;
        let guest = FakeGuest::attach(&self.world.hypervisor, port).unwrap();
        let services = guest.serve(name).unwrap();
        let v6 = port.v6.as_ref().map(|v6| v6.address.into());
        Guest { guest, v4: port.address.into(), v6, services }
    }

    /// Lets guests meet on their bridge, past the host, until the next apply:
    /// ports that are kept from each other anyway would hide a hole in the
    /// rules.
    pub fn meet_on_the_bridge(&self, vms: &[&str], bridges: &[&str]) {
        for name in vms {
            self.output("bridge", &["link", "set", "dev", &format!("vm-{name}"), "isolated", "off"]);
        }
        for bridge in bridges {
            for key in ["ipv4/conf/BR/proxy_arp_pvlan", "ipv6/conf/BR/proxy_ndp"] {
                let key = format!("net/{}", key.replace("BR", bridge));
                self.world.hypervisor.sysctl_set(&key, "0").unwrap();
            }
        }
    }

    /// What a program prints in the hypervisor's namespace.
    pub fn output(&self, program: &str, arguments: &[&str]) -> String {
        let output =
            self.world.hypervisor.run(|| std::process::Command::new(program).args(arguments).output());
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// As [`Lab::output`], by a line of words.
    pub fn run_line(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.output(words[0], &words[1..])
    }

    /// Runs the hostctl program in the hypervisor's namespace.
    pub fn hostctl(&self, arguments: &[&str]) -> std::process::Output {
        let root = self.root_dir();
        self.world.hypervisor.run(|| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hostctl"));
            command.arg("--root-dir").arg(root).args(arguments).output().unwrap()
        })
    }
}
