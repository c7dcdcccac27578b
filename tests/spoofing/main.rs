//! A hostile guest with root in its VM, frame by frame: what it forges doesn't
//! get past its own port, and what it sends in its own name reaches only what
//! its network may reach. Every test also sends an honest frame that arrives.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod arp;
mod craft;
mod dhcp;
mod ethernet;
mod honest;
mod host;
mod ipv4;
mod ipv6;
#[path = "../lab/mod.rs"]
mod lab;
mod routed;
mod scene;
mod tracked;
