//! What the host is, beside what was applied.

use std::net::IpAddr;

use serde::Serialize;

use crate::firewall::Listing;
use crate::link::Desired;
use crate::root_dir::RootDir;
use crate::topology::{self, IfName, Name, Network, Port, Topology};
use crate::vm;

use crate::host::apply::current::Current;
use crate::host::apply::goal::goal;
use crate::host::apply::plan::plan;
use crate::host::confirm::unconfirmed::{self, Due, Record, Unconfirmed};
use crate::host::confirm::watchdog;
use crate::host::kept::{drop_in, generation};
use crate::host::rollback::files;
use crate::host::{Files, FlushProtection, Generation, HostError, Step, observe_listed};
use crate::spec::load;

/// The state of a host.
#[derive(Debug, Clone, Serialize)]
pub struct HostStatus {
    /// The number of the generation that was applied last.
    pub generation: Option<u64>,
    /// When that was, in seconds since 1970-01-01 UTC.
    pub applied_at: Option<u64>,
    /// The interfaces that lead to the internet.
    pub uplinks: Vec<String>,
    /// Networks, by name.
    pub networks: Vec<NetworkStatus>,
    /// Guests, by name.
    pub guests: Vec<GuestStatus>,
    /// Subnets' namespaces, by name.
    pub namespaces: Vec<NamespaceStatus>,
    /// Apps, by namespace and name.
    pub apps: Vec<AppStatus>,
    /// The firewall.
    pub firewall: FirewallStatus,
    /// The commands that would bring the host back to what was applied; empty
    /// where nothing has drifted.
    pub drift: Vec<String>,
    /// Hostctl's links that no network or guest accounts for.
    pub strays: Vec<String>,
    /// The confirmation that is waited for, where one is.
    pub unconfirmed: Option<Unconfirmed>,
    /// What an operator should know besides.
    pub notes: Vec<String>,
}

/// The state of the firewall.
#[derive(Debug, Clone, Serialize)]
pub struct FirewallStatus {
    /// Whether hostctl's tables are loaded.
    pub loaded: bool,
    /// How many rules they have.
    pub rules: usize,
    /// How many elements their sets have.
    pub elements: usize,
    /// What guards it against another program's flush of all tables.
    pub flush: FlushProtection,
}

/// The state of a network.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkStatus {
    /// Its name.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// Whether the bridge is there and up.
    pub up: bool,
    /// The addresses that the bridge has.
    pub addresses: Vec<String>,
    /// How many guests it has in the spec.
    pub guests: usize,
    /// The interfaces that its public subnets go out by.
    pub nat: Vec<String>,
    /// The networks that it is peered with.
    pub peers: Vec<String>,
}

/// The state of a subnet's namespace.
#[derive(Debug, Clone, Serialize)]
pub struct NamespaceStatus {
    /// Its name, as `ip netns` knows it.
    pub name: String,
    /// The host's end of its veth pair.
    pub interface: String,
    /// Whether the namespace is there, and both ends are up.
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<String>,
}

/// The state of an app.
#[derive(Debug, Clone, Serialize)]
pub struct AppStatus {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its state: `running`, `stopped`, `failed: …`
    pub state: String,
}

/// The state of a guest.
#[derive(Debug, Clone, Serialize)]
pub struct GuestStatus {
    /// Its name.
    pub name: String,
    /// Its network.
    pub network: Option<String>,
    /// Its interface on the host.
    pub interface: Option<String>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its state: `running`, `ready`, `stopped`, …
    pub state: String,
    /// Its QEMU's process.
    pub pid: Option<u32>,
    /// How often it was started again after a crash.
    pub restarts: u32,
    /// What is wrong with it.
    pub trouble: Option<vm::Trouble>,
    /// What waits for its next start, by key.
    pub pending: Vec<vm::Pending>,
}

