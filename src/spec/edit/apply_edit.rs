//! What a command's change makes of the drop-in that commands write. Pure;
//! what only shows when everything is seen together (overlaps, a subnet
//! outside its network) is left to the compiler.

use std::collections::BTreeMap;

use super::edit_error::EditError;
use super::edit_same as differing;
use crate::spec::{
    App, HostSpec, IfName, Imds, Lan, LimitOverrides, Name, Nat, Network, OneOrMany, Peering, Policy,
    SpecEdit, SpecPath, Subnet, closest,
};

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
    /// Whether the files say already, some file or other, what was asked for.
    pub same: bool,
}

impl SpecEdit {
    /// The drop-in after this change.
    ///
    /// # Errors
    /// Where there isn't what it names, what it makes is there and differs, or
    /// another file says so.
    pub fn apply(&self, before: Before<'_>) -> Result<After, EditError> {
        let mut after = After { drop_in: before.drop_in.clone(), also: Vec::new(), same: false };
        after.same = match self {
            Self::CreateNetwork { name, cidr, cidr6 } => {
                let network = Network {
                    cidr: *cidr,
                    cidr6: *cidr6,
                    imds: Imds::default(),
                    tailscale: false,
                    nat: Nat::Off,
                    subnets: BTreeMap::new(),
                    policy: None,
                    lan: Lan::Off,
                    limits: LimitOverrides::default(),
                };
                create_network(before, &mut after, name, network)?
            }
            Self::DeleteNetwork { name, force } => delete_network(before, &mut after, name, *force)?,
            Self::AddSubnet { network, name, subnet } => {
                add_subnet(before, &mut after, (network, name), subnet)?
            }
            Self::DeleteSubnet { network, name } => delete_subnet(before, &mut after, network, name)?,
            Self::SetNat { network, interface } => set_nat(before, &mut after, network, interface.as_ref())?,
            Self::CreatePeering { between } => create_peering(before, &mut after, between)?,
            Self::DeletePeering { between } => delete_peering(before, &mut after, between)?,
            Self::SetPolicy { network, subnet, policy } => {
                set_policy(before, &mut after, (network, subnet.as_deref()), policy)?
            }
            Self::RemovePolicy { network, subnet } => {
                remove_policy(before, &mut after, (network, subnet.as_deref()))?
            }
            Self::AddApp { name, app } => add_app(before, &mut after, name, app)?,
            Self::RemoveApp { name } => remove_app(before, &mut after, name)?,
            Self::IfExists(change) => match change.apply(before) {
                Err(error) if error.is_absence() => true,
                result => return result,
            },
        };
        Ok(after)
    }
}

/// Each of these gives whether what is asked for is there already.
type Same = Result<bool, EditError>;

fn create_network(before: Before<'_>, after: &mut After, name: &Name, network: Network) -> Same {
    if let Some(found) = before.whole.networks.get(name.as_str()) {
        let path = SpecPath::keys(["networks", name.as_str()]);
        return before.same(format!("a network {name}"), &path, differing::network(found, &network));
    }
    after.drop_in.networks.insert(name.to_string(), network);
    Ok(false)
}

fn delete_network(before: Before<'_>, after: &mut After, name: &str, force: bool) -> Same {
    let network = before.network(&mut after.drop_in.networks, name)?.clone();
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
    drop_policy(after, name, None, network.policy.as_ref());
    for (subnet, written) in &network.subnets {
        drop_policy(after, name, Some(subnet), written.policy.as_ref());
    }
    Ok(false)
}

fn add_subnet(
    before: Before<'_>,
    after: &mut After,
    (network, name): (&str, &Name),
    subnet: &Subnet,
) -> Same {
    let written = find_network(before.whole, network)?;
    if let Some(found) = written.subnets.get(name.as_str()) {
        let path = SpecPath::keys(["networks", network, "subnets", name.as_str()]);
        let what = format!("a subnet {name} of the network {network}");
        return before.same(what, &path, differing::subnet(found, subnet));
    }
    let found = before.network(&mut after.drop_in.networks, network)?;
    found.subnets.insert(name.to_string(), subnet.clone());
    Ok(false)
}

fn delete_subnet(before: Before<'_>, after: &mut After, network: &str, name: &str) -> Same {
    let policy = before.subnet(&mut after.drop_in.networks, network, name)?.policy.clone();
    if let Some(network) = after.drop_in.networks.get_mut(network) {
        network.subnets.remove(name);
    }
    drop_policy(after, network, Some(name), policy.as_ref());
    remove_apps(after, |app| app.network.as_str() == network && app.subnet.as_str() == name);
    Ok(false)
}

fn set_nat(before: Before<'_>, after: &mut After, network: &str, interface: Option<&IfName>) -> Same {
    let nat = interface.cloned().map_or(Nat::Off, |interface| Nat::Named(vec![interface]));
    if find_network(before.whole, network)?.nat == nat {
        return Ok(true);
    }
    before.network(&mut after.drop_in.networks, network)?.nat = nat;
    Ok(false)
}

fn create_peering(before: Before<'_>, after: &mut After, between: &[Name; 2]) -> Same {
    let [a, b] = between;
    find_network(before.whole, a.as_str())?;
    find_network(before.whole, b.as_str())?;
    if a == b {
        return Err(EditError::PeeredWithItself(a.to_string()));
    }
    if before.peering(a.as_str(), b.as_str()).is_some() {
        return Ok(true);
    }
    after.drop_in.peerings.push(Peering { between: between.clone() });
    Ok(false)
}

