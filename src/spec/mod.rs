//! What the operator wrote: parsed, merged and checked.

mod app;
mod change;
mod cidr;
mod closest;
mod decode;
mod deserializer;
mod document;
mod edit;
mod edit_error;
mod edit_same;
#[cfg(test)]
mod edit_tests;
mod explain;
mod first_key;
mod issue;
mod json_document;
mod json_repair;
mod keyword;
mod lan;
mod limits;
mod load;
mod mac;
mod meant;
mod memory;
mod merge;
mod model;
mod name;
mod names;
mod policy;
mod policy_file;
mod policy_subnet;
mod policy_words;
mod prefix;
mod problem;
mod read;
mod schema;
mod snippet;
mod toml_document;

pub use app::{App, AppLimits, AppRestart, AppWebserver};
pub use change::Change;
pub use cidr::{Cidr4, Cidr6, CidrError, IPV4_PREFIX_MAX, IPV6_PREFIX_MAX};
pub use closest::closest;
pub use edit::{After, Before, find_network, find_subnet, policy_name};
pub use edit_error::EditError;
pub use issue::{Issue, Segment, SpecPath};
pub use keyword::{
    Accel, Arch, DiskFormat, FirewallMode, HostPort, Imds, Machine, SubnetKind, Supervisor, Transport,
};
pub use lan::Lan;
pub use limits::{GuestLimits, LimitOverrides};
pub use load::{Checked, Loaded, Replaced, Sources, load, load_checked, load_checked_with, load_drop_in};
pub use mac::{MacAddr, MacError};
pub use memory::{Memory, MemoryError};
pub use model::{Disk, Host, HostSpec, Nat, Network, Peering, Subnet, Tailscale, Uplink, Vm};
pub use name::{IFNAME_MAX, IfName, NAME_MAX, Name, NameError};
pub(crate) use name::{is_of_a_name, is_ragged, label};
pub use names::DefinedNames;
pub use policy::{
    Action, DEFAULT_PRIORITY, Direction, Policy, PolicyDefault, PolicyProtocol, PolicyRule, PolicyVersion,
    RULES_MAX,
};
pub use policy_file::load_policy;
pub use policy_subnet::PolicySubnet;
pub use policy_words::{OneOrMany, Peer, Peers, PortRange, Ports};
pub use prefix::{Prefix, PrefixError};
pub use problem::{Place, Problem, SpecError};
pub use schema::json_schema;
