//! What does it cost to add one network, one VM or one policy to a host of N
//! networks, and does anybody else notice? The baseline is one start of nft
//! that does nothing. While the commands run, another guest of the host sends
//! numbered packets to the internet all the time.

mod stream;

use std::fs;
use std::path::PathBuf;

use super::harness::host::Host;
use super::harness::program::Program;
use super::harness::{Aim, Plot, Report, Sample, Series, Table, rounds, seconds, specs};
use stream::Stream;

const ROUNDS: usize = 5;
const SIZES: [usize; 3] = [5, 50, 1000];

/// What is added, as a drop-in.
const CHANGES: [(&str, &str); 3] = [
    ("a network", "[networks.added]\ncidr = \"172.16.0.0/24\"\n"),
    ("a VM", "[vms.added]\nnetwork = \"n00001\"\nimage = \"probe\"\nautostart = false\n"),
    (
        "a policy",
        "[policies.added]\ningress = [{ port = 80, protocol = \"tcp\" }]\n\
         [networks.n00002.subnets.default]\ncidr = \"10.0.2.0/24\"\npolicy = \"added\"\n",
    ),
];

pub fn ask() -> Report {
    let header = ["networks", "added", "time", "over one start of `nft`", "packets lost by another guest"];
    let title = format!(
        "`hostctl apply` of a drop-in that adds it; in brackets the middle half of {} rounds.",
        rounds(ROUNDS)
    );
    let mut table = Table::new(&title, &header);
    let mut times: Vec<Vec<(usize, Sample)>> = vec![Vec::new(); CHANGES.len()];
    let (mut lost, mut sent) = (0, 0);
    for networks in SIZES {
        let host = host_of(networks);
        let stream = Stream::start(&host, &specs::spec(networks, 1));
        for (index, (what, text)) in CHANGES.iter().enumerate() {
            let (mut nft, mut added) = (Sample::default(), Sample::default());
            let before = stream.lost();
            for _ in 0..rounds(ROUNDS) {
                nft.0.push(Program::new(["nft", "-f", "/dev/null"]).must(&host).seconds);
                let drop_in = drop_in(&host, text);
                added.0.push(host.hostctl(&["apply"]).must(&host).seconds);
                fs::remove_file(drop_in).unwrap();
                host.hostctl_output(&["apply"]);
            }
            let missing = stream.lost() - before;
            lost += missing;
            let over = added.over(&nft).to_string();
            table.row([
                networks.to_string(),
                (*what).to_string(),
                added.text(seconds),
                over,
                missing.to_string(),
            ]);
            times[index].push((networks, added));
        }
        sent += stream.end();
    }
    let mut aims =
        vec![Aim::new("no packet of another guest's is lost", format!("{lost} of {sent}"), lost == 0)];
    for ((what, _), found) in CHANGES.iter().zip(&times) {
        let (few, many) = (&found[0].1, &found[found.len() - 1].1);
        let ratio = many.median() / few.median();
        let wanted = format!("adding {what} takes as long at {} networks as at {}", SIZES[2], SIZES[0]);
        aims.push(Aim::new(&wanted, format!("{ratio:.1} × as long"), ratio <= 1.1));
    }
    let series = CHANGES.iter().zip(&times).map(|((what, _), found)| Series {
        name: format!("add {what}"),
        points: found.iter().map(|(networks, sample)| (*networks as f64, sample.median())).collect(),
    });
    Report {
        aims,
        tables: vec![table],
        plots: vec![Plot {
            file: "growth".into(),
            title: "Adding to a host of N networks".into(),
            x: "networks".into(),
            y: "seconds".into(),
            series: series.collect(),
        }],
    }
}

/// A host of so many networks, each with a VM's TAP.
fn host_of(networks: usize) -> Host {
    let host = Host::new();
    fs::create_dir_all(host.path().join("etc/hostctl")).unwrap();
    fs::create_dir_all(host.path().join("var/lib/hostctl/host.d")).unwrap();
    host.file("etc/hostctl/host.toml", &specs::spec(networks, 1));
    host.hostctl_output(&["apply"]);
    host
}

fn drop_in(host: &Host, text: &str) -> PathBuf {
    host.file("var/lib/hostctl/host.d/added.toml", text)
}