/// Reads the state of the host.
///
/// # Errors
/// Where the kernel or nft doesn't answer, or the last generation can't be
/// read.
pub async fn status(root: &RootDir) -> Result<HostStatus, HostError> {
    let (last, unreadable) = generation::newest_readable(root)?;
    let topology = last.as_ref().and_then(|last| last.compile().ok());
    let applied = topology.is_some();
    let topology = topology.unwrap_or_else(Topology::empty);
    let current = observe_listed(root, &topology).await?;
    let listing = current.firewall.listing();
    // What was taken down is down.
    let down = topology.networks.is_empty() && current.firewall.is_empty();
    let drift = if applied && !down { drift(&topology, &current)? } else { Vec::new() };
    let known = |name: &str| {
        topology.networks.iter().any(|network| network.bridge.as_str() == name)
            || topology.ports().any(|port| port.interface.as_str() == name)
    };
    Ok(HostStatus {
        generation: last.as_ref().map(|last| last.number),
        applied_at: last.as_ref().map(|last| last.applied_at),
        uplinks: current.surroundings.uplinks.iter().map(ToString::to_string).collect(),
        networks: topology
            .networks
            .iter()
            .map(|network| network_status(network, &topology, &current))
            .collect(),
        guests: guests_of(root, &topology)?,
        namespaces: topology.namespaces.iter().map(|one| namespace_status(one, &current)).collect(),
        apps: topology.apps.iter().map(|app| app_status(app, &current)).collect(),
        firewall: FirewallStatus {
            loaded: !current.firewall.is_empty(),
            rules: listing.map_or(0, Listing::rules),
            elements: listing.map_or(0, Listing::elements),
            flush: FlushProtection::of(
                root,
                &Desired::new(&topology, &current.surroundings.uplinks),
                &current.links,
            ),
        },
        drift,
        unconfirmed: unconfirmed::unconfirmed(root)?,
        notes: notes(root, last.as_ref(), &unreadable)?,
        strays: current.links.ours().map(|(name, _)| name.clone()).filter(|name| !known(name)).collect(),
    })
}

fn notes(
    root: &RootDir,
    last: Option<&Generation>,
    unreadable: &[HostError],
) -> Result<Vec<String>, HostError> {
    let mut notes: Vec<String> = unreadable.iter().map(ToString::to_string).collect();
    if let Some(command) = drop_in::unfinished(root) {
        let note = "a command was killed before it was done, and the next one takes back what it wrote";
        notes.push(format!("{note}: {command}"));
    }
    match unconfirmed::read(root)? {
        Some(Record::Waiting(waiting)) => {
            if watchdog::pid(root).is_none() {
                let note = "no process waits for the confirmation any more";
                let then = match waiting.due() {
                    Due::Now => "the time is over: hostctl apply returns to what was confirmed last",
                    Due::In(_) => "once the time is over, hostctl apply returns to what was confirmed last",
                };
                notes.push(format!("{note}; {then}"));
            }
        }
        Some(Record::Rejected { generation, spec })
            if load(None, root).is_ok_and(|loaded| loaded.spec == *spec) =>
        {
            notes.push(HostError::Rejected { generation }.to_string());
        }
        // Whoever edits a file knows; after a rollback it is easily forgotten.
        _ => {
            if let Some(last) = last.filter(|last| last.from.is_some())
                && let (Files::Differ(changes), _) = files(root, last)
            {
                let note = "the host was rolled back and the spec's files still say otherwise; \
                            hostctl apply does what they say";
                notes.push(format!("{note}: {}", changes.join(", ")));
            }
        }
    }
    Ok(notes)
}

fn drift(topology: &Topology, current: &Current) -> Result<Vec<String>, HostError> {
    let steps = plan(&goal(topology, current, None)?, current);
    // A guest that isn't running is a state of its own, shown as such.
    let started = |step: &&Step| matches!(step, Step::StartVm { .. } | Step::StartApp { .. });
    let drifted = steps.iter().filter(|step| !started(step));
    Ok(drifted.map(ToString::to_string).collect())
}

fn namespace_status(namespace: &topology::Namespace, current: &Current) -> NamespaceStatus {
    let port = &namespace.port;
    let outside = current.links.links.get(port.interface.as_str());
    let inside =
        current.links.namespaces.get(namespace.name.as_str()).and_then(|inside| inside.link.as_ref());
    NamespaceStatus {
        name: namespace.name.to_string(),
        interface: port.interface.to_string(),
        up: outside.is_some_and(|link| link.up) && inside.is_some_and(|link| link.up),
        addresses: inside.into_iter().flat_map(|link| &link.addresses).map(ToString::to_string).collect(),
    }
}

