//! How long do `check`, `render` and `plan` take for a spec of 10,000 VMs, and
//! how much memory? The baseline is nft, which has to read the same firewall
//! to say whether it is one: `nft -c -f`.

use super::harness::host::Host;
use super::harness::program::{Measured, Program};
use super::harness::{Aim, Extent, Report, Sample, Table, bytes, in_turn, seconds, specs};

const ROUNDS: usize = 5;

/// Networks, and VMs in each of them.
const SHAPES: [(usize, usize); 2] = [(100, 100), (10_000, 1)];

pub fn ask(extent: &Extent) -> Report {
    let mut report = Report::default();
    let header = ["networks × VMs each", "command", "time", "over `nft -c`", "peak memory"];
    let mut table = Table::new(
        &format!("An empty host; in brackets the middle half of {} rounds.", extent.rounds(ROUNDS)),
        &header,
    );
    let shapes = if extent.is_stage() { vec![(2, 2)] } else { SHAPES.to_vec() };
    for (networks, vms) in shapes {
        let host = Host::new();
        let spec = host.file("host.toml", &specs::spec(networks, vms));
        let spec = spec.to_str().unwrap();
        let text = host.file("ruleset.nft", &host.hostctl_output(&["render", spec]));
        let mut contestants = [
            ("nft -c", Program::new(["nft", "-c", "-f", text.to_str().unwrap()]), Vec::<Measured>::new()),
            ("check", host.hostctl(&["check", spec]), Vec::new()),
            ("render", host.hostctl(&["render", spec]), Vec::new()),
            ("plan", host.hostctl(&["plan", spec]), Vec::new()),
        ];
        let times = in_turn(extent.rounds(ROUNDS), &mut contestants, |(_, program, found)| {
            let measured = program.must(&host);
            found.push(measured);
            measured.seconds
        });
        for ((name, _, found), time) in contestants.iter().zip(&times) {
            let peak = Sample(found.iter().map(|measured| measured.peak_kib).collect());
            let shape = format!("{networks} × {vms}");
            let over = time.over(&times[0]);
            table.row([
                shape.clone(),
                format!("`{name}`"),
                time.text(seconds),
                over.to_string(),
                bytes(peak.median()),
            ]);
            if *name == "plan" {
                let wanted = format!("`plan` of {shape} VMs takes no longer than `nft -c` of the same");
                report.aims.push(Aim::new(&wanted, over.to_string(), over.median() <= 1.0));
            }
            if *name != "nft -c" {
                let wanted = format!("`{name}` of {shape} VMs in 0.5 s");
                report.aims.push(Aim::new(&wanted, time.text(seconds), time.median() < 0.5));
            }
        }
    }
    report.tables.push(table);
    report
}
