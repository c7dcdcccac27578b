//! Changes of a host spec by commands, and what is said of them.

use std::fmt;

use crate::spec::{App, Cidr4, Cidr6, IfName, Name, NamespaceName, Policy, Subnet, SubnetKind};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecEdit {
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
    /// A new subnet.
    AddSubnet {
        /// The network's name.
        network: String,
        /// Its own name.
        name: Name,
        /// What it is.
        subnet: Box<Subnet>,
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
    /// The policy of a subnet, or of a network, in the place of the one it had.
    SetPolicy {
        /// The network's name.
        network: String,
        /// The subnet's name; none: the whole network's.
        subnet: Option<String>,
        /// The policy.
        policy: Box<Policy>,
    },
    /// A subnet, or a network, has no policy of its own any more.
    RemovePolicy {
        /// The network's name.
        network: String,
        /// The subnet's name; none: the whole network's.
        subnet: Option<String>,
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
    /// Something goes, where it is there.
    IfExists(Box<SpecEdit>),
}

/// `subnet web of prod`, `network prod`.
fn place(network: &str, subnet: Option<&str>) -> String {
    match subnet {
        Some(subnet) => format!("subnet {subnet} of {network}"),
        None => format!("network {network}"),
    }
}

impl SpecEdit {
    /// What is said where nothing had to change: what was asked for is there
    /// already, or what should go isn't there.
    pub fn unchanged(&self) -> String {
        match self {
            Self::CreateNetwork { name, cidr, .. } => format!("network {name} ({cidr}) is there already"),
            Self::DeleteNetwork { name, .. } => format!("there is no network {name}: nothing to delete"),
            Self::AddSubnet { network, name, subnet } => {
                format!("subnet {name} ({}) of {network} is there already", subnet.cidr)
            }
            Self::DeleteSubnet { network, name } => {
                format!("there is no subnet {name} of {network}: nothing to delete")
            }
            Self::SetNat { network, interface: Some(interface) } => {
                format!("NAT of {network} is enabled by {interface} already")
            }
            Self::SetNat { network, interface: None } => format!("NAT of {network} is disabled already"),
            Self::CreatePeering { between: [a, b] } => format!("{a} and {b} are peered already"),
            Self::DeletePeering { between: [a, b] } => {
                format!("{a} and {b} aren't peered: nothing to delete")
            }
            Self::SetPolicy { network, subnet, .. } => {
                format!("{} has that policy already", place(network, subnet.as_deref()))
            }
            Self::RemovePolicy { network, subnet } => {
                format!("{} has no policy of its own: nothing to remove", place(network, subnet.as_deref()))
            }
            Self::AddApp { name, app } => {
                format!("app {name} of {} is there already", app.namespace())
            }
            Self::RemoveApp { name } => format!("there is no app {name}: nothing to remove"),
            Self::IfExists(change) => change.unchanged(),
        }
    }
}

/// What was done, in words.
impl fmt::Display for SpecEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateNetwork { name, cidr, .. } => write!(f, "network {name} ({cidr}) created"),
            Self::DeleteNetwork { name, .. } => write!(f, "network {name} deleted"),
            Self::AddSubnet { network, name, subnet } => {
                let kind = match subnet.kind {
                    SubnetKind::Public => "public",
                    SubnetKind::Private => "private",
                };
                write!(f, "{kind} subnet {name} ({}) added to {network}", subnet.cidr)?;
                match Name::new(network.as_str()) {
                    Ok(network) => write!(f, ", namespace {}", NamespaceName::of(&network, name)),
                    // There is no such network, and nothing was added.
                    Err(_) => Ok(()),
                }
            }
            Self::DeleteSubnet { network, name } => write!(f, "subnet {name} of {network} deleted"),
            Self::SetNat { network, interface: Some(interface) } => {
                write!(f, "NAT of {network} enabled by {interface}")
            }
            Self::SetNat { network, interface: None } => write!(f, "NAT of {network} disabled"),
            Self::CreatePeering { between: [a, b] } => write!(f, "{a} and {b} peered"),
            Self::DeletePeering { between: [a, b] } => write!(f, "peering of {a} and {b} deleted"),
            Self::SetPolicy { network, subnet, .. } => {
                write!(f, "policy applied to {}", place(network, subnet.as_deref()))
            }
            Self::RemovePolicy { network, subnet } => {
                write!(f, "policy of {} removed", place(network, subnet.as_deref()))
            }
            Self::AddApp { name, app } => write!(f, "app {name} added to {}", app.namespace()),
            Self::RemoveApp { name } => write!(f, "app {name} removed"),
            Self::IfExists(change) => change.fmt(f),
        }
    }
}
