//! The world, the host in it, and the guests on the host.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostctl::host::{Host, HostError, Silent};
use hostctl::root_dir::RootDir;
use hostctl::spec::load_checked;
use hostctl::testbed::{Options, Service, World, address, usual_services};
use hostctl::topology::{self, Topology};
use hostctl::vm::{self, State};

use super::report::{headline, say};
use super::{Failure, proof};

/// Under TCG on two cores, five guests need some 10 s.
const BOOT: Duration = Duration::from_secs(240);

/// Everything that the demo sets up; a clone is the same stage.
#[derive(Clone)]
pub struct Stage(Arc<Inner>);

/// Where `examples`, `target/images` and the demo's own files are: the source
/// tree, or what a package names instead.
pub fn top() -> PathBuf {
    let named = std::env::var_os("HOSTCTL_DEMO_DIR").filter(|named| !named.is_empty());
    named.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

struct Inner {
    world: World,
    host: Host,
    spec: PathBuf,
    _services: Vec<Service>,
}

impl Stage {
    /// Makes the namespaces; removes what a killed demo may have left.
    pub fn new() -> Result<Self, Failure> {
        let top = top();
        let program = std::env::current_exe()?.with_file_name("hostctl");
        let directory = top.join("target/demo");
        let root = RootDir::new(&directory);
        for (pid, _) in vm::find_strays(&root)?.into_iter().chain(leftovers(&root)?) {
            vm::kill_stray(&root, pid)?;
        }
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::create_dir_all(root.state())?;
        std::os::unix::fs::symlink(top.join("target/images"), root.images())?;
        let world = World::new(Options::default())?;
        let services = usual_services(&world.hypervisor, "host")?;
        let host = Host { root, program };
        let spec = top.join("examples/five-networks.toml");
        Ok(Self(Arc::new(Inner { world, host, spec, _services: services })))
    }

    /// The namespaces around the host.
    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// Where hostctl keeps its files here.
    pub fn root(&self) -> &RootDir {
        &self.0.host.root
    }

    /// The hostctl program.
    pub fn program(&self) -> &Path {
        &self.0.host.program
    }

    /// The host spec that is shown.
    pub fn spec(&self) -> &Path {
        &self.0.spec
    }

    /// Shows everything; whether all packets did as expected.
    pub fn play(&self) -> Result<bool, Failure> {
        let spec = self.spec().to_string_lossy().into_owned();
        say(&format!(
            "One host ({} on uplink0, {} on tailscale0), an internet behind it ({}),\n\
             a cloud's metadata service ({}) and a laptop on the tailnet ({}),\n\
             each in a network namespace of its own. Nothing leaves this machine.",
            address::UPLINK,
            address::TAILSCALE,
            address::FAR,
            address::METADATA,
            address::LAPTOP
        ));
        headline("hostctl apply examples/five-networks.toml");
        let begun = Instant::now();
        self.hostctl(["apply", &spec])?;
        headline("five guests boot");
        let topology = self.topology()?;
        for guest in &topology.vms {
            let status = vm::wait_until(self.root(), &guest.name, &State::Ready, BOOT, |_| {})?;
            let accel = status.accel.map_or_else(String::new, |accel| accel.to_string());
            say(&format!("{} is ready after {:.1} s ({accel})", guest.name, begun.elapsed().as_secs_f64()));
        }
        headline("hostctl status");
        self.hostctl(["status"])?;
        headline("hostctl apply again");
        self.hostctl(["apply", &spec])?;
        let as_expected = proof::prove(self, &topology)?;
        headline("the firewall as the kernel lists it");
        self.run("nft", ["list", "table", "bridge", "hostctl"])?;
        self.run("nft", ["list", "table", "inet", "hostctl"])?;
        Ok(as_expected)
    }

    /// What the spec says.
    pub fn topology(&self) -> Result<Topology, Failure> {
        Ok(load_checked(Some(self.spec()), self.root(), topology::compile)?.compiled)
    }

    /// Runs hostctl on the host.
    pub fn hostctl<const N: usize>(&self, arguments: [&str; N]) -> Result<(), Failure> {
        let root = self.root().path().as_os_str();
        let prefix = [OsStr::new("--root-dir"), root].into_iter();
        self.execute(self.program().as_os_str(), prefix.chain(arguments.iter().map(OsStr::new)))
    }

    fn run<const N: usize>(&self, program: &str, arguments: [&str; N]) -> Result<(), Failure> {
        self.execute(OsStr::new(program), arguments.iter().map(OsStr::new))
    }

    /// Runs a program in the host's namespace. Its standard error is shown in
    /// its place among its output.
    fn execute<'a>(
        &self,
        program: &OsStr,
        arguments: impl Iterator<Item = &'a OsStr> + Send,
    ) -> Result<(), Failure> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        let output = self.world().hypervisor.try_run(|| command.output())??;
        for text in [&output.stderr, &output.stdout] {
            let text = String::from_utf8_lossy(text);
            if !text.trim().is_empty() {
                say(text.trim_end());
            }
        }
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{} ended with {}", program.to_string_lossy(), output.status).into())
    }

    /// Takes everything down, and looks that it is gone.
    pub fn strike(&self) -> Result<(), Failure> {
        headline("hostctl down");
        let host = &self.0.host;
        let deadline = Instant::now() + Duration::from_secs(30);
        let down = || self.world().hypervisor.block_on(|| async { host.down(&mut Silent).await });
        let outcome = loop {
            match down()? {
                // A Ctrl-C reaches a running apply as well, in a moment.
                Err(HostError::Locked(_)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                result => break result?,
            }
        };
        let left = self.world().hypervisor.block_on(|| async { host.removal().await })??;
        if !left.is_empty() {
            let left: Vec<String> = left.iter().map(ToString::to_string).collect();
            return Err(format!("still there:\n{}", left.join("\n")).into());
        }
        fs::remove_dir_all(self.root().path())?;
        say(&format!("{} steps; no guest, link, rule or file is left", outcome.steps.len()));
        Ok(())
    }
}

/// Guests that a killed demo left running.
fn leftovers(root: &RootDir) -> Result<Vec<(u32, String)>, Failure> {
    for guest in vm::observe(root)? {
        vm::stop(root, &guest.name, Duration::ZERO)?;
    }
    Ok(vm::find_strays(root)?)
}
