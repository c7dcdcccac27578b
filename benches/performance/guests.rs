//! What does hostctl add to a guest? The time from `vm up` to a served port,
//! against the same QEMU with the same arguments started by hand, and against a
//! guest that unpacks its kernel and that the host has to ask for first, as all had
//! to; the memory
//! of a VM's supervisor; the processor time of many idle ones. QEMU runs with
//! TCG, so that it is the same on every machine.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::harness::host::Host;
use super::harness::{Aim, Extent, Report, Sample, Table, bytes, in_turn, seconds, specs};

const ROUNDS: usize = 5;
/// Idle guests, where there is memory for them.
const MANY: usize = 50;
/// What a guest takes of the host's memory at most, in KiB.
const GUEST_KIB: f64 = 280_000.0;
/// How long processor time is counted.
const IDLE: Duration = Duration::from_secs(10);

/// A host with guests; none outlives it.
struct Guests(Host);

impl Drop for Guests {
    fn drop(&mut self) {
        self.0.hostctl_output(&["down"]);
    }
}

pub fn ask(extent: &Extent) -> Report {
    let guests = guests_of(2, &["probe", PACKED]);
    let host = &guests.0;
    // As it was before hostctl knew its guests' MACs.
    host.output("ip", &["neigh", "del", "10.0.1.2", "dev", "br-n00001"]);
    // What this machine's `accel` and page cache need is done once before.
    up(host, 1);
    down(host, 1);
    up(host, 0);
    let command = qemu_of(host);
    let one = Sample(supervisors(host).into_iter().map(pss).collect());
    down(host, 0);
    let mut contestants = [Start::Hostctl(0), Start::ByHand, Start::Hostctl(1)];
    let times = in_turn(extent.rounds(ROUNDS), &mut contestants, |start| match start {
        Start::Hostctl(index) => {
            let took = up(host, *index);
            down(host, *index);
            took
        }
        Start::ByHand => by_hand(host, &command),
    });
    drop(guests);
    let (over, packed) = (times[0].over(&times[1]), times[0].over(&times[2]));
    let title = format!(
        "From the start of the command to an answer of the guest's port 80; in brackets the middle half of {} rounds.",
        extent.rounds(ROUNDS)
    );
    let mut boots = Table::new(&title, &["", "time", "over by hand"]);
    boots.row(["`hostctl vm up`".into(), times[0].text(seconds), over.to_string()]);
    boots.row(["the same QEMU by hand".into(), times[1].text(seconds), "1".into()]);
    boots.row([
        "`hostctl vm up`, kernel and initrd packed, no permanent neighbour".into(),
        times[2].text(seconds),
        times[2].over(&times[1]).to_string(),
    ]);

    let count = extent.amount(MANY, 1).min((available_kib() * 0.8 / GUEST_KIB) as usize);
    let pause = if extent.is_stage() { Duration::from_millis(500) } else { IDLE };
    let idle = idle_supervisors(count, pause);
    let mut supervisors = Table::new(
        "Supervisors; their memory is the proportional set size.",
        &["", "memory of each", "processor time in 10 s, all together"],
    );
    supervisors.row(["one".into(), one.text(bytes), String::new()]);
    supervisors.row([format!("{count}, their guests idle"), idle.0.text(bytes), seconds(idle.1)]);
    let load = idle.1 / pause.as_secs_f64() * 100.0;
    Report {
        aims: vec![
            Aim::new(
                "`vm up` at most 0.8 of it with a packed kernel and no permanent neighbour",
                packed.to_string(),
                packed.median() <= 0.8,
            ),
            Aim::new("`vm up` within 5 % of QEMU by hand", over.to_string(), over.median() <= 1.05),
            Aim::new(
                &format!("of {count} supervisors each takes less than 5 MB"),
                format!(
                    "{}; {} where there is one, all of the program's own pages included",
                    bytes(idle.0.median()),
                    bytes(one.median())
                ),
                idle.0.median() < 5_000_000.0 / 1024.0,
            ),
            Aim::new(
                &format!("{count} idle supervisors take less than 1 % of a processor"),
                format!("{load:.2} %"),
                load < 1.0,
            ),
        ],
        tables: vec![boots, supervisors],
        plots: Vec::new(),
    }
}

/// An image whose kernel has to unpack itself and its initrd.
const PACKED: &str = "packed";

/// Who starts a guest.
enum Start {
    /// Hostctl, the VM with that number.
    Hostctl(usize),
    /// The first VM's QEMU.
    ByHand,
}

