//! Changes of a host spec by commands: what they make of the drop-in that
//! they write. Pure; what only shows when everything is seen together
//! (overlaps, a subnet outside its network) is left to the compiler.

use std::collections::BTreeMap;
use std::fmt;

use super::edit_error::EditError;
use super::{
    App, Cidr4, Cidr6, HostSpec, IfName, Imds, Name, Nat, Network, OneOrMany, Peering, Policy, SpecPath,
    Subnet, SubnetKind, closest,
};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new network, without subnets and without a way out.
    CreateNetwork {
        /// Its name.
        name: Name,
        /// Its IPv4 prefix.
        cidr: Cidr4,
        /// Its IPv6 prefix.
        cidr6: Option<Cidr6>,
    },
    /// A network with all that is in it, and its peerings, goes.
    DeleteNetwork {
        /// Its name.
        name: String,
        /// Also where it is peered with a network of another file's.
        force: bool,
    },
    /// A new subnet, with a namespace.
    AddSubnet {
        /// The network's name.
        network: String,
        /// Its own name.
        name: Name,
        /// Its IPv4 prefix.
        cidr: Cidr4,
        /// Its IPv6 prefix.
        cidr6: Option<Cidr6>,
        /// Whether its guests may go out.
        kind: SubnetKind,
    },
    /// A subnet goes.
    DeleteSubnet {
        /// The network's name.
        network: String,
        /// Its own name.
        name: String,
    },
    /// Public subnets go out by this interface, or nowhere.
    SetNat {
        /// The network's name.
        network: String,
        /// The interface; none: nowhere.
        interface: Option<IfName>,
    },
    /// Two networks may talk to each other.
    CreatePeering {
        /// The networks' names.
        between: [Name; 2],
    },
    /// They may not any more.
    DeletePeering {
        /// The networks' names.
        between: [String; 2],
    },
    /// A subnet's policy, in the place of the one it had.
    SetPolicy {
        /// The network's name.
        network: String,
        /// The subnet's name.
        subnet: String,
        /// The policy.
        policy: Box<Policy>,
    },
    /// A program in a subnet's namespace.
    AddApp {
        /// Its name.
        name: Name,
        /// What it is.
        app: Box<App>,
    },
    /// A program goes.
    RemoveApp {
        /// Its name.
        name: String,
    },
    /// A subnet has no policy of its own any more.
    RemovePolicy {
        /// The network's name.
        network: String,
        /// The subnet's name.
        subnet: String,
    },
}

/// What there is before a change.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// The drop-in that commands write.
    pub drop_in: &'a HostSpec,
    /// All files together.
    pub whole: &'a HostSpec,
    /// Where a key of `whole` is written, as `FILE:LINE`.
    pub place: &'a dyn Fn(&SpecPath) -> Option<String>,
}

/// The drop-in after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// The drop-in.
    pub drop_in: HostSpec,
    /// What went besides what was named: `the peering of a and b`.
    pub also: Vec<String>,
}

