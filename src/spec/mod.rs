//! What the operator wrote: parsed, merged and checked.

mod cidr;
mod closest;
mod issue;
mod keyword;
mod mac;
mod memory;
mod model;
mod name;

pub use cidr::{Cidr4, Cidr6, CidrError, IPV4_PREFIX_MAX, IPV6_PREFIX_MAX};
pub use closest::closest;
pub use issue::{Issue, Segment, SpecPath};
pub use keyword::{Accel, Arch, DiskFormat, FirewallMode, HostPort, Imds, Machine, SubnetKind, Transport};
pub use mac::{MacAddr, MacError};
pub use memory::{Memory, MemoryError};
pub use model::{Disk, Host, HostSpec, Network, Peering, Subnet, Tailscale, Uplink, Vm};
pub use name::{IFNAME_MAX, IfName, NAME_MAX, Name, NameError};