/// A host with so many VMs, which are down; each has one of these images.
fn guests_of(count: usize, images: &[&str]) -> Guests {
    let host = Host::new();
    fs::create_dir_all(host.path().join("etc/hostctl")).unwrap();
    fs::create_dir_all(host.path().join("var/lib/hostctl")).unwrap();
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/images/probe");
    assert!(built.join("image.json").exists(), "the probe image is missing: run make image");
    let own = host.path().join("var/lib/hostctl/images");
    fs::create_dir_all(own.join(PACKED)).unwrap();
    // Whatever the umask: a link counts where root alone can have placed it.
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    for file in ["vmlinuz", "initrd.img", "image.json"] {
        fs::copy(built.join(file), own.join(PACKED).join(file)).unwrap();
    }
    let description = own.join(PACKED).join("image.json");
    let mut packed: serde_json::Value = serde_json::from_slice(&fs::read(&description).unwrap()).unwrap();
    packed.as_object_mut().unwrap().remove("uncompressed").unwrap();
    fs::write(description, packed.to_string()).unwrap();
    symlink(built, own.join("probe")).unwrap();
    let mut spec = specs::spec(count, 1);
    for image in images.iter().cycle().take(count) {
        let words = format!("image = \"{image}\"\naccel = \"tcg\" \nmemory = \"128M\" ");
        spec = spec.replacen("image = \"probe\"\nautostart", &format!("{words}\nautostart"), 1);
    }
    host.file("etc/hostctl/host.toml", &spec);
    host.hostctl_output(&["apply"]);
    Guests(host)
}

fn vm(index: usize) -> String {
    format!("vm{index:05}")
}

/// Starts a VM; the time until it serves.
fn up(host: &Host, index: usize) -> f64 {
    let started = Instant::now();
    // It waits for the guest's agent, which comes after the port.
    thread::scope(|scope| {
        let command = scope.spawn(|| host.hostctl_output(&["vm", "up", &vm(index)]));
        let took = served(host, index, started);
        command.join().unwrap();
        took
    })
}

fn down(host: &Host, index: usize) {
    host.hostctl_output(&["vm", "down", &vm(index), "--timeout", "0"]);
}

/// Waits until the VM answers on port 80.
fn served(host: &Host, index: usize, started: Instant) -> f64 {
    let address: SocketAddr = format!("10.{}.{}.2:80", index >> 8, index & 255).parse().unwrap();
    host.run(|| {
        while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(180), "{address} serves nothing");
            thread::sleep(Duration::from_millis(5));
        }
    });
    started.elapsed().as_secs_f64()
}

/// Processes of this host whose command line has these words in a row.
fn processes(host: &Host, words: &[&str]) -> Vec<u32> {
    let root = host.path().to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = words_of(pid);
        let here = line.iter().any(|word| word == root);
        if here && line.windows(words.len()).any(|window| window == words) {
            found.push(pid);
        }
    }
    found
}

fn words_of(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    words.filter(|word| !word.is_empty()).collect()
}

fn supervisors(host: &Host) -> Vec<u32> {
    processes(host, &["vm", "run"])
}

/// The arguments of the first VM's QEMU, with names in the place of the
/// descriptors that hostctl hands it.
fn qemu_of(host: &Host) -> Vec<String> {
    let launch =
        fs::read_to_string(host.path().join("run/hostctl/vms").join(vm(0)).join("launch.json")).unwrap();
    let launch: serde_json::Value = serde_json::from_str(&launch).unwrap();
    let pid = launch["pid"].as_u64().unwrap() as u32;
    let named = |word: String| {
        if let Some(descriptor) = word.strip_prefix("/proc/self/fd/") {
            let target = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap();
            return target.to_str().unwrap().to_string();
        }
        let parts = word.split(',').map(|part| match part.split_once("fd=") {
            Some(("", _)) if word.starts_with("tap,") => {
                format!("ifname=vm-{},script=no,downscript=no", vm(0))
            }
            Some(("", number)) => format!("path={}", host.path().join(format!("{number}.sock")).display()),
            _ => part.to_string(),
        });
        parts.collect::<Vec<_>>().join(",")
    };
    words_of(pid).into_iter().map(named).collect()
}

/// Starts QEMU without hostctl; the time until the guest serves.
fn by_hand(host: &Host, command: &[String]) -> f64 {
    let started = Instant::now();
    let mut qemu: Child = host.run(|| {
        let mut process = Command::new(&command[0]);
        process.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    });
    let took = served(host, 0, started);
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    took
}

/// Memory of each supervisor in KiB, and the seconds of processor time that
/// all of them take while their guests are idle.
fn idle_supervisors(count: usize, pause: Duration) -> (Sample, f64) {
    let guests = guests_of(count, &["probe"]);
    for index in 0..count {
        up(&guests.0, index);
    }
    thread::sleep(pause);
    let supervisors = supervisors(&guests.0);
    assert_eq!(supervisors.len(), count);
    let spent = || supervisors.iter().map(|pid| processor_time(*pid)).sum::<f64>();
    let before = spent();
    thread::sleep(pause);
    let spent = spent() - before;
    (Sample(supervisors.into_iter().map(pss).collect()), spent)
}

/// Memory of its own, and its share of what it has in common (proc(5)), in
/// KiB.
fn pss(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// User and system time of a process in seconds (proc(5): fields 14 and 15,
/// in ticks of 1/100 s).
fn processor_time(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn available_kib() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
