//! What does it cost to add one network, one VM or one policy to a host of N
//! networks, and does anybody else notice? The baseline is one start of nft
//! that does nothing. While the commands run, another guest of the host sends
//! numbered packets to the internet all the time.

mod stream;

use std::fs;

use super::harness::host::Host;
use super::harness::program::Program;
use super::harness::{Aim, Extent, Plot, Report, Sample, Series, Table, seconds, specs};
use stream::Stream;

const ROUNDS: usize = 5;
const SIZES: [usize; 3] = [5, 50, 1000];

/// The spec's file.
const SPEC: &str = "etc/hostctl/host.toml";

/// What is added to it.
const CHANGES: [(&str, &str); 3] = [
    ("a network", "[networks.added]\ncidr = \"172.16.0.0/24\"\n"),
    ("a VM", "[vms.added]\nnetwork = \"n00001\"\nimage = \"probe\"\nautostart = false\n"),
    (
        "a policy",
        "[policies.added]\ningress = [{ port = 80, protocol = \"tcp\" }]\n\
         [networks.n00002.subnets.default]\ncidr = \"10.0.2.0/24\"\ntype = \"public\"\npolicy = \"added\"\n",
    ),
];

pub fn ask(extent: &Extent) -> Report {
    let header = ["networks", "added", "time", "over one start of `nft`", "packets lost by another guest"];
    let title = format!(
        "`hostctl apply` once it is in the spec; in brackets the middle half of {} rounds.",
        extent.rounds(ROUNDS)
    );
    let mut table = Table::new(&title, &header);
    let mut times: Vec<Vec<(usize, Sample, Sample)>> = vec![Vec::new(); CHANGES.len()];
    let (mut lost, mut sent) = (0, 0);
    let sizes = extent.sizes(&SIZES);
    for &networks in &sizes {
        let spec = specs::spec(networks, 1);
        let host = host_of(&spec);
        let stream = Stream::start(&host, &spec);
        for (index, (what, text)) in CHANGES.iter().enumerate() {
            let (mut nft, mut added) = (Sample::default(), Sample::default());
            let before = stream.lost();
            for _ in 0..extent.rounds(ROUNDS) {
                nft.0.push(Program::new(["nft", "-f", "/dev/null"]).must(&host).seconds);
                host.file(SPEC, &format!("{spec}{text}"));
                added.0.push(host.hostctl(&["apply"]).must(&host).seconds);
                host.file(SPEC, &spec);
                host.hostctl_output(&["apply"]);
            }
            let missing = stream.lost() - before;
            lost += missing;
            let over = added.over(&nft);
            table.row([
                networks.to_string(),
                (*what).to_string(),
                added.text(seconds),
                over.to_string(),
                missing.to_string(),
            ]);
            times[index].push((networks, added, over));
        }
        sent += stream.end();
    }
    let mut aims =
        vec![Aim::new("no packet of another guest's is lost", format!("{lost} of {sent}"), lost == 0)];
    for ((what, _), found) in CHANGES.iter().zip(&times) {
        let (few, many) = (&found[0].1, &found[found.len() - 1].1);
        let ratio = many.median() / few.median();
        let wanted = format!(
            "adding {what} at {} networks takes at most 1.3 × as long as at {}",
            sizes[sizes.len() - 1],
            sizes[0]
        );
        aims.push(Aim::new(&wanted, format!("{ratio:.2} × as long"), ratio <= 1.3));
        let over = found[found.len() - 1].2.clone();
        let wanted = format!("and at most 2 × as long as one start of `nft` ({what})");
        aims.push(Aim::new(&wanted, over.to_string(), over.median() <= 2.0));
    }
    let series = CHANGES.iter().zip(&times).map(|((what, _), found)| Series {
        name: format!("add {what}"),
        points: found.iter().map(|(networks, sample, _)| (*networks as f64, sample.median())).collect(),
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

/// A host as `spec` says.
fn host_of(spec: &str) -> Host {
    let host = Host::new();
    fs::create_dir_all(host.path().join("etc/hostctl")).unwrap();
    host.file(SPEC, spec);
    host.hostctl_output(&["apply"]);
    host
}
