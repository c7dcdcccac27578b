//! How long does it take to load the firewall of N networks, and how much
//! memory does the program take that loads it?

use super::harness::host::Host;
use super::harness::layouts::{ALL, Layout};
use super::harness::program::{Measured, Program};
use super::harness::{Aim, Extent, Plot, Report, Sample, Series, Table, bytes, in_turn, seconds};

const ROUNDS: usize = 5;
const SIZES: [usize; 5] = [5, 50, 300, 1000, 10_000];
/// A load that takes longer, in seconds, is ended, and that layout has none
/// of the larger sizes.
const LIMIT: u32 = 90;
/// A load that takes longer is measured once.
const LONG: f64 = 5.0;
/// Rules that a file of is several GB long; they aren't tried.
const MOST_RULES: usize = 10_000_000;

/// A layout that still loads, and what it took, round by round.
struct Contestant {
    layout: Layout,
    program: Program,
    found: Vec<Measured>,
}

pub fn ask(extent: &Extent) -> Report {
    let header = ["networks", "layout", "time", "over hostctl's", "peak memory"];
    let title = format!(
        "In brackets the middle half of {} rounds; what took more than 5 s was loaded once.",
        extent.rounds(ROUNDS)
    );
    let mut table = Table::new(&title, &header);
    let mut lines: Vec<(Layout, Vec<(f64, f64)>)> = ALL.iter().map(|layout| (*layout, Vec::new())).collect();
    let mut lost: Vec<Layout> = Vec::new();
    for networks in extent.sizes(&SIZES) {
        let files = Host::new();
        let mut contestants = Vec::new();
        for layout in ALL.into_iter().filter(|layout| !lost.contains(layout)).collect::<Vec<_>>() {
            let pairs = matches!(layout, Layout::Matrix | Layout::Iptables);
            let name = layout.name().to_string();
            if pairs && networks * networks > MOST_RULES {
                let rules = format!("not tried: {} million rules", networks * networks / 1_000_000);
                table.row([networks.to_string(), name, rules, String::new(), String::new()]);
                continue;
            }
            let text = files.file(&format!("{layout:?}"), &layout.text(networks));
            let program = Program::new(layout.loader()).input(&text).limit(LIMIT);
            match program.run(&Host::new()) {
                Ok(first) => contestants.push(Contestant { layout, program, found: vec![first] }),
                Err(error) => {
                    lost.push(layout);
                    let why = error.trim().lines().next().unwrap_or_default().to_string();
                    table.row([networks.to_string(), name, why, String::new(), String::new()]);
                }
            }
        }
        measure(extent, &mut contestants);
        let times: Vec<Sample> = contestants
            .iter()
            .map(|contestant| Sample(contestant.found.iter().map(|found| found.seconds).collect()))
            .collect();
        for (contestant, time) in contestants.iter().zip(&times) {
            let peak = Sample(contestant.found.iter().map(|found| found.peak_kib).collect()).median();
            let name = contestant.layout.name().to_string();
            table.row([
                networks.to_string(),
                name,
                time.text(seconds),
                time.over(&times[0]).to_string(),
                bytes(peak),
            ]);
            let line = lines.iter_mut().find(|(layout, _)| *layout == contestant.layout).unwrap();
            line.1.push((networks as f64, time.median()));
        }
    }
    let hostctl = &lines[0].1;
    let (first, last) = (hostctl[0], hostctl[hostctl.len() - 1]);
    let growth = (last.1 / first.1) / (last.0 / first.0);
    let measured = format!(
        "{} for {} networks, {:.0} × that for {}",
        seconds(last.1),
        last.0,
        last.1 / first.1,
        first.0
    );
    let series = lines.into_iter().map(|(layout, points)| Series { name: layout.name().into(), points });
    Report {
        aims: vec![Aim::new("hostctl's load grows at most in step with N", measured, growth <= 1.0)],
        tables: vec![table],
        plots: vec![Plot {
            file: "ruleset-load".into(),
            title: "Loading the firewall of N networks".into(),
            x: "networks".into(),
            y: "seconds".into(),
            series: series.collect(),
        }],
    }
}

/// The rounds after the first one, each on a host of its own.
fn measure(extent: &Extent, contestants: &mut [Contestant]) {
    let mut short: Vec<&mut Contestant> =
        contestants.iter_mut().filter(|contestant| contestant.found[0].seconds < LONG).collect();
    for contestant in &mut short {
        // The first one filled the caches.
        contestant.found.clear();
    }
    in_turn(extent.rounds(ROUNDS), &mut short, |contestant| {
        let measured = contestant.program.must(&Host::new());
        contestant.found.push(measured);
        measured.seconds
    });
}
