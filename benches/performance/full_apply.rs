//! What does it cost to build a host of 1,000 networks with a VM's TAP each,
//! and to find that nothing is to be done? The floor is the same objects made
//! by five programs: one `nft -f`, two `ip -batch` (a family each), one `sysctl -p` and one
//! `bridge -batch`, all from what `hostctl plan` printed.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::harness::host::Host;
use super::harness::program::{Measured, Program};
use super::harness::{Aim, Extent, Report, Sample, Table, bytes, seconds, specs};

const NETWORKS: usize = 1000;

pub fn ask(extent: &Extent) -> Report {
    let (mut floor, mut apply, mut noop) = (Vec::new(), Vec::new(), Vec::new());
    let networks = extent.amount(NETWORKS, 3);
    let text = specs::spec(networks, 1);
    let rounds = extent.rounds(5);
    for round in 0..rounds {
        // Which one is first changes, and each begins with nothing.
        for contestant in [round % 2, (round + 1) % 2] {
            let host = Host::new();
            let spec = host.file("host.toml", &text);
            let spec = spec.to_str().unwrap();
            if contestant == 0 {
                floor.push(by_hand(&host, spec).must(&host));
            } else {
                apply.push(host.hostctl(&["apply", spec]).must(&host));
                noop.push(host.hostctl(&["apply", spec]).must(&host));
            }
            // Now, not in the background of the next round; the kernel takes
            // about 20 ms for each bridge (rcu_barrier in br_multicast_dev_del).
            host.output("ip", &["link", "del", "group", "26735"]);
        }
    }
    let header = ["", "time", "over the floor", "processor time", "over the floor", "peak memory"];
    let title = format!(
        "{networks} networks with a TAP each, both families; in brackets the middle half of {rounds} rounds."
    );
    let mut table = Table::new(&title, &header);
    let time = |found: &[Measured]| Sample(found.iter().map(|measured| measured.seconds).collect());
    let processor = |found: &[Measured]| Sample(found.iter().map(|measured| measured.processor).collect());
    for (name, found) in
        [("the floor, by hand", &floor), ("`hostctl apply`", &apply), ("`hostctl apply` again", &noop)]
    {
        let peak = Sample(found.iter().map(|measured| measured.peak_kib).collect());
        table.row([
            name.to_string(),
            time(found).text(seconds),
            time(found).over(&time(&floor)).to_string(),
            processor(found).text(seconds),
            processor(found).over(&processor(&floor)).to_string(),
            bytes(peak.median()),
        ]);
    }
    let (over, idle) = (time(&apply).over(&time(&floor)), time(&noop).over(&time(&floor)));
    Report {
        aims: vec![
            Aim::new("an apply at most 0.8 times the floor", over.to_string(), over.median() <= 0.8),
            Aim::new("a second apply at most 0.05 times the floor", idle.to_string(), idle.median() <= 0.05),
        ],
        tables: vec![table],
        plots: Vec::new(),
    }
}

/// The plan's own commands, sorted by the program that does them.
fn by_hand(host: &Host, spec: &str) -> Program {
    let plan: serde_json::Value =
        serde_json::from_str(&host.hostctl_output(&["--json", "plan", spec])).unwrap();
    let [mut ip, mut ip6, mut bridge, mut sysctl] = [const { String::new() }; 4];
    let steps =
        plan["steps"].as_array().unwrap().iter().flat_map(|step| step["commands"].as_array().unwrap());
    for command in steps.flat_map(|command| command.as_str().unwrap().split(" && ")) {
        match command.split_once(' ') {
            // A batch is of one family.
            Some(("ip", rest)) if rest.starts_with("-6 ") => writeln!(ip6, "{}", &rest[3..]).unwrap(),
            Some(("ip", rest)) => writeln!(ip, "{rest}").unwrap(),
            Some(("bridge", rest)) => writeln!(bridge, "{rest}").unwrap(),
            Some(("sysctl", rest)) => writeln!(sysctl, "{}", rest.strip_prefix("-w ").unwrap()).unwrap(),
            // The firewall, and what is tracked: nothing yet.
            _ => {}
        }
    }
    host.file("ruleset.nft", &host.hostctl_output(&["render", spec]));
    host.file("ip", &link_by_link(&ip));
    host.file("ip6", &ip6);
    host.file("bridge", &bridge);
    host.file("sysctl", &sysctl);
    let script = "cd \"$1\"; nft -f ruleset.nft && ip -batch ip && ip -6 -batch ip6 && \
        bridge -batch bridge && sysctl -q -p sysctl";
    Program::new(["sh", "-c", script, "sh", host.path().to_str().unwrap()])
}

/// The commands as somebody types them who makes one link after the other: a link
/// with its addresses, up, and then the next. hostctl's order is faster, and no
/// part of the floor.
fn link_by_link(commands: &str) -> String {
    let mut links: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lines: Vec<(usize, &str)> = Vec::new();
    for line in commands.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let after =
            |word: &str| words.iter().position(|found| *found == word).and_then(|at| words.get(at + 1));
        let link = match words.as_slice() {
            ["link", "add" | "set", name, ..] | ["tuntap", "add", name, ..] => Some(*name),
            ["address", ..] | ["link", "property", ..] => after("dev").copied(),
            _ => None,
        };
        let next = links.len();
        lines.push((link.map_or(usize::MAX, |link| *links.entry(link).or_insert(next)), line));
    }
    // What is of no one link comes last; the order of one link's stays.
    lines.sort_by_key(|(link, _)| *link);
    lines.iter().map(|(_, line)| format!("{line}\n")).collect()
}
