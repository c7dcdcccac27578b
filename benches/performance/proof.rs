//! How long does it take to prove a host's rules for every packet, and how much
//! memory? The baseline is nft, which has to read the same firewall to say
//! whether it is one: `nft -c -f`.

use super::harness::host::Host;
use super::harness::program::{Measured, Program};
use super::harness::{Aim, Extent, Report, Sample, Table, bytes, in_turn, seconds, specs};

const ROUNDS: usize = 5;

/// Networks with one VM each, seconds and MiB that a proof should take.
const SIZES: [(usize, f64, f64); 3] = [(3, 0.1, 50.0), (50, 0.5, 100.0), (1000, 5.0, 300.0)];

pub fn ask(extent: &Extent) -> Report {
    let mut report = Report::default();
    let header = ["networks", "command", "time", "over `nft -c`", "peak memory"];
    let mut table = Table::new(
        &format!("One VM in each network; in brackets the middle half of {} rounds.", extent.rounds(ROUNDS)),
        &header,
    );
    let sizes = extent.sizes(&SIZES.map(|(networks, ..)| networks));
    for (networks, most_time, most_memory) in SIZES.into_iter().filter(|size| sizes.contains(&size.0)) {
        let host = Host::new();
        let spec = host.file("host.toml", &specs::spec(networks, 1));
        let spec = spec.to_str().unwrap();
        let text = host.file("ruleset.nft", &host.hostctl_output(&["render", spec]));
        let mut contestants = [
            ("nft -c", Program::new(["nft", "-c", "-f", text.to_str().unwrap()]), Vec::<Measured>::new()),
            ("prove", host.hostctl(&["prove", spec]), Vec::new()),
        ];
        let times = in_turn(extent.rounds(ROUNDS), &mut contestants, |(_, program, found)| {
            let measured = program.must(&host);
            found.push(measured);
            measured.seconds
        });
        for ((name, _, found), time) in contestants.iter().zip(&times) {
            let peak = Sample(found.iter().map(|measured| measured.peak_kib).collect()).median();
            table.row([
                networks.to_string(),
                format!("`{name}`"),
                time.text(seconds),
                time.over(&times[0]).to_string(),
                bytes(peak),
            ]);
            if *name == "prove" {
                let wanted = format!("{networks} networks proved in {most_time} s and {most_memory} MiB");
                let reached = time.median() <= most_time && peak <= most_memory * 1024.0;
                report.aims.push(Aim::new(
                    &wanted,
                    format!("{}, {}", time.text(seconds), bytes(peak)),
                    reached,
                ));
            }
        }
    }
    report.tables.push(table);
    report
}
