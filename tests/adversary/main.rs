//! A hostile guest with root in its VM that wastes what all share, sends what
//! nobody sends, and tries what nobody thought of: nothing crosses, the host
//! stays reachable, others' flows go on. What it forges is in tests/spoofing.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs)]

#[path = "../spoofing/craft.rs"]
mod craft;
mod crossing;
mod flows;
mod fragments;
mod fuzz;
mod groups;
#[path = "../lab/mod.rs"]
mod lab;
mod noise;
mod odd;
#[path = "../spoofing/scene.rs"]
mod scene;
mod soak;
mod storms;
mod tenants;
