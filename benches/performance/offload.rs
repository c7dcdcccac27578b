//! What do a virtio header and its guard gain and cost? The bytes a second that a
//! real guest sends to the internet and takes from its host, and the processor
//! time that its QEMU needs for each, with a header and a guard, without a header,
//! and with a header that nobody judges.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::harness::host::Host;
use super::harness::{Aim, Extent, Report, Sample, Table, in_turn, specs};

const ROUNDS: usize = 7;
/// What is sent in a round, in MiB.
const MANY: usize = 96;

/// The guests, in this order.
const KINDS: [&str; 3] = ["a header and a guard", "no header", "a header that nobody judges"];

/// A host with guests; none outlives it.
struct Guests(Host);

impl Drop for Guests {
    fn drop(&mut self) {
        self.0.hostctl_output(&["down"]);
    }
}

pub fn ask(extent: &Extent) -> Report {
    let guests = guests();
    let host = &guests.0;
    let mebibytes = extent.amount(MANY, 8);
    let mut kinds: Vec<(usize, Sample)> = (0..KINDS.len()).map(|kind| (kind, Sample::default())).collect();
    let mut ask = |transfer: &dyn Fn(&Host, usize, usize) -> f64| {
        kinds.iter_mut().for_each(|(_, used)| *used = Sample::default());
        let rates = in_turn(extent.rounds(ROUNDS), &mut kinds, |(kind, used)| {
            let before = processor_time(host, *kind);
            let took = transfer(host, *kind, mebibytes);
            used.0.push((processor_time(host, *kind) - before) / mebibytes as f64);
            mebibytes as f64 / took
        });
        let used: Vec<Sample> = kinds.iter().map(|(_, used)| used.clone()).collect();
        (rates, used)
    };
    let (out, out_used) = ask(&sends);
    let (into, in_used) = ask(&takes);
    drop(guests);

    let mut table = Table::new(
        "MiB a second, and milliseconds of QEMU's processor time a MiB; TCG, one processor.",
        &["", "to the internet", "QEMU's time", "from the host", "QEMU's time"],
    );
    let rate = |sample: &Sample| sample.text(|value| format!("{value:.0}"));
    let time = |sample: &Sample| sample.text(|value| format!("{:.1}", value * 1e3));
    for (kind, name) in KINDS.iter().enumerate() {
        let cells = [rate(&out[kind]), time(&out_used[kind]), rate(&into[kind]), time(&in_used[kind])];
        table.row([(*name).to_string()].into_iter().chain(cells));
    }
    let at_least = |wanted: &str, sample: Sample, least: f64| {
        Aim::new(wanted, sample.to_string(), sample.median() >= least)
    };
    let used = out_used[0].over(&out_used[1]);
    Report {
        aims: vec![
            at_least("out, at least 2.2 times as fast as without a header", out[0].over(&out[1]), 2.2),
            at_least("in, at least 1.8 times as fast as without a header", into[0].over(&into[1]), 1.8),
            at_least("out, at least 0.95 of no guard", out[0].over(&out[2]), 0.95),
            at_least("in, at least 0.95 of no guard", into[0].over(&into[2]), 0.95),
            Aim::new("out, at most half of QEMU's time for a byte", used.to_string(), used.median() <= 0.5),
        ],
        tables: vec![table],
        plots: Vec::new(),
    }
}

fn vm(kind: usize) -> String {
    format!("vm{kind:05}")
}

/// A host with a guest of each kind, all up.
fn guests() -> Guests {
    let host = Host::new();
    fs::create_dir_all(host.path().join("etc/hostctl")).unwrap();
    fs::create_dir_all(host.path().join("var/lib/hostctl")).unwrap();
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/images");
    assert!(images.join("probe/image.json").exists(), "the probe image is missing: run make image");
    symlink(images, host.path().join("var/lib/hostctl/images")).unwrap();
    let spec = specs::spec(KINDS.len(), 1)
        .replace("image = \"probe\"", "image = \"probe\"\naccel = \"tcg\"\nmemory = \"128M\"")
        .replace("[vms.vm00001]\n", "[vms.vm00001]\noffload = false\n");
    host.file("etc/hostctl/host.toml", &spec);
    let guests = Guests(host);
    let host = &guests.0;
    host.hostctl_output(&["apply"]);
    for kind in 0..KINDS.len() {
        host.hostctl_output(&["vm", "up", &vm(kind)]);
        let shown = host.hostctl_output(&["vm", "show", &vm(kind)]);
        assert_eq!(shown.contains("offload    on"), kind != 1, "{shown}");
    }
    let port = format!("vm-{}", vm(2));
    host.output("tc", &["filter", "del", "dev", &port, "ingress", "prio", "1"]);
    host.output("nft", &["delete", "element", "bridge", "hostctl", "guarded", &format!("{{ \"{port}\" }}")]);
    guests
}

fn in_guest(host: &Host, kind: usize, command: &str) -> String {
    host.hostctl_output(&["vm", "exec", &vm(kind), "--", "sh", "-c", command])
}

/// From the guest to a server on the internet; seconds from its first byte to its
/// last.
fn sends(host: &Host, kind: usize, mebibytes: usize) -> f64 {
    let listener = host.beyond.run(|| TcpListener::bind("203.0.113.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut buffer, mut got, started) = (vec![0; 1 << 20], 0, Instant::now());
            loop {
                match stream.read(&mut buffer).unwrap() {
                    0 => break,
                    length => got += length,
                }
            }
            assert_eq!(got, mebibytes << 20);
            started.elapsed().as_secs_f64()
        });
        let blocks = mebibytes * 16;
        in_guest(
            host,
            kind,
            &format!("dd if=/dev/zero bs=65536 count={blocks} 2>/dev/null | nc 203.0.113.1 {port}"),
        );
        server.join().unwrap()
    })
}

/// From the host to the guest; seconds until it has taken all.
fn takes(host: &Host, kind: usize, mebibytes: usize) -> f64 {
    in_guest(
        host,
        kind,
        "[ -e /run/open ] || mkfifo /run/open; nc -l -p 9001 0<>/run/open >/dev/null 2>&1 & sleep 0.5",
    );
    let address = format!("10.0.{kind}.2:9001");
    host.run(|| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let (block, started) = (vec![0; 1 << 20], Instant::now());
        (0..mebibytes).for_each(|_| stream.write_all(&block).unwrap());
        stream.shutdown(Shutdown::Write).unwrap();
        // It closes once it has read the end.
        let _ = stream.read(&mut [0]);
        started.elapsed().as_secs_f64()
    })
}

/// Of a guest's QEMU, in seconds.
fn processor_time(host: &Host, kind: usize) -> f64 {
    let launch = host.path().join("run/hostctl/vms").join(vm(kind)).join("launch.json");
    let launch: serde_json::Value = serde_json::from_str(&fs::read_to_string(launch).unwrap()).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", launch["pid"])).unwrap();
    // After the name, which may have spaces: utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