fn delete_peering(before: Before<'_>, after: &mut After, [a, b]: &[String; 2]) -> Same {
    find_network(before.whole, a)?;
    find_network(before.whole, b)?;
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
    Ok(false)
}

fn set_policy(
    before: Before<'_>,
    after: &mut After,
    (network, subnet): (&str, Option<&str>),
    policy: &Policy,
) -> Same {
    let name = policy_name(network, subnet);
    let attached = Name::new(name.clone())
        .map_err(|reason| EditError::PolicyName { name: name.clone(), reason: reason.to_string() })?;
    let attached = OneOrMany::new(vec![attached]);
    let now = match subnet {
        Some(subnet) => &find_subnet(before.whole, network, subnet)?.policy,
        None => &find_network(before.whole, network)?.policy,
    };
    if *now == attached && before.whole.policies.get(&name) == Some(policy) {
        return Ok(true);
    }
    let written = before.policy_of(&mut after.drop_in.networks, network, subnet)?;
    let theirs = before.whole.policies.contains_key(&name);
    if theirs && !before.drop_in.policies.contains_key(&name) {
        let path = SpecPath::keys(["policies", name.as_str()]);
        return Err(before.elsewhere(format!("the policy {name}"), &path));
    }
    let own = |names: &OneOrMany<Name>| names.as_slice().iter().any(|one| one.as_str() == name);
    if theirs && !now.as_ref().is_some_and(own) {
        let reason = "there is one of that name, which isn't this one's".into();
        return Err(EditError::PolicyName { name, reason });
    }
    *written = attached;
    after.drop_in.policies.insert(name, policy.clone());
    Ok(false)
}

fn remove_policy(before: Before<'_>, after: &mut After, (network, subnet): (&str, Option<&str>)) -> Same {
    let written = before.policy_of(&mut after.drop_in.networks, network, subnet)?;
    let Some(policy) = written.take() else {
        let (network, subnet) = (network.to_string(), subnet.map(ToString::to_string));
        return Err(EditError::NoPolicy { network, subnet });
    };
    drop_policy(after, network, subnet, Some(&policy));
    Ok(false)
}

fn add_app(before: Before<'_>, after: &mut After, name: &Name, app: &App) -> Same {
    find_subnet(before.whole, app.network.as_str(), app.subnet.as_str())?;
    if let Some(found) = before.whole.apps.get(name.as_str()) {
        let path = SpecPath::keys(["apps", name.as_str()]);
        return before.same(format!("an app {name}"), &path, differing::app(found, app));
    }
    after.drop_in.apps.insert(name.to_string(), app.clone());
    Ok(false)
}

fn remove_app(before: Before<'_>, after: &mut After, name: &str) -> Same {
    if !before.whole.apps.contains_key(name) {
        let names = || before.whole.apps.keys().map(String::as_str);
        return Err(EditError::unknown(format!("app {name}"), closest(name, names()), names()));
    }
    if after.drop_in.apps.remove(name).is_none() {
        let path = SpecPath::keys(["apps", name]);
        return Err(before.elsewhere(format!("the app {name}"), &path));
    }
    Ok(false)
}

/// Apps go with where they run.
fn remove_apps(after: &mut After, goes: impl Fn(&App) -> bool) {
    let apps = &mut after.drop_in.apps;
    after.also.extend(apps.iter().filter(|(_, app)| goes(app)).map(|(name, _)| format!("the app {name}")));
    apps.retain(|_, app| !goes(app));
}

/// The policy that commands made goes with what it was attached to.
fn drop_policy(after: &mut After, network: &str, subnet: Option<&str>, attached: Option<&OneOrMany<Name>>) {
    let name = policy_name(network, subnet);
    let own = attached.is_some_and(|names| names.as_slice().iter().any(|one| one.as_str() == name));
    if own {
        after.drop_in.policies.remove(&name);
    }
}

/// The name of the policy that commands give a subnet, which is its
/// namespace's, or a whole network.
pub fn policy_name(network: &str, subnet: Option<&str>) -> String {
    match subnet {
        Some(subnet) => format!("{network}-{subnet}"),
        None => network.into(),
    }
}

fn joins(peering: &Peering, a: &str, b: &str) -> bool {
    let [x, y] = &peering.between;
    (x.as_str() == a && y.as_str() == b) || (x.as_str() == b && y.as_str() == a)
}

impl Before<'_> {
    fn peering(&self, a: &str, b: &str) -> Option<usize> {
        self.whole.peerings.iter().position(|peering| joins(peering, a, b))
    }

    /// `what` is there: as it was asked for, or else it is refused.
    fn same(&self, what: String, path: &SpecPath, differs: Vec<String>) -> Same {
        if differs.is_empty() {
            return Ok(true);
        }
        Err(EditError::Differs { what, place: (self.place)(path), differs })
    }

    fn elsewhere(&self, what: String, path: &SpecPath) -> EditError {
        EditError::Elsewhere { what, place: (self.place)(path).unwrap_or_else(|| "another file".into()) }
    }

    /// The network, of those of the drop-in.
    fn network<'n>(
        &self,
        networks: &'n mut BTreeMap<String, Network>,
        name: &str,
    ) -> Result<&'n mut Network, EditError> {
        find_network(self.whole, name)?;
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

    /// What is attached to a subnet of the drop-in, or to a network.
    fn policy_of<'n>(
        &self,
        networks: &'n mut BTreeMap<String, Network>,
        network: &str,
        subnet: Option<&str>,
    ) -> Result<&'n mut Option<OneOrMany<Name>>, EditError> {
        Ok(match subnet {
            Some(subnet) => &mut self.subnet(networks, network, subnet)?.policy,
            None => &mut self.network(networks, network)?.policy,
        })
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
