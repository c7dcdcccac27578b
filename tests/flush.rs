//! Another program's `nft flush ruleset`: what passes between networks then,
//! under each of the protections. `HOSTCTL_FLUSHES=100` is the measurement of
//! docs/firewall.md.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::support::lab::{Guest, Lab};
use crate::support::running_hostctl::{RunningHostctl, SOON};
use crate::support::spec_parts::{idle_vms, network, peering};
use hostctl::firewall::probe_guard;
use hostctl::testbed::{Connection, Netns, Options, Probe, Verdict, address};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

const SPEC: &str = concat!(network!("a" 1), network!("b" 2), idle_vms!("a1" in "a", "b1" in "b"),);

fn flushes() -> usize {
    std::env::var("HOSTCTL_FLUSHES").map_or(10, |text| text.parse().unwrap())
}

/// Packets from one guest to the other, 1,000 a second of each family, and how
/// many came out.
struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    arrived: [Arc<AtomicUsize>; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    fn start(from: &Guest, to: &Guest) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let arrived = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let bind = |netns: &Netns, address: IpAddr| netns.run(|| UdpSocket::bind((address, 0)).unwrap());
        let mut threads = Vec::new();
        let mut pairs: Vec<(UdpSocket, SocketAddr)> = Vec::new();
        let ways = [(from.v4, to.v4), (from.v6.unwrap(), to.v6.unwrap())];
        for ((source, target), count) in ways.into_iter().zip(&arrived) {
            let receiver = bind(to.netns(), target);
            receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            pairs.push((bind(from.netns(), source), receiver.local_addr().unwrap()));
            let (stop, count) = (stop.clone(), count.clone());
            threads.push(spawn(move || {
                while !stop.load(SeqCst) {
                    if receiver.recv(&mut [0; 64]).is_ok() {
                        count.fetch_add(1, SeqCst);
                    }
                }
            }));
        }
        let (ending, count) = (stop.clone(), sent.clone());
        threads.push(spawn(move || {
            let began = Instant::now();
            while !ending.load(SeqCst) {
                // Those that are due: a busy machine sends them late.
                let due = usize::try_from(began.elapsed().as_millis()).unwrap();
                while count.load(SeqCst) < due {
                    for (socket, target) in &pairs {
                        // Refused by a prohibit route is not sent either.
                        _ = socket.send_to(b"x", target);
                    }
                    count.fetch_add(1, SeqCst);
                }
                sleep(Duration::from_millis(1));
            }
        }));
        Self { stop, sent, arrived, threads }
    }

    /// How many arrived, of IPv4 and of IPv6.
    fn end(mut self) -> [usize; 2] {
        sleep(Duration::from_millis(200));
        self.stop.store(true, SeqCst);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        assert!(self.sent.load(SeqCst) > 100, "nothing was sent");
        self.arrived.map(|count| count.load(SeqCst))
    }
}

/// Holds the tables.
fn hold(lab: &Lab) -> RunningHostctl {
    let holder = RunningHostctl::start(lab, &["firewall", "hold"]);
    holder.event("holding");
    holder
}

fn tables(lab: &Lab) -> String {
    lab.output("nft", &["list", "tables"])
}

fn flush(lab: &Lab) {
    lab.output("nft", &["flush", "ruleset"]);
}

const BOTH: &str = "table bridge hostctl\ntable inet hostctl\n";

/// Whether this machine can hold tables; says so where it can't.
fn can_hold() -> bool {
    let result = probe_guard();
    if let Err(error) = &result {
        println!("SKIPPED: tables can't be held here: {error}");
    }
    result.is_ok()
}

