//! Reads the host: links, firewall, guests.

use crate::app;
use crate::firewall::{Live, Stamp, Surroundings, nft};
use crate::guard::{self, Tag};
use crate::link::{self, Desired, Netlink};
use crate::root_dir::RootDir;
use crate::topology::{Offload, Topology};
use crate::vm;

use super::current::{Current, SeenApp};
use super::surroundings::{recorded_forwarding, surroundings, uplinks};
use crate::host::kept::forwarding::{self, Forwarding};
use crate::host::kept::loaded;
use crate::host::look::reliance::FORWARDING4_KEY;
use crate::host::{Guest, HostError, hold};

/// What the host is, as far as `topology` asks.
///
/// # Errors
/// Where the kernel or nft doesn't answer.
pub async fn observe(root: &RootDir, topology: &Topology) -> Result<Current, HostError> {
    with_guests(root, topology, observe_network(root, topology).await?)
}

/// As [`observe`], without guests and apps.
///
/// # Errors
/// As [`observe`].
pub async fn observe_network(root: &RootDir, topology: &Topology) -> Result<Current, HostError> {
    network(root, topology, loaded::observe(root)?).await
}

async fn network(
    root: &RootDir,
    topology: &Topology,
    (firewall, stamp): (Live, Option<Stamp>),
) -> Result<Current, HostError> {
    let netlink = Netlink::open()?;
    // Which settings matter depends on which links lead to the internet.
    let mut first = netlink.observe().await?;
    first.look_at_guards()?;
    let guard = guard(root, topology, &first);
    let uplinks = uplinks(topology, &first);
    let desired = Desired::new(topology, &uplinks);
    let unheld = !firewall.is_empty() && hold::is_missed(root);
    let Forwarding { surroundings: recorded, bridges: former_bridges } = forwarding::read(root);
    let mut current =
        Current { guard, firewall, stamp, unheld, recorded, former_bridges, ..Current::default() };
    let mut keys = link::sysctl_keys(&desired, &first.links);
    keys.extend(recorded_forwarding(&current).into_iter().map(|sysctl| sysctl.key));
    keys.extend([link::FORWARDING6_KEY.into(), FORWARDING4_KEY.into()]);
    keys.retain(|key| !first.sysctls.contains_key(key));
    let sysctls = link::sysctl::read(keys)
        .map_err(|source| link::LinkError::Sysctl { key: "/proc/sys".into(), source })?;
    current.links = first;
    current.links.sysctls.extend(sysctls);
    current.surroundings = surroundings(topology, uplinks, &current, current.guard.is_some());
    Ok(current)
}

/// What this kernel knows the guard by, where a VM's port needs one.
fn guard(root: &RootDir, topology: &Topology, links: &link::Observed) -> Option<Tag> {
    let header = |link: &link::Link| link.tap.as_ref().is_some_and(|tap| tap.vnet_header);
    let needed = topology.vms.iter().any(|vm| vm.offload != Offload::Off) || links.links.values().any(header);
    let attached = links.links.values().filter_map(|link| link.guard);
    let known = needed.then(|| guard::known(root, attached))?;
    known.inspect_err(|reason| tracing::info!("VMs' frames carry no virtio header: {reason}")).ok()
}

/// As [`observe`], with the firewall as nft lists it: what is written down
/// proves nothing to an auditor.
///
/// # Errors
/// Where the kernel or nft doesn't answer.
pub async fn observe_listed(root: &RootDir, topology: &Topology) -> Result<Current, HostError> {
    let listed = (Live::Listed(nft::observe()?), None);
    with_guests(root, topology, network(root, topology, listed).await?)
}

fn with_guests(root: &RootDir, topology: &Topology, network: Current) -> Result<Current, HostError> {
    let apps = app::observe(root)?.into_iter().map(|seen| SeenApp::of(root, seen));
    let (guests, strays) = (guests(root, topology)?, vm::find_strays(root)?);
    Ok(Current { guests, strays, apps: apps.collect(), ..network })
}

fn guests(root: &RootDir, topology: &Topology) -> Result<Vec<Guest>, HostError> {
    Ok(vm::observe(root)?.into_iter().map(|seen| Guest::of(root, topology, seen)).collect())
}

impl Guest {
    /// A VM as it was seen, beside what `topology` wants it to be.
    pub(super) fn of(root: &RootDir, topology: &Topology, seen: vm::Observed) -> Self {
        let pending = topology.vm(seen.name.as_str()).map(|wanted| seen.pending(root, wanted));
        Self {
            pending: pending.unwrap_or_default(),
            name: seen.name,
            running: seen.pid.is_some(),
            supervised: seen.supervised,
        }
    }
}

impl SeenApp {
    /// An app as it was seen, with what ran last.
    pub(super) fn of(root: &RootDir, seen: app::Observed) -> Self {
        let ended = app::read_ended(root, &seen.namespace, &seen.name).ok().flatten();
        Self { seen, ended }
    }
}

/// What the firewall of `topology` has to know of this host; without root only
/// what everybody may see.
///
/// # Errors
/// Where the kernel or nft doesn't answer.
pub async fn observe_surroundings(root: &RootDir, topology: &Topology) -> Result<Surroundings, HostError> {
    if rustix::process::geteuid().is_root() {
        return Ok(observe_network(root, topology).await?.surroundings);
    }
    let links = Netlink::open()?.observe().await?;
    let uplinks = uplinks(topology, &links);
    // Whether the kernel would take the guard, only root is told.
    let current = Current { links, ..Current::default() };
    Ok(surroundings(topology, uplinks, &current, guard::kernel_tells_types()))
}
