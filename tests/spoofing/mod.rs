//! A hostile guest with root in its VM, frame by frame: what it forges doesn't
//! get past its own port, and what it sends in its own name reaches only what
//! its network may reach. Every test also sends an honest frame that arrives.

mod arp;
pub mod craft;
mod dhcp;
mod ethernet;
mod honest;
mod host;
mod ipv4;
mod ipv6;
mod routed;
pub mod scene;
mod tracked;
