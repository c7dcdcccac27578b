//! hostctl turns one Linux machine into a small cloud: isolated networks,
//! QEMU guests and one nftables firewall, from one declarative host spec.
//!
//! The rooms, in the order a host spec travels through them:
//!
//! 1. [`spec`]: what the operator wrote: parsed, merged, checked (pure).
//! 2. [`topology`]: every name, address, MAC and port, fixed (pure).
//! 3. [`reach`]: who may reach whom, from the topology (pure).
//! 4. [`firewall`], [`link`], [`vm`], [`app`]: the desired host, each room with its
//!    decisions (pure) and its effects (nft, netlink, processes) in separate
//!    files.
//! 5. [`host`]: observe, plan, apply, verify; the only room that orders
//!    side effects.
//!
//! Arrows point downwards only: a room never imports one that comes later in
//! this list, and the rooms of step 4 don't import each other. What several
//! rooms need lies in leaves beside them: [`packet`] (what is in headers),
//! [`ownership`] (what is hostctl's own), [`root_dir`], [`tap`] with its [`guard`],
//! `confine` (how a program is kept that may turn against the host) and others.

pub mod app;
pub mod bounded;
mod confine;
pub mod firewall;
pub mod guard;
mod guarded_file;
pub mod host;
mod kill_point;
pub mod link;
pub mod os_error;
pub mod ownership;
pub mod packet;
pub mod private;
pub mod probe;
pub mod prove;
pub mod reach;
mod record;
pub mod root_dir;
pub mod shown;
pub mod spec;
mod supervise;
pub mod tap;
#[cfg(feature = "testbed")]
pub mod testbed;
pub mod topology;
pub mod vm;
#[cfg(feature = "webserver")]
pub mod webserver;
mod whole_file;