impl Change {
    /// The drop-in after this change.
    ///
    /// # Errors
    /// Where there isn't what it names, there is what it makes, or another
    /// file says so.
    pub fn apply(&self, before: Before<'_>) -> Result<After, EditError> {
        let mut after = After { drop_in: before.drop_in.clone(), also: Vec::new() };
        let networks = &mut after.drop_in.networks;
        match self {
            Self::CreateNetwork { name, cidr, cidr6 } => {
                before.no_network(name.as_str())?;
                let network = Network {
                    cidr: *cidr,
                    cidr6: *cidr6,
                    imds: Imds::default(),
                    tailscale: false,
                    nat: Nat::Off,
                    subnets: BTreeMap::new(),
                    policy: None,
                };
                networks.insert(name.to_string(), network);
            }
            Self::DeleteNetwork { name, force } => delete_network(before, &mut after, name, *force)?,
            Self::AddSubnet { network, name, cidr, cidr6, kind } => {
                let found = before.network(networks, network)?;
                if found.subnets.contains_key(name.as_str()) {
                    let path = SpecPath::keys(["networks", network, "subnets", name.as_str()]);
                    return Err(before.exists(format!("a subnet {name} of the network {network}"), &path));
                }
                let subnet = Subnet {
                    cidr: *cidr,
                    cidr6: *cidr6,
                    kind: *kind,
                    policy: None,
                    namespace: true,
                    address: None,
                    address6: None,
                };
                found.subnets.insert(name.to_string(), subnet);
            }
            Self::DeleteSubnet { network, name } => {
                before.subnet(networks, network, name)?;
                if let Some(network) = networks.get_mut(network) {
                    network.subnets.remove(name);
                }
                after.drop_in.policies.remove(&policy_name(network, name));
                remove_apps(&mut after, |app| app.network.as_str() == network && app.subnet.as_str() == name);
            }
            Self::SetNat { network, interface } => {
                let nat = interface.clone().map_or(Nat::Off, |interface| Nat::Named(vec![interface]));
                before.network(networks, network)?.nat = nat;
            }
            Self::CreatePeering { between } => {
                let [a, b] = between;
                before.any_network(a.as_str())?;
                before.any_network(b.as_str())?;
                if a == b {
                    return Err(EditError::PeeredWithItself(a.to_string()));
                }
                if let Some(index) = before.peering(a.as_str(), b.as_str()) {
                    let path = SpecPath::keys(["peerings"]).index(index);
                    return Err(before.exists(format!("a peering of {a} and {b}"), &path));
                }
                after.drop_in.peerings.push(Peering { between: between.clone() });
            }
            Self::DeletePeering { between: [a, b] } => {
                before.any_network(a)?;
                before.any_network(b)?;
                let Some(index) = before.peering(a, b) else {
                    return Err(EditError::NotPeered(a.clone(), b.clone()));
                };
                let peerings = &mut after.drop_in.peerings;
                let count = peerings.len();
                peerings.retain(|peering| !joins(peering, a, b));
                if peerings.len() == count {
                    let path = SpecPath::keys(["peerings"]).index(index);
                    return Err(before.elsewhere(format!("the peering of {a} and {b}"), &path));
                }
            }
            Self::SetPolicy { network, subnet, policy } => {
                let name = policy_name(network, subnet);
                let written = before.subnet(networks, network, subnet)?;
                let theirs = before.whole.policies.contains_key(&name);
                if theirs && !before.drop_in.policies.contains_key(&name) {
                    let path = SpecPath::keys(["policies", name.as_str()]);
                    return Err(before.elsewhere(format!("the policy {name}"), &path));
                }
                let attached = Name::new(name.clone()).map_err(|reason| EditError::PolicyName {
                    name: name.clone(),
                    reason: reason.to_string(),
                })?;
                written.policy = OneOrMany::new(vec![attached]);
                after.drop_in.policies.insert(name, policy.as_ref().clone());
            }
            Self::AddApp { name, app } => {
                find_subnet(before.whole, app.network.as_str(), app.subnet.as_str())?;
                if before.whole.apps.contains_key(name.as_str()) {
                    let path = SpecPath::keys(["apps", name.as_str()]);
                    return Err(before.exists(format!("an app {name}"), &path));
                }
                after.drop_in.apps.insert(name.to_string(), app.as_ref().clone());
            }
            Self::RemoveApp { name } => {
                if !before.whole.apps.contains_key(name) {
                    let names = || before.whole.apps.keys().map(String::as_str);
                    return Err(EditError::unknown(format!("app {name}"), closest(name, names()), names()));
                }
                if after.drop_in.apps.remove(name).is_none() {
                    let path = SpecPath::keys(["apps", name.as_str()]);
                    return Err(before.elsewhere(format!("the app {name}"), &path));
                }
            }
            Self::RemovePolicy { network, subnet } => {
                let written = before.subnet(networks, network, subnet)?;
                if written.policy.take().is_none() {
                    return Err(EditError::NoPolicy { network: network.clone(), subnet: subnet.clone() });
                }
                after.drop_in.policies.remove(&policy_name(network, subnet));
            }
        }
        Ok(after)
    }
}

/// Apps go with where they run.
fn remove_apps(after: &mut After, goes: impl Fn(&App) -> bool) {
    let apps = &mut after.drop_in.apps;
    after.also.extend(apps.iter().filter(|(_, app)| goes(app)).map(|(name, _)| format!("the app {name}")));
    apps.retain(|_, app| !goes(app));
}

fn delete_network(before: Before<'_>, after: &mut After, name: &str, force: bool) -> Result<(), EditError> {
    let subnets = before.network(&mut after.drop_in.networks, name)?.subnets.clone();
    let involved = |peering: &Peering| peering.between.iter().any(|end| end.as_str() == name);
    let mut relying = Vec::new();
    for (index, peering) in before.whole.peerings.iter().enumerate().filter(|(_, one)| involved(one)) {
        let [a, b] = &peering.between;
        if !before.drop_in.peerings.contains(peering) {
            let path = SpecPath::keys(["peerings"]).index(index);
            return Err(before.elsewhere(format!("the peering of {a} and {b}"), &path));
        }
        let peer = if a.as_str() == name { b } else { a };
        if !before.drop_in.networks.contains_key(peer.as_str()) {
            relying.push(peer.to_string());
        }
        after.also.push(format!("the peering of {a} and {b}"));
    }
    if !relying.is_empty() && !force {
        return Err(EditError::Peered { network: name.into(), peers: relying });
    }
    after.drop_in.peerings.retain(|peering| !involved(peering));
    after.drop_in.networks.remove(name);
    remove_apps(after, |app| app.network.as_str() == name);
    for subnet in subnets.keys() {
        after.drop_in.policies.remove(&policy_name(name, subnet));
    }
    Ok(())
}

