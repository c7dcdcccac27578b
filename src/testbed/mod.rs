//! A small world around a hypervisor, in network namespaces of this process:
//! an internet, a cloud's metadata service, a laptop on the tailnet, guests
//! without QEMU, probes with a definite answer and frames no honest guest
//! would send. For tests and the demo; not part of what an operator installs.
//!
//! Nothing here has a name outside the process: a namespace is a file
//! descriptor, so that all of it is gone when the process is.

mod capture;
mod connection;
mod echo;
pub mod frames;
mod guest;
mod http;
mod links;
mod matrix;
mod named;
mod netns;
mod probe;
mod replay;
mod service;
mod tap;
mod worker;
mod world;

pub use capture::{Capture, FrameLog};
pub use connection::Connection;
pub use guest::FakeGuest;
pub use http::http_get;
pub use links::{Links, Route};
pub use matrix::{Expectation, ExpectedVerdict, Row, all_ok, render};
pub use named::NamedNamespaces;
pub use netns::Netns;
pub use probe::{DEFAULT_TIMEOUT, Probe, Verdict, probe, probe_all, probe_all_within, probe_from};
pub use replay::{Unreplayed, replay};
pub use service::{Service, usual_services};
pub use tap::Tap;
pub use world::{Options, World, address};