#[test]
fn nothing_passes_while_a_holder_holds_the_tables() {
    if !can_hold() {
        return;
    }
    let lab = Lab::new(Options::default());
    let holder = hold(&lab);
    lab.apply(SPEC);
    let (a1, b1) = (lab.guest(SPEC, "a1"), lab.guest(SPEC, "b1"));
    let mut internet = Connection::open(a1.netns(), (address::FAR, 80).into(), SECOND).unwrap();
    let rules = lab.output("nft", &["list", "ruleset"]);
    assert_eq!(rules.matches("flags owner").count(), 2, "{rules}");

    let stream = Stream::start(&a1, &b1);
    for _ in 0..flushes() {
        flush(&lab);
        assert_eq!(tables(&lab), BOTH);
        sleep(Duration::from_millis(20));
    }
    // Also those who name them get nothing, and an apply goes on as ever.
    for command in
        ["delete table inet hostctl", "flush table bridge hostctl", "add rule inet hostctl forward accept"]
    {
        let words: Vec<&str> = command.split(' ').collect();
        let output = lab.world.hypervisor.run(|| Command::new("nft").args(&words).output()).unwrap();
        assert!(!output.status.success(), "{command}");
    }
    let wider = format!("{SPEC}\n[networks.c]\ncidr = \"10.3.0.0/24\"\n");
    let steps = lab.apply(&wider).steps;
    assert!(steps.iter().any(|step| step.to_string().contains("nft add element")), "{steps:?}");
    flush(&lab);
    lab.apply(SPEC);
    let arrived = stream.end();
    println!("held: {arrived:?} packets of 1,000/s through {} flushes", flushes());
    assert_eq!(arrived, [0, 0]);
    assert!(internet.still_alive(SECOND));
    assert_eq!(lab.status().drift, Vec::<String>::new());
    drop(holder);
    lab.down();
    assert_eq!(tables(&lab), "");
}

#[test]
fn tables_outlive_their_holder_and_the_next_one_adopts_them() {
    if !can_hold() {
        return;
    }
    let lab = Lab::new(Options::default());
    // Loaded before anybody holds them: the holder takes them over.
    lab.apply(SPEC);
    let holder = hold(&lab);
    holder.event("loaded");
    flush(&lab);
    assert_eq!(tables(&lab), BOTH);
    let (a1, b1) = (lab.guest(SPEC, "a1"), lab.guest(SPEC, "b1"));
    let stream = Stream::start(&a1, &b1);
    // By kill -9.
    drop(holder);
    assert_eq!(tables(&lab), BOTH);
    // Without a holder an apply works too, and leaves nothing that is nobody's.
    let wider = format!("{SPEC}\n[networks.c]\ncidr = \"10.3.0.0/24\"\n");
    lab.apply(&wider);
    assert_eq!(tables(&lab), BOTH);
    let holder = hold(&lab);
    flush(&lab);
    assert_eq!(tables(&lab), BOTH);
    assert_eq!(lab.status().drift, Vec::<String>::new());
    assert_eq!(stream.end(), [0, 0]);
    // Only one at a time.
    let second = lab.hostctl(&["firewall", "hold"]);
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("held already, by the process {}", holder.child.id())), "{said}");
    lab.down();
    assert_eq!(tables(&lab), "");
    // And nothing comes back that was taken down.
    sleep(SECOND);
    assert_eq!(tables(&lab), "");
    lab.apply(SPEC);
    flush(&lab);
    assert_eq!(tables(&lab), BOTH);
}

/// Tables that belong to somebody who doesn't answer aren't touched, and it is
/// said who that is.
#[test]
fn tables_of_another_holder_are_an_error() {
    if !can_hold() {
        return;
    }
    let lab = Lab::new(Options::default());
    let holder = hold(&lab);
    lab.apply(SPEC);
    std::fs::rename(lab.root_dir().join("run/hostctl/hold"), lab.root_dir().join("run/hostctl/away"))
        .unwrap();
    let wider = format!("{SPEC}\n[networks.c]\ncidr = \"10.3.0.0/24\"\n");
    let error = lab.try_apply(&wider, &mut hostctl::host::Silent).unwrap_err().to_string();
    assert!(error.contains(&format!("another process (netlink port {})", holder.child.id())), "{error}");
    assert_eq!(tables(&lab), BOTH);
    std::fs::rename(lab.root_dir().join("run/hostctl/away"), lab.root_dir().join("run/hostctl/hold"))
        .unwrap();
    lab.apply(&wider);
}

const PEERED: &str = concat!(peering!("a" and "c"), network!("c" 3), idle_vms!("a2" in "a", "c1" in "c"),);