fn app_status(app: &topology::App, current: &Current) -> AppStatus {
    let same =
        |seen: &&crate::host::SeenApp| seen.seen.name == app.name && seen.seen.namespace == app.namespace;
    let seen = current.apps.iter().find(same);
    AppStatus {
        name: app.name.to_string(),
        namespace: app.namespace.to_string(),
        state: seen.map_or_else(|| "stopped".into(), |seen| seen.seen.state()),
    }
}

fn network_status(network: &Network, topology: &Topology, current: &Current) -> NetworkStatus {
    let link = current.links.links.get(network.bridge.as_str()).filter(|link| link.is_ours());
    NetworkStatus {
        name: network.name.to_string(),
        bridge: network.bridge.to_string(),
        up: link.is_some_and(|link| link.up),
        addresses: link.into_iter().flat_map(|link| &link.addresses).map(ToString::to_string).collect(),
        guests: topology.ports().filter(|port| port.network == network.name).count(),
        nat: network.exits(&current.surroundings.uplinks).iter().map(ToString::to_string).collect(),
        peers: topology
            .networks
            .iter()
            .filter(|other| other.name != network.name && topology.connected(&network.name, &other.name))
            .map(|other| other.name.to_string())
            .collect(),
    }
}

/// The guests of what was applied last, and any others that run.
///
/// # Errors
/// Where the last generation can't be read.
pub fn guests(root: &RootDir) -> Result<Vec<GuestStatus>, HostError> {
    let (last, _) = generation::newest_readable(root)?;
    let topology = last.as_ref().and_then(|last| last.compile().ok());
    guests_of(root, &topology.unwrap_or_else(Topology::empty))
}

/// Where a guest is attached, as far as that is known.
#[derive(Default)]
struct Attachment {
    network: Option<Name>,
    interface: Option<IfName>,
    addresses: Vec<IpAddr>,
}

impl Attachment {
    fn of(port: &Port) -> Self {
        let v6 = port.v6.as_ref().map(|v6| v6.address.into());
        Self {
            network: Some(port.network.clone()),
            interface: Some(port.interface.clone()),
            addresses: [Some(port.address.into()), v6].into_iter().flatten().collect(),
        }
    }

    /// Of one that isn't in the spec.
    fn launched(guest: &vm::Observed) -> Self {
        let Some(vm) = &guest.launched else { return Self::default() };
        Self { network: vm.network(), interface: vm.interface(), addresses: vm.addresses() }
    }
}

fn guests_of(root: &RootDir, topology: &Topology) -> Result<Vec<GuestStatus>, HostError> {
    let seen = vm::observe(root)?;
    let wanted = topology.vms.iter().map(|vm| (vm.name.to_string(), Attachment::of(&vm.port)));
    let others = seen.iter().filter(|guest| topology.vm(guest.name.as_str()).is_none());
    let others = others.map(|guest| (guest.name.to_string(), Attachment::launched(guest)));
    let status = |(name, attachment): (String, Attachment)| {
        let seen = seen.iter().find(|guest| guest.name.as_str() == name);
        let told = seen.and_then(|guest| guest.status.as_ref());
        GuestStatus {
            network: attachment.network.map(String::from),
            interface: attachment.interface.map(String::from),
            addresses: attachment.addresses.iter().map(IpAddr::to_string).collect(),
            state: seen.map_or_else(|| "stopped".into(), vm::Observed::state),
            pid: seen.and_then(|guest| guest.pid),
            restarts: told.map_or(0, |status| status.restarts),
            trouble: seen.and_then(vm::Observed::trouble),
            pending: seen
                .zip(topology.vm(&name))
                .map(|(seen, wanted)| seen.pending(root, wanted))
                .unwrap_or_default(),
            name,
        }
    };
    Ok(wanted.chain(others).map(status).collect())
}
