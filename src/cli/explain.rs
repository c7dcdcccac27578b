//! `hostctl explain`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hostctl::packet::Family;
use hostctl::reach::{
    Answer, Checkpoint, End, EndError, FamilyAnswer, Model, Outcome, Service, Stage, Verdict, Verdicts,
    Vicinity, alike, explain as answers,
};
use hostctl::spec::Checked;
use hostctl::topology::{Topology, Uplink};
use serde_json::{Value, json};

use super::spec::{SpecFile, load};
use super::terminal::{Tone, paint};
use super::{Context, Failure, line, output};

#[derive(Debug, Args)]
pub struct Explain {
    /// Who opens a flow: a guest, a network, a subnet (NETWORK/SUBNET), an
    /// address, host, internet or tailnet. Where a guest and a network are
    /// called the same, the guest is meant: vm:, namespace:, network: or subnet:
    /// before the name says otherwise.
    from: String,
    /// To whom: likewise, or imds.
    to: String,
    /// The host spec, TOML or JSON; default: /etc/hostctl/host.toml. Drop-ins of
    /// /var/lib/hostctl/host.d are merged into it.
    spec: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

/// Which packets are meant.
#[derive(Debug, Args)]
pub struct Which {
    /// The destination's port.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The protocol; icmp is a ping, by either family. Default with --port: tcp.
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,
    /// One family only.
    #[arg(long, value_parser = ["4", "6"])]
    family: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

pub fn explain(context: &Context, arguments: &Explain) -> Result<(), Failure> {
    let service = arguments.which.service()?;
    let checked = load(context, &SpecFile { spec: arguments.spec.clone() })?;
    let topology = &checked.compiled;
    let unclear = |error: EndError| Failure::other(error.to_string());
    let from = End::sender(topology, &arguments.from).map_err(unclear)?;
    let to = End::receiver(topology, &arguments.to).map_err(unclear)?;
    let families = arguments.which.families(&from, &to)?;
    let vicinity = Vicinity::assumed(topology);
    let found = answers(&Model::new(topology, &vicinity), &from, &to, &families, service);
    if context.json {
        let found: Vec<_> = found.iter().map(|answer| answer_json(&checked, answer)).collect();
        return output::json(&found);
    }
    match found.as_slice() {
        [] => line(format!("{} is {}: what it sends itself leaves it by no port", from.name, to.name))?,
        [one] => print_one(&checked, one)?,
        several => print_lines(several)?,
    }
    let leaves = found.iter().flat_map(|answer| &answer.families).flat_map(|answer| &answer.outcomes);
    let leaves =
        leaves.flat_map(|outcome| &outcome.judgement.way).any(|stage| stage.place == Checkpoint::Postrouting);
    if leaves && topology.uplink == Uplink::Auto {
        line("\nassumed: the default route leads by an uplink (host.uplink = \"auto\"), called uplink here")?;
    }
    if arguments.to == "host" && found.iter().any(|answer| has_gateway(topology, answer)) {
        line("\nof the host's other addresses a guest gets nothing")?;
    }
    Ok(())
}

fn has_gateway(topology: &Topology, answer: &Answer) -> bool {
    let gateway = |address: IpAddr| {
        let mut networks = topology.networks.iter();
        networks.any(|network| {
            IpAddr::V4(network.gateway) == address || network.gateway6.map(IpAddr::V6) == Some(address)
        })
    };
    answer.families.iter().any(|answer| gateway(answer.destination))
}

impl Which {
    /// Whether anything is said of it.
    pub fn is_some(&self) -> bool {
        self.port.is_some() || self.protocol.is_some() || self.family.is_some()
    }

    /// The service, where one is asked about.
    pub fn service(&self) -> Result<Option<Service>, Failure> {
        match (self.protocol, self.port) {
            (None, None) => Ok(None),
            (Some(Protocol::Icmp), None) => Ok(Some(Service::Ping)),
            (Some(Protocol::Icmp), Some(_)) => Err(Failure::other("icmp has no ports: leave --port out")),
            (Some(Protocol::Tcp) | None, Some(port)) => Ok(Some(Service::Tcp(port))),
            (Some(Protocol::Udp), Some(port)) => Ok(Some(Service::Udp(port))),
            (Some(_), None) => {
                Err(Failure::other("say which --port, or leave --protocol out to see all of them"))
            }
        }
    }

    /// The families that are asked about, and that both ends have.
    pub fn families(&self, from: &End<'_>, to: &End<'_>) -> Result<Vec<Family>, Failure> {
        self.families_of(&[from.family, to.family])
    }

