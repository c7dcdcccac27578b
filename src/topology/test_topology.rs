//! A topology for unit tests.

use super::{Topology, compile};

/// What a spec in TOML compiles to.
pub(crate) fn topology(text: &str) -> Topology {
    compile(&toml::from_str(text).unwrap()).unwrap()
}
