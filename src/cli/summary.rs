//! What steps came to, by the things that they were about.

use std::collections::BTreeMap;

use hostctl::host::Step;
use hostctl::link;

/// How many of a kind are named.
const NAMED: usize = 8;

/// Kinds of things, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Firewall,
    Flows,
    Bridges,
    Ports,
    Namespaces,
    Links,
    Vms,
    Apps,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Firewall => "firewall",
            Self::Flows => "flows",
            Self::Bridges => "bridges",
            Self::Ports => "ports",
            Self::Namespaces => "namespaces",
            Self::Links => "links",
            Self::Vms => "VMs",
            Self::Apps => "apps",
        }
    }
}

/// What became of a thing; of several, the last in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    Changed,
    Added,
    Loaded,
    Cut,
    Started,
    Stopped,
    Removed,
    Restarted,
}

impl Done {
    const fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Loaded => "loaded",
            Self::Cut => "ended where they are no longer allowed",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Removed => "removed",
            Self::Restarted => "restarted",
        }
    }

    fn and(self, later: Self) -> Self {
        match (self, later) {
            (Self::Stopped, Self::Started) => Self::Restarted,
            (Self::Removed, Self::Added) => Self::Changed,
            (one, other) => one.max(other),
        }
    }
}

/// A line for each kind of thing.
pub fn summary(steps: &[Step]) -> Vec<String> {
    let mut things: BTreeMap<(Kind, String), Done> = BTreeMap::new();
    for step in steps {
        let (kind, name, done) = about(step);
        let known = things.entry((kind, name)).or_insert(done);
        *known = known.and(done);
    }
    let mut lines: BTreeMap<Kind, BTreeMap<Done, Vec<&str>>> = BTreeMap::new();
    for ((kind, name), done) in &things {
        lines.entry(*kind).or_default().entry(*done).or_default().push(name);
    }
    let line = |(kind, done): (&Kind, &BTreeMap<Done, Vec<&str>>)| {
        let parts: Vec<String> = done.iter().map(|(done, names)| part(*done, names)).collect();
        format!("  {:10}  {}", kind.word(), parts.join("; "))
    };
    lines.iter().map(line).collect()
}

fn part(done: Done, names: &[&str]) -> String {
    let named: Vec<&str> = names.iter().copied().filter(|name| !name.is_empty()).collect();
    let word = done.word();
    match named.split_at_checked(NAMED) {
        _ if named.is_empty() => word.into(),
        Some((some, rest)) if !rest.is_empty() => {
            format!("{word} {} and {} more", some.join(", "), rest.len())
        }
        _ => format!("{word} {}", named.join(", ")),
    }
}

fn about(step: &Step) -> (Kind, String, Done) {
    match step {
        Step::StopVm { name, .. } => (Kind::Vms, name.to_string(), Done::Stopped),
        Step::StartVm { vm, .. } => (Kind::Vms, vm.name.to_string(), Done::Started),
        Step::EndStray { name, .. } => (Kind::Vms, name.clone(), Done::Stopped),
        Step::StopApp { name, gone, .. } => {
            (Kind::Apps, name.to_string(), if *gone { Done::Removed } else { Done::Stopped })
        }
        Step::StartApp { app } => (Kind::Apps, app.name.to_string(), Done::Started),
        Step::Evict { namespace } => (Kind::Namespaces, namespace.clone(), Done::Changed),
        Step::LoadFirewall { .. } => (Kind::Firewall, String::new(), Done::Loaded),
        Step::ChangeFirewall(_) => (Kind::Firewall, String::new(), Done::Changed),
        Step::RemoveFirewall => (Kind::Firewall, String::new(), Done::Removed),
        Step::ForgetMarks(_) => (Kind::Flows, String::new(), Done::Changed),
        Step::CutFlows(_) => (Kind::Flows, String::new(), Done::Cut),
        Step::KeepApart(_) => (Kind::Links, "routing rules".into(), Done::Changed),
        Step::Link(step) => link(step),
    }
}

fn link(step: &link::Step) -> (Kind, String, Done) {
    use link::Step;
    match step {
        Step::CreateBridge { name, .. } => (Kind::Bridges, name.clone(), Done::Added),
        Step::CreateTap { name, .. } | Step::CreateVeth { name, .. } => {
            (Kind::Ports, name.clone(), Done::Added)
        }
        Step::CreateNamespace { name, .. } => (Kind::Namespaces, name.clone(), Done::Added),
        Step::DeleteNamespace { name } => (Kind::Namespaces, name.clone(), Done::Removed),
        Step::Inside { namespace, .. } => (Kind::Namespaces, namespace.clone(), Done::Changed),
        Step::Delete { name } => (kind(name), name.clone(), Done::Removed),
        Step::AddRoute { name, .. }
        | Step::RemoveRoute { name, .. }
        | Step::AddProxy { name, .. }
        | Step::RemoveProxy { name, .. }
        | Step::AddNeighbour { name, .. }
        | Step::RemoveNeighbour { name, .. }
        | Step::Set { name, .. }
        | Step::AddAddress { name, .. }
        | Step::RemoveAddress { name, .. }
        | Step::AddFdb { name, .. }
        | Step::RemoveFdb { name, .. } => (kind(name), name.clone(), Done::Changed),
        // net/ipv4/conf/br-shop/forwarding
        Step::Sysctl(sysctl) => {
            let name = sysctl.key.split('/').nth(3).unwrap_or_default();
            (kind(name), name.into(), Done::Changed)
        }
    }
}

/// By the names that hostctl gives.
fn kind(name: &str) -> Kind {
    match name.split_once('-') {
        Some(("br", _)) => Kind::Bridges,
        Some(("vm" | "ns", _)) => Kind::Ports,
        _ => Kind::Links,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_by_what_they_are_about() {
        let name = |name: &str| name.to_string();
        let set = |of: &str| Step::Link(link::Step::Set { name: name(of), setting: link::Setting::Group });
        let mut steps = vec![
            Step::LoadFirewall { text: String::new(), reason: String::new() },
            Step::Link(link::Step::CreateTap { name: name("vm-web"), mac: None }),
            set("vm-web"),
            set("br-lab"),
            set("eth0"),
            Step::StopVm { name: hostctl::spec::Name::new("web").unwrap(), reason: String::new() },
            Step::Link(link::Step::Delete { name: name("br-old") }),
        ];
        assert_eq!(
            summary(&steps),
            [
                "  firewall    loaded",
                "  bridges     changed br-lab; removed br-old",
                "  ports       added vm-web",
                "  links       changed eth0",
                "  VMs         stopped web",
            ]
        );
        steps = (1..=10).map(|number| set(&format!("br-{number:02}"))).collect();
        assert_eq!(
            summary(&steps),
            ["  bridges     changed br-01, br-02, br-03, br-04, br-05, br-06, br-07, br-08 and 2 more"]
        );
        assert_eq!(Done::Stopped.and(Done::Started), Done::Restarted);
    }
}