    /// As [`Self::families`], of ends that are called by these families' addresses.
    pub fn families_of(&self, ends: &[Option<Family>]) -> Result<Vec<Family>, Failure> {
        let wanted = match self.family.as_deref() {
            Some("4") => Some(Family::V4),
            Some(_) => Some(Family::V6),
            None => None,
        };
        let mut families = Family::ALL.to_vec();
        for family in [wanted].iter().chain(ends).flatten() {
            families.retain(|other| other == family);
        }
        if families.is_empty() {
            return Err(Failure::other("an address of the one family sends nothing to one of the other"));
        }
        Ok(families)
    }
}

/// The ways of two ends' flows.
fn print_one(checked: &Checked<Topology>, answer: &Answer) -> Result<(), Failure> {
    line(format!("{} -> {}: {}", answer.from.join(", "), answer.to.join(", "), summary(answer)))?;
    let mut shown: Vec<(Vec<&FamilyAnswer>, &FamilyAnswer)> = Vec::new();
    for family in &answer.families {
        match shown.iter_mut().find(|(_, other)| alike(&other.outcomes, &family.outcomes)) {
            Some((alike, _)) => alike.push(family),
            None => shown.push((vec![family], family)),
        }
    }
    for (families, answer) in shown {
        let ends: Vec<String> =
            families.iter().map(|answer| format!("{} -> {}", answer.source, answer.destination)).collect();
        line(format!("{}\n", ends.join(" and ")))?;
        for (index, outcome) in answer.outcomes.iter().enumerate() {
            if let Some(services) = &outcome.services {
                let gap = if index == 0 { "" } else { "\n" };
                line(format!("{gap}{services}: {}", word(outcome.judgement.verdict)))?;
            }
            for stage in &outcome.judgement.way {
                let passes = if stage.passes { "pass".into() } else { paint("DROP", Tone::Bad) };
                let place = place(checked, stage).map(|place| format!("  ({place})")).unwrap_or_default();
                line(format!("  {:11}  {passes}  {}{place}", stage.place.as_str(), stage.what))?;
            }
        }
    }
    Ok(())
}

/// One line for ends that answer otherwise.
fn print_lines(answers: &[Answer]) -> Result<(), Failure> {
    let mut lines: Vec<(&Answer, Vec<String>, Vec<String>)> = Vec::new();
    for answer in answers {
        let same = |(other, from, _): &&mut (&Answer, Vec<String>, Vec<String>)| {
            other.verdicts() == answer.verdicts() && from == &answer.from
        };
        match lines.iter_mut().find(same) {
            Some((_, _, to)) => to.extend(answer.to.iter().cloned()),
            None => lines.push((answer, answer.from.clone(), answer.to.clone())),
        }
    }
    for (answer, from, to) in lines {
        line(format!("{} -> {}: {}", brief(&from), brief(&to), summary(answer)))?;
    }
    line("\nask about one of the pairs to see the way")
}

/// Names, without the end of a long list.
pub fn brief(names: &[String]) -> String {
    const MOST: usize = 8;
    let text = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

fn word(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allowed => paint("allowed", Tone::Good),
        Verdict::Dropped => paint("dropped", Tone::Bad),
        Verdict::Untouched => "hostctl has no say".into(),
    }
}

/// `allowed`, `dropped`, or which is which.
fn summary(answer: &Answer) -> String {
    let verdicts = answer.verdicts();
    let text = |verdicts: &Verdicts| match verdicts.as_slice() {
        [(verdict, _)] => word(*verdict),
        several => {
            let open = several.iter().filter(|(verdict, _)| *verdict != Verdict::Dropped);
            let open = open.map(|(verdict, services)| {
                let services = services.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{services} {}", word(*verdict))
            });
            format!("{}, the rest dropped", open.collect::<Vec<_>>().join(", "))
        }
    };
    let name = |family: Family| match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    match verdicts.as_slice() {
        [] => "dropped: not both have an address of the family".into(),
        [(_, one)] => text(one),
        [(_, a), (_, b)] if a == b => text(a),
        several => {
            let texts =
                several.iter().map(|(family, verdicts)| format!("{}: {}", name(*family), text(verdicts)));
            texts.collect::<Vec<_>>().join("; ")
        }
    }
}

/// Where the key is written that decided a stage.
pub fn place(checked: &Checked<Topology>, stage: &Stage) -> Option<String> {
    let key = stage.decided_by.as_ref()?;
    let place = checked.sources.line(&key.path(&checked.spec));
    Some(place.map_or("by default".into(), |(file, line)| format!("{}:{line}", file.display())))
}

fn answer_json(checked: &Checked<Topology>, answer: &Answer) -> Value {
    let stage = |stage: &Stage| {
        json!({
            "place": stage.place, "passes": stage.passes, "what": stage.what,
            "key": stage.decided_by.as_ref().map(|key| key.path(&checked.spec).to_string()),
            "written_at": place(checked, stage),
        })
    };
    let outcome = |outcome: &Outcome| {
        let judgement = &outcome.judgement;
        json!({
            "services": outcome.services, "verdict": judgement.verdict, "masqueraded": judgement.masqueraded,
            "way": judgement.way.iter().map(stage).collect::<Vec<_>>(),
        })
    };
    let family = |answer: &FamilyAnswer| {
        json!({
            "family": answer.family, "source": answer.source, "destination": answer.destination,
            "outcomes": answer.outcomes.iter().map(outcome).collect::<Vec<_>>(),
        })
    };
    json!({ "from": answer.from, "to": answer.to, "families": answer.families.iter().map(family).collect::<Vec<_>>() })
}