/// The name of the policy that commands give a subnet: its namespace's.
pub fn policy_name(network: &str, subnet: &str) -> String {
    format!("{network}-{subnet}")
}

fn joins(peering: &Peering, a: &str, b: &str) -> bool {
    let [x, y] = &peering.between;
    (x.as_str() == a && y.as_str() == b) || (x.as_str() == b && y.as_str() == a)
}

impl Before<'_> {
    fn peering(&self, a: &str, b: &str) -> Option<usize> {
        self.whole.peerings.iter().position(|peering| joins(peering, a, b))
    }

    fn exists(&self, what: String, path: &SpecPath) -> EditError {
        EditError::Exists { what, place: (self.place)(path) }
    }

    fn elsewhere(&self, what: String, path: &SpecPath) -> EditError {
        EditError::Elsewhere { what, place: (self.place)(path).unwrap_or_else(|| "another file".into()) }
    }

    fn no_network(&self, name: &str) -> Result<(), EditError> {
        if !self.whole.networks.contains_key(name) {
            return Ok(());
        }
        Err(self.exists(format!("a network {name}"), &SpecPath::keys(["networks", name])))
    }

    fn any_network(&self, name: &str) -> Result<(), EditError> {
        find_network(self.whole, name).map(|_| ())
    }

    /// The network, of those of the drop-in.
    fn network<'n>(
        &self,
        networks: &'n mut BTreeMap<String, Network>,
        name: &str,
    ) -> Result<&'n mut Network, EditError> {
        self.any_network(name)?;
        let path = SpecPath::keys(["networks", name]);
        networks.get_mut(name).ok_or_else(|| self.elsewhere(format!("the network {name}"), &path))
    }

    fn subnet<'n>(
        &self,
        networks: &'n mut BTreeMap<String, Network>,
        network: &str,
        name: &str,
    ) -> Result<&'n mut Subnet, EditError> {
        find_subnet(self.whole, network, name)?;
        let found = self.network(networks, network)?;
        let path = SpecPath::keys(["networks", network, "subnets", name]);
        found.subnets.get_mut(name).ok_or_else(|| self.elsewhere(format!("the subnet {name}"), &path))
    }
}

/// The network of that name.
///
/// # Errors
/// [`EditError::Unknown`], with the name that may be meant.
pub fn find_network<'s>(spec: &'s HostSpec, name: &str) -> Result<&'s Network, EditError> {
    spec.networks.get(name).ok_or_else(|| {
        let names = || spec.networks.keys().map(String::as_str);
        EditError::unknown(format!("network {name}"), closest(name, names()), names())
    })
}

/// The subnet of that name.
///
/// # Errors
/// [`EditError::Unknown`], with the name that may be meant.
pub fn find_subnet<'s>(spec: &'s HostSpec, network: &str, name: &str) -> Result<&'s Subnet, EditError> {
    let found = find_network(spec, network)?;
    found.subnets.get(name).ok_or_else(|| {
        let names = || found.subnets.keys().map(String::as_str);
        let what = format!("subnet {name} in the network {network}");
        EditError::unknown(what, closest(name, names()), names())
    })
}

/// What was done, in words.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateNetwork { name, cidr, .. } => write!(f, "network {name} ({cidr}) created"),
            Self::DeleteNetwork { name, .. } => write!(f, "network {name} deleted"),
            Self::AddSubnet { network, name, cidr, kind, .. } => {
                let kind = match kind {
                    SubnetKind::Public => "public",
                    SubnetKind::Private => "private",
                };
                write!(f, "{kind} subnet {name} ({cidr}) added to {network}, namespace {network}-{name}")
            }
            Self::DeleteSubnet { network, name } => write!(f, "subnet {name} of {network} deleted"),
            Self::SetNat { network, interface: Some(interface) } => {
                write!(f, "NAT of {network} enabled by {interface}")
            }
            Self::SetNat { network, interface: None } => write!(f, "NAT of {network} disabled"),
            Self::CreatePeering { between: [a, b] } => write!(f, "{a} and {b} peered"),
            Self::DeletePeering { between: [a, b] } => write!(f, "peering of {a} and {b} deleted"),
            Self::SetPolicy { network, subnet, .. } => {
                write!(f, "policy applied to subnet {subnet} of {network}")
            }
            Self::AddApp { name, app } => write!(f, "app {name} added to {}-{}", app.network, app.subnet),
            Self::RemoveApp { name } => write!(f, "app {name} removed"),
            Self::RemovePolicy { network, subnet } => {
                write!(f, "policy of subnet {subnet} of {network} removed")
            }
        }
    }
}
