//! What does the firewall cost a packet, and does that grow with the number
//! of networks? A guest of the last of N networks writes 60-byte UDP frames
//! into its TAP, as QEMU would; they cross its bridge and the forward hook
//! and leave by another port, where they are counted. The kernel does all of
//! that within the write, so one processor is measured and nothing queues.
//!
//! Two ways: to a guest of a peered network (no NAT; the baseline is
//! connection tracking alone), and to the internet (the baseline is
//! connection tracking and a masquerade rule alone).

mod path;

use super::harness::layouts::{self, Layout};
use super::harness::{Aim, Plot, Report, Sample, Series, Table, in_turn, rounds};
use path::{Path, Way};

const ROUNDS: usize = 31;
const SIZES: [usize; 5] = [5, 50, 300, 1000, 10_000];

/// The largest sizes that the other layouts are measured at; at more, a round
/// of theirs takes minutes.
const MATRIX_MOST: usize = 50;
const LINEAR_MOST: usize = 300;

const TRACKING: &str = "table inet tracking { chain forward {
    type filter hook forward priority filter; policy accept; ct state invalid drop; }\n}\n";
const MASQUERADING: &str = "table inet tracking { chain forward {
    type filter hook forward priority filter; policy accept; ct state invalid drop; }
    chain postrouting { type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.0.0.0/8 oifname \"uplink0\" masquerade; }\n}\n";

/// To see what the limits on guests' flows cost.
const UNLIMITED: &str = "hostctl's sets, without the limits on flows";

/// To see what the rules at the guest's port cost, which hold it to its
/// addresses.
const UNBRIDGED: &str = "hostctl's sets, without the rules at the port";

/// A firewall on a path of its own.
struct Contestant {
    name: String,
    /// 0 where the number of networks means nothing.
    networks: usize,
    path: Path,
}

pub fn ask() -> Report {
    let mut report = Report::default();
    for way in [Way::Peer, Way::Internet] {
        ask_way(way, &mut report);
    }
    report
}

fn ask_way(way: Way, report: &mut Report) {
    let baseline = if way == Way::Peer { TRACKING } else { MASQUERADING };
    let alone =
        if way == Way::Peer { "connection tracking alone" } else { "tracking and masquerading alone" };
    let mut contestants = vec![contestant(way, alone, 0, baseline), contestant(way, alone, 0, baseline)];
    contestants[1].name = format!("{alone}, once more");
    if way == Way::Peer {
        contestants.push(contestant(way, "no tables: plain forwarding", 0, ""));
    }
    for networks in SIZES {
        let text = layouts::hostctl(&path::spec(networks));
        contestants.push(contestant(way, Layout::Hostctl.name(), networks, &text));
        if networks == SIZES[SIZES.len() - 1] {
            let unlimited: Vec<&str> = text.lines().filter(|line| !line.contains("goto new_flow")).collect();
            contestants.push(contestant(way, UNLIMITED, networks, &unlimited.join("\n")));
            contestants.push(contestant(way, UNBRIDGED, networks, &without_bridge_table(&text)));
        }
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
    let new = in_turn(rounds(ROUNDS), &mut contestants, |contestant| contestant.path.new_flows());
    let old = in_turn(rounds(ROUNDS), &mut contestants, |contestant| contestant.path.one_flow());
    let to = if way == Way::Peer { "a peered network" } else { "the internet" };
    let header = [
        "firewall",
        "networks",
        "new flows a second",
        "over the baseline",
        "packets of a flow a second",
        "over the baseline",
    ];
    let mut table =
        Table::new(&format!("To {to}; in brackets the middle half of {} rounds.", rounds(ROUNDS)), &header);
    for ((contestant, new_flows), one_flow) in contestants.iter().zip(&new).zip(&old) {
        let networks = if contestant.networks == 0 { "–".into() } else { contestant.networks.to_string() };
        table.row([
            contestant.name.clone(),
            networks,
            new_flows.text(thousands),
            new_flows.over(&new[0]).to_string(),
            one_flow.text(thousands),
            one_flow.over(&old[0]).to_string(),
        ]);
    }
    report.tables.push(table);
    aims(to, alone, &contestants, &new, &old, report);
    report.plots.push(plot(way, &contestants, &new));
}

fn without_bridge_table(text: &str) -> String {
    // The first ones of that name declare and delete it.
    let (before, table) = text.rsplit_once("\ntable bridge hostctl {").unwrap();
    let (_, after) = table.split_once("\n}\n").unwrap();
    format!("{before}\n{after}")
}

fn aims(
    to: &str,
    alone: &str,
    contestants: &[Contestant],
    new: &[Sample],
    old: &[Sample],
    report: &mut Report,
) {
    let of = |networks: usize| {
        let found =
            contestants.iter().position(|c| c.networks == networks && c.name == Layout::Hostctl.name());
        found.unwrap()
    };
    let (few, many) = (of(SIZES[0]), of(SIZES[SIZES.len() - 1]));
    for (what, samples) in [("new flows", new), ("packets of a flow", old)] {
        let ratio = samples[many].over(&samples[few]);
        let wanted = format!("to {to}: {what} at N = 10,000 within 5 % of N = 5");
        report.aims.push(Aim::new(&wanted, ratio.to_string(), (ratio.median() - 1.0).abs() <= 0.05));
    }
    let ratio = new[many].over(&new[0]);
    let noise = new[1].over(&new[0]);
    let wanted = format!("to {to}: new flows at N = 10,000 at least 95 % of {alone}");
    let measured = format!("{ratio}; the baseline against itself {noise}");
    report.aims.push(Aim::new(&wanted, measured, ratio.median() >= 0.95));
}

fn plot(way: Way, contestants: &[Contestant], new: &[Sample]) -> Plot {
    let (name, to) =
        if way == Way::Peer { ("peer", "a peered network") } else { ("internet", "the internet") };
    let sizes = SIZES.map(|size| size as f64);
    let flat = new[0].median();
    let mut series =
        vec![Series { name: contestants[0].name.clone(), points: sizes.map(|size| (size, flat)).to_vec() }];
    for layout in layouts::ALL {
        let own = contestants.iter().zip(new).filter(|(c, _)| c.networks > 0 && c.name == layout.name());
        let points: Vec<_> = own.map(|(c, sample)| (c.networks as f64, sample.median())).collect();
        if !points.is_empty() {
            series.push(Series { name: layout.name().into(), points });
        }
    }
    Plot {
        file: format!("new-flows-{name}"),
        title: format!("New flows to {to}"),
        x: "networks".into(),
        y: "new flows a second".into(),
        series,
    }
}

fn contestant(way: Way, name: &str, networks: usize, text: &str) -> Contestant {
    let path = Path::new(way, networks);
    if !text.is_empty() {
        path.load(&["nft", "-f", "-"], text);
    }
    Contestant { name: name.into(), networks, path }
}

fn thousands(value: f64) -> String {
    format!("{:.0}k", value / 1e3)
}