fn reaches(from: &Guest, to: &Guest) -> [bool; 2] {
    [to.v4, to.v6.unwrap()].map(|address| {
        let probe = Probe::Udp(SocketAddr::new(address, 7));
        matches!(hostctl::testbed::probe(from.netns(), probe, SECOND), Verdict::Allowed { .. })
    })
}

/// Where nobody holds the tables, and before they are back.
#[test]
fn networks_stay_apart_by_routes_and_what_is_allowed_goes_on() {
    let lab = Lab::new(Options::default());
    let spec = format!("{SPEC}{PEERED}");
    lab.apply(&spec);
    let [a1, a2, b1, c1] = ["a1", "a2", "b1", "c1"].map(|name| lab.guest(&spec, name));
    // Strict or loose, the way back is found too.
    for mode in ["0", "1", "2"] {
        for link in ["br-a", "br-b", "br-c", "uplink0"] {
            lab.world.hypervisor.sysctl_set(&format!("net/ipv4/conf/{link}/rp_filter"), mode).unwrap();
        }
        lab.apply(&spec);
        let drops = lab.output("nft", &["reset", "counters"]);
        assert_eq!(reaches(&a1, &b1), [false, false], "{drops}");
        // It is the firewall that drops while it is there, and counts it.
        let forward = lab.output("nft", &["list", "chain", "inet", "hostctl", "drop_forward"]);
        let counted = forward.lines().find(|line| line.contains("counter")).unwrap();
        assert!(!counted.contains("packets 0 "), "rp_filter={mode}: {forward}");
        assert_eq!(reaches(&a1, &c1), [true, true], "rp_filter={mode}");
        flush(&lab);
        assert_eq!(tables(&lab), "");
        for (from, to) in [(&a1, &b1), (&b1, &a1), (&b1, &c1), (&c1, &b1)] {
            assert_eq!(reaches(from, to), [false, false], "rp_filter={mode}");
        }
        for (from, to) in [(&a1, &c1), (&c1, &a1), (&a1, &a2), (&a2, &a1)] {
            assert_eq!(reaches(from, to), [true, true], "rp_filter={mode}");
        }
        // The host to a guest, and a guest out: nobody masquerades it meanwhile.
        for address in [b1.v4, b1.v6.unwrap()] {
            let probe = Probe::Udp(SocketAddr::new(address, 7));
            let verdict = hostctl::testbed::probe(&lab.world.hypervisor, probe, SECOND);
            assert!(matches!(verdict, Verdict::Allowed { .. }), "{verdict:?}");
        }
        for to in ["198.51.100.1", "203.0.113.1"] {
            let way = lab.output("ip", &["route", "get", to, "from", "10.1.0.2", "iif", "br-a"]);
            assert!(way.contains("uplink0"), "{way}");
        }
    }
    let stream = Stream::start(&a1, &b1);
    for _ in 0..flushes() {
        lab.apply(&spec);
        flush(&lab);
        sleep(Duration::from_millis(20));
    }
    let arrived = stream.end();
    println!("by routes: {arrived:?} packets of 1,000/s through {} flushes", flushes());
    // What the firewall had marked, and was on its way when it went.
    assert!(arrived.iter().all(|count| *count <= flushes()), "{arrived:?}");
}

