//! A hostile guest with root in its VM that wastes what all share, sends what
//! nobody sends, and tries what nobody thought of: nothing crosses, the host
//! stays reachable, others' flows go on. What it forges is in tests/spoofing.

mod crossing;
mod flows;
mod fragments;
pub mod fuzz;
mod groups;
mod noise;
mod odd;
mod soak;
mod storms;
mod tenants;
