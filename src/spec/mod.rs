//! What the operator wrote: parsed, merged and checked.

mod closest;
mod edit;
mod model;
mod schema;
mod text;

pub use closest::closest;
pub use edit::apply_edit::{After, Before, find_network, find_subnet, policy_name};
pub use edit::defined_names::DefinedNames;
pub use edit::edit_error::EditError;
pub use edit::policy_subnet::PolicySubnet;
pub use edit::spec_edit::SpecEdit;
pub use model::app::{App, AppLimits, AppRestart, AppWebserver};
pub use model::app_user::{AppUser, AppUserError};
pub use model::cidr::{Cidr4, Cidr6, CidrError, IPV4_PREFIX_MAX, IPV6_PREFIX_MAX};
pub use model::host_spec::{Disk, Host, HostSpec, Nat, Network, Peering, Subnet, Tailscale, Uplink, Vm};
pub use model::keyword::{
    Accel, Arch, DiskFormat, FirewallMode, HostPort, Imds, Machine, SubnetKind, Supervisor, Transport,
};
pub use model::lan::Lan;
pub use model::limits::{GuestLimits, LimitOverrides};
pub use model::mac::{MacAddr, MacError};
pub use model::mark_mask::{MarkMask, MarkMaskError};
pub use model::memory::{Memory, MemoryError};
pub(crate) use model::name::label;
pub use model::name::{IFNAME_MAX, IfName, NAME_MAX, Name, NameError};
pub use model::namespace_name::{NamespaceName, NamespaceNameError};
pub use model::offload::Offload;
pub use model::policy::{
    Action, DEFAULT_PRIORITY, Direction, Policy, PolicyDefault, PolicyProtocol, PolicyRule, PolicyVersion,
    RULES_MAX,
};
pub use model::policy_words::{OneOrMany, Peer, Peers, PortRange, Ports};
pub use model::prefix::{Prefix, PrefixError};
pub use schema::json_schema;
pub use text::issue::{Issue, Segment, SpecPath};
pub use text::load::{Checked, Loaded, Replaced, Sources, load, load_checked};
pub(crate) use text::load::{Parsed, load_checked_with, load_drop_in, load_parsed};
pub use text::policy_file::load_policy;
pub use text::problem::{Place, Problem, SpecError};