#[test]
fn the_routes_are_part_of_what_is_planned_repaired_and_taken_down() {
    let lab = Lab::new(Options::default());
    let before = ["-4", "-6"].map(|family| lab.output("ip", &[family, "rule"]));
    let spec = format!("{SPEC}{PEERED}");
    lab.apply(&spec);
    let rules = lab.output("ip", &["rule"]);
    assert!(rules.contains("from all to 10.3.0.0/24 iif br-a goto 2679"), "{rules}");
    assert!(!rules.contains("from all to 10.2.0.0/24 iif br-a"), "{rules}");
    // Somebody else's, of the same priority, is theirs.
    lab.output("ip", &["rule", "add", "pref", "2672", "iif", "br-a", "lookup", "77"]);
    assert_eq!(lab.commands(&spec), Vec::<String>::new());
    lab.output("ip", &["rule", "del", "pref", "2673"]);
    lab.output("ip", &["-6", "route", "del", "prohibit", "fd00:0:0:2::/64", "table", "26735"]);
    let audit = lab.audit();
    let finding =
        audit.findings.iter().find(|finding| finding.object == "routing rules of hostctl's").unwrap();
    assert_eq!(
        finding.commands,
        ["ip -6 route add prohibit fd00:0:0:2::/64 table 26735", "ip rule add pref 2673 lookup 26735"]
    );
    lab.apply(&spec);
    assert_eq!(lab.status().drift, Vec::<String>::new());
    let commands = lab.commands(SPEC);
    assert!(
        commands.contains(&"ip rule del pref 2672 iif br-a to 10.3.0.0/24 goto 2679".into()),
        "{commands:?}"
    );
    lab.output("ip", &["rule", "del", "pref", "2672", "iif", "br-a", "lookup", "77"]);
    lab.down();
    assert_eq!(["-4", "-6"].map(|family| lab.output("ip", &[family, "rule"])), before);
    for family in ["-4", "-6"] {
        let routes = lab
            .world
            .hypervisor
            .run(|| Command::new("ip").args([family, "route", "show", "table", "26735"]).output().unwrap());
        assert_eq!(String::from_utf8_lossy(&routes.stdout), "", "{routes:?}");
    }
}

/// Whoever watches puts the tables back at once, however often, while others
/// make transactions of their own and an audit is under way.
#[test]
fn a_watch_puts_the_tables_back_without_a_stall() {
    let lab = Lab::new(Options::default());
    lab.apply(SPEC);
    let (a1, b1) = (lab.guest(SPEC, "a1"), lab.guest(SPEC, "b1"));
    // The watch alone: somebody's rule leads past those that keep networks apart.
    for family in ["-4", "-6"] {
        lab.output("ip", &[family, "rule", "add", "pref", "2000", "iif", "br-a", "lookup", "main"]);
    }
    let watching = RunningHostctl::start(&lab, &["audit", "--watch", "--repair", "--interval", "10min"]);
    watching.event("watching");
    assert!(lab.status().firewall.flush.watched);
    let stop = Arc::new(AtomicBool::new(false));
    let busy = lab.world.hypervisor.try_run(|| {
        let stop = stop.clone();
        Ok::<_, std::io::Error>(spawn(move || {
            // Docker and fail2ban do so all day.
            for number in 0.. {
                if stop.load(SeqCst) {
                    return;
                }
                let verb = if number % 2 == 0 { "add" } else { "delete" };
                _ = Command::new("nft").args([verb, "table", "inet", "busy"]).output();
                sleep(Duration::from_millis(30));
            }
        }))
    });
    let busy = busy.unwrap().unwrap();
    let stream = Stream::start(&a1, &b1);
    let mut took = Vec::new();
    for _ in 0..flushes() {
        let began = Instant::now();
        flush(&lab);
        while !tables(&lab).contains(BOTH.split_once('\n').unwrap().0)
            || !tables(&lab).contains("inet hostctl")
        {
            assert!(
                began.elapsed() < SOON,
                "not put back: {:#?}",
                watching.news.try_iter().collect::<Vec<_>>()
            );
            sleep(Duration::from_millis(1));
        }
        took.push(began.elapsed());
    }
    let arrived = stream.end();
    stop.store(true, SeqCst);
    busy.join().unwrap();
    took.sort();
    let said: Vec<Value> = watching.news.try_iter().collect();
    println!(
        "watch alone: {arrived:?} packets of 1,000/s through {} flushes; put back after {:?}, at most {:?}",
        flushes(),
        took[took.len() / 2],
        took.last().unwrap()
    );
    // It stalled for 5 and for 15 s: an audit that met a flush waited for the next
    // interval, and each repair for longer than the last.
    assert!(took.last().unwrap() < &Duration::from_secs(4), "{took:?}; it said {said:#?}");
    assert!(said.iter().any(|news| news["event"] == "repaired"), "{said:#?}");
}
