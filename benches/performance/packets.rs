//! What does the firewall cost a packet, and does that grow with the number
//! of networks? A guest of the last of N networks writes 60-byte UDP frames
//! into its TAP, as QEMU would; they cross its bridge and the forward hook
//! and leave by another port, where they are counted. The kernel does all of
//! that within the write, so the processor time of the thread that writes is
//! what they cost, whatever else the machine does.
//!
//! Two ways: to a guest of a peered network (the baseline is connection
//! tracking in a namespace that has a nat chain, an empty one), and to the
//! internet (the baseline is connection tracking and a masquerade rule).
//!
//! `ROUNDS` and `SIZES` make it quicker. `AGAINST=PROGRAM` adds what another
//! build of hostctl renders, and `AGAINST=FILE.nft` a ruleset as it stands, for
//! the first of the sizes; several stand with colons between them.

mod path;

use super::harness::layouts::{self, Layout};
use super::harness::{Aim, Extent, Plot, Report, Sample, Series, Table, in_turn};
use path::{Path, Way};

const ROUNDS: usize = 31;
const SIZES: [usize; 5] = [5, 50, 300, 1000, 10_000];

/// The largest sizes that the other layouts are measured at; at more, a round
/// of theirs takes minutes.
const MATRIX_MOST: usize = 50;
const LINEAR_MOST: usize = 300;

const TRACKING: &str = "table inet tracking { chain forward {
    type filter hook forward priority filter; policy accept; ct state invalid drop; }\n}\n";
const EMPTY_NAT: &str = "table inet tracking { chain forward {
    type filter hook forward priority filter; policy accept; ct state invalid drop; }
    chain postrouting { type nat hook postrouting priority srcnat; policy accept; }\n}\n";
