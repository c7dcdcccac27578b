//! What a spec takes away: all of it is more likely a file that is empty or
//! missing than what somebody wanted.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::root_dir::RootDir;
use crate::spec::HostSpec;

use crate::host::HostError;
use crate::host::kept::generation;

/// What goes, where no network or no guest stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The networks, by name.
    pub networks: Vec<String>,
    /// The guests: VMs, and subnets with a namespace as `NETWORK-SUBNET`.
    pub guests: Vec<String>,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = |one: &str, names: &[String]| match names {
            [] => None,
            names => {
                let shown: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
                let more = match names.len().saturating_sub(8) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                Some(format!("every {one} ({}{more})", shown.join(", ")))
            }
        };
        let parts = [what("network", &self.networks), what("guest", &self.guests)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        write!(f, "this spec removes {}", parts.join(" and "))
    }
}

impl Loss {
    /// What goes from one spec to the other, where all of a kind does.
    pub fn between(before: &HostSpec, after: &HostSpec) -> Option<Self> {
        let networks = |spec: &HostSpec| spec.networks.keys().map(ToString::to_string).collect();
        let gone = |before: BTreeSet<String>, after: BTreeSet<String>| -> Vec<String> {
            if before.is_disjoint(&after) { before.into_iter().collect() } else { Vec::new() }
        };
        let loss = Self {
            // Networks that are others now are an edit, as long as there are some.
            networks: if after.networks.is_empty() {
                gone(networks(before), BTreeSet::new())
            } else {
                vec![]
            },
            guests: gone(guests(before), guests(after)),
        };
        (loss != Self { networks: Vec::new(), guests: Vec::new() }).then_some(loss)
    }

    /// What `spec` takes away of what was applied last.
    ///
    /// # Errors
    /// Where the generations can't be listed.
    pub fn of(root: &RootDir, spec: &HostSpec) -> Result<Option<Self>, HostError> {
        let (last, _) = generation::newest_readable_once(root)?;
        Ok(last.and_then(|last| Self::between(&last.generation.spec, spec)))
    }
}

fn guests(spec: &HostSpec) -> BTreeSet<String> {
    let subnets = spec.networks.iter().flat_map(|(network, table)| {
        let named = table.subnets.iter().filter(|(_, subnet)| subnet.namespace);
        named.map(move |(name, _)| format!("{network}-{name}"))
    });
    spec.vms.keys().map(ToString::to_string).chain(subnets).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(before: &str, after: &str) -> Option<String> {
        let spec = |text: &str| toml::from_str::<HostSpec>(text).unwrap();
        Loss::between(&spec(before), &spec(after)).map(|loss| loss.to_string())
    }

    const A: &str = "[networks.a]\ncidr = \"10.1.0.0/24\"\n";
    const B: &str = "[networks.b]\ncidr = \"10.2.0.0/24\"\n";
    const VM: &str = "[vms.v]\nnetwork = \"a\"\nimage = \"probe\"\n";
    const OTHER: &str = "[vms.w]\nnetwork = \"a\"\nimage = \"probe\"\n";

    #[test]
    fn all_that_goes_is_a_loss_and_a_part_of_it_an_edit() {
        let said = |text: &str| Some(text.to_string());
        assert_eq!(between("", ""), None);
        assert_eq!(between("", A), None);
        assert_eq!(between(A, B), None);
        assert_eq!(between(A, ""), said("this spec removes every network (a)"));
        let all = [A, VM].concat();
        assert_eq!(between(&all, ""), said("this spec removes every network (a) and every guest (v)"));
        assert_eq!(between(&all, A), said("this spec removes every guest (v)"));
        assert_eq!(between(&all, &[A, OTHER].concat()), said("this spec removes every guest (v)"));
        assert_eq!(between(&[A, VM, OTHER].concat(), &all), None);
        let subnet = "[networks.a.subnets.in]\ncidr = \"10.1.0.0/25\"\ntype = \"public\"\nnamespace = true\n";
        assert_eq!(between(&[A, subnet].concat(), A), said("this spec removes every guest (a-in)"));
    }
}