const MASQUERADING: &str = "table inet tracking { chain forward {
    type filter hook forward priority filter; policy accept; ct state invalid drop; }
    chain postrouting { type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.0.0.0/8 oifname \"uplink0\" masquerade; }\n}\n";

const NFT: [&str; 3] = ["nft", "-f", "-"];

/// A firewall on a path of its own.
struct Contestant {
    name: String,
    /// 0 where the number of networks means nothing.
    networks: usize,
    path: Path,
}

/// What a way is called, and the shares of its baseline's speed that packets
/// are to have: those that open a flow, and those of an established one.
struct Wanted {
    to: &'static str,
    baseline: &'static str,
    new: f64,
    established: f64,
}

const fn wanted(way: Way) -> Wanted {
    match way {
        Way::Peer => Wanted {
            to: "a peered network",
            baseline: "connection tracking and an empty nat chain",
            new: 0.90,
            established: 0.78,
        },
        Way::Internet => Wanted {
            to: "the internet",
            baseline: "connection tracking and masquerading",
            new: 0.80,
            established: 0.80,
        },
    }
}

pub fn ask(extent: &Extent) -> Report {
    let mut report = Report::default();
    for way in [Way::Peer, Way::Internet] {
        ask_way(extent, way, &mut report);
    }
    report
}

fn ask_way(extent: &Extent, way: Way, report: &mut Report) {
    let sizes = extent.sizes(&SIZES);
    let rounds = extent.rounds(ROUNDS);
    let mut contestants = baselines(way);
    for &networks in &sizes {
        let text = layouts::hostctl(&path::spec(networks));
        contestants.push(contestant(way, Layout::Hostctl.name(), networks, &text));
        // Neither the microVM host's file nor libvirt has peerings.
        for (layout, most) in
            [(Layout::Matrix, MATRIX_MOST), (Layout::Iptables, MATRIX_MOST), (Layout::Linear, LINEAR_MOST)]
        {
            if way == Way::Internet && networks <= most {
                let other = contestant(way, layout.name(), networks, "");
                other.path.load(layout.loader(), &layout.text(networks));
                contestants.push(other);
            }
        }
    }
    contestants.extend(others(way, &sizes));
    let new = in_turn(rounds, &mut contestants, |contestant| contestant.path.new_flows());
    let old = in_turn(rounds, &mut contestants, |contestant| contestant.path.one_flow());
    let header =
        ["firewall", "networks", "new flow", "of the baseline's speed", "flow", "of the baseline's speed"];
    let title = format!(
        "To {}, ns of processor time a frame; in brackets the middle half of {rounds} rounds.",
        wanted(way).to
    );
    let mut table = Table::new(&title, &header);
    for ((contestant, new_flow), one_flow) in contestants.iter().zip(&new).zip(&old) {
        let networks = if contestant.networks == 0 { "–".into() } else { contestant.networks.to_string() };
        table.row([
            contestant.name.clone(),
            networks,
            new_flow.text(nanoseconds),
            new[0].over(new_flow).to_string(),
            one_flow.text(nanoseconds),
            old[0].over(one_flow).to_string(),
        ]);
    }
    report.tables.push(table);
    aims(way, &sizes, &contestants, [&new, &old], report);
    report.plots.push(plot(way, &sizes, &contestants, &new));
}

/// The first is the one that all others are held against.
fn baselines(way: Way) -> Vec<Contestant> {
    let name = wanted(way).baseline;
    let again = format!("{name}, once more");
    let text = if way == Way::Peer { EMPTY_NAT } else { MASQUERADING };
    let mut found = vec![contestant(way, name, 0, text), contestant(way, &again, 0, text)];
    if way == Way::Peer {
        found.push(contestant(way, "connection tracking alone", 0, TRACKING));
        found.push(contestant(way, "no tables: plain forwarding", 0, ""));
    }
    found
}

/// What the environment says that hostctl is to be compared with.
fn others(way: Way, sizes: &[usize]) -> Vec<Contestant> {
    let against = std::env::var("AGAINST").unwrap_or_default();
    let mut found = Vec::new();
    for name in against.split(':').filter(|name| !name.is_empty()) {
        if name.ends_with(".nft") {
            let text = std::fs::read_to_string(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            found.push(contestant(way, name, sizes[0], &text));
            continue;
        }
        for &networks in sizes {
            let other = contestant(way, name, networks, "");
            other.path.load_of(name, networks);
            found.push(other);
        }
    }
    found
}

fn aims(
    way: Way,
    sizes: &[usize],
    contestants: &[Contestant],
    [new, old]: [&[Sample]; 2],
    report: &mut Report,
) {
    let Wanted { to, baseline, new: new_least, established: old_least } = wanted(way);
    let of = |networks: usize| {
        contestants.iter().position(|c| c.networks == networks && c.name == Layout::Hostctl.name()).unwrap()
    };
    let (least, most) = (sizes[0], sizes[sizes.len() - 1]);
    for (what, samples, share) in [("new flows", new, new_least), ("packets of a flow", old, old_least)] {
        let ratio = samples[0].over(&samples[of(most)]);
        let noise = samples[0].over(&samples[1]);
        let wanted = format!("to {to}: {what} at N = {most} at least {share:.2} of {baseline}");
        let measured = format!("{ratio}; the baseline against itself {noise}");
        report.aims.push(Aim::new(&wanted, measured, ratio.median() >= share));
        let ratio = samples[of(most)].over(&samples[of(least)]);
        let wanted = format!("to {to}: {what} at N = {most} within 5 % of N = {least}");
        report.aims.push(Aim::new(&wanted, ratio.to_string(), (ratio.median() - 1.0).abs() <= 0.05));
    }
}

fn plot(way: Way, sizes: &[usize], contestants: &[Contestant], new: &[Sample]) -> Plot {
    let name = if way == Way::Peer { "peer" } else { "internet" };
    let flat = new[0].median();
    let baseline = sizes.iter().map(|size| (*size as f64, flat)).collect();
    let mut series = vec![Series { name: contestants[0].name.clone(), points: baseline }];
    for layout in layouts::ALL {
        let own = contestants.iter().zip(new).filter(|(c, _)| c.networks > 0 && c.name == layout.name());
        let points: Vec<_> = own.map(|(c, sample)| (c.networks as f64, sample.median())).collect();
        if !points.is_empty() {
            series.push(Series { name: layout.name().into(), points });
        }
    }
    Plot {
        file: format!("new-flows-{name}"),
        title: format!("A frame that opens a flow to {}", wanted(way).to),
        x: "networks".into(),
        y: "ns a frame".into(),
        series,
    }
}

fn contestant(way: Way, name: &str, networks: usize, text: &str) -> Contestant {
    let path = Path::new(way, networks);
    if !text.is_empty() {
        path.load(&NFT, text);
    }
    Contestant { name: name.into(), networks, path }
}

fn nanoseconds(value: f64) -> String {
    format!("{value:.0}")
}
