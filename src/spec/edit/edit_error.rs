//! Why a command's change of the spec is refused.

use thiserror::Error;

/// Most names that a hint lists.
const MOST_NAMES: usize = 10;

/// Why a change is refused; nothing was changed then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditError {
    /// There is nothing of that name.
    #[error("there is no {what}\n  hint: {hint}")]
    Unknown {
        /// `network prdo`.
        what: String,
        /// What may be meant.
        hint: String,
    },
    /// There is one already, and it is another.
    #[error(
        "there is already {what}{}: {}\n  hint: delete it first, or take another name",
        at(.place), .differs.join(", ")
    )]
    Differs {
        /// `a network prod`.
        what: String,
        /// Where it is written.
        place: Option<String>,
        /// `its cidr is 10.0.0.0/16, not 10.1.0.0/16`.
        differs: Vec<String>,
    },
    /// Another file than the commands' says so.
    #[error("{what} is defined in {place}\n  hint: edit it there, then run hostctl apply")]
    Elsewhere {
        /// `the network prod`.
        what: String,
        /// `FILE:LINE`.
        place: String,
    },
    /// Networks that commands didn't make are peered with it.
    #[error(
        "the network {network} is peered with {}, defined in another file\n  \
         hint: --force deletes the peering too", .peers.join(" and ")
    )]
    Peered {
        /// The network.
        network: String,
        /// Its peers.
        peers: Vec<String>,
    },
    /// Both ends are the same network.
    #[error("{0} can't be peered with itself\n  hint: name two networks")]
    PeeredWithItself(String),
    /// There is no such peering.
    #[error("{0} and {1} aren't peered\n  hint: hostctl peer list shows which networks are")]
    NotPeered(String, String),
    /// The subnet, or the network, has no policy.
    #[error("the {} has no policy of its own\n  hint: there is nothing to remove", place(.network, .subnet))]
    NoPolicy {
        /// The network.
        network: String,
        /// The subnet; none: the network itself is meant.
        subnet: Option<String>,
    },
    /// The policy's name would be no name.
    #[error("a policy can't be called {name}: {reason}\n  hint: give the network or the subnet another name")]
    PolicyName {
        /// `<network>-<subnet>`.
        name: String,
        /// Why.
        reason: String,
    },
    /// What was applied last has more than the spec's files say: the change
    /// would remove it.
    #[error(
        "the host has {}, which no file of the spec says\n  \
         hint: put the spec that was applied in {file}; or run hostctl apply to let them go", .what.join(", ")
    )]
    Unsaid {
        /// `the network a`, `the VM b`.
        what: Vec<String>,
        /// The host's own spec file.
        file: String,
    },
}

fn place(network: &str, subnet: &Option<String>) -> String {
    match subnet {
        Some(subnet) => format!("subnet {subnet} of {network}"),
        None => format!("network {network}"),
    }
}

impl EditError {
    /// Whether it is refused because what should go isn't there.
    pub(in crate::spec) fn is_absence(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::NotPeered(..) | Self::NoPolicy { .. })
    }

    /// There is no `what`; `names` is what there is, `near` the likeliest.
    pub(in crate::spec) fn unknown<'a>(
        what: String,
        near: Option<&str>,
        names: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut names: Vec<&str> = names.take(MOST_NAMES + 1).collect();
        if names.len() > MOST_NAMES {
            names.pop();
            names.push("…");
        }
        let hint = match near {
            Some(near) => format!("did you mean {near}?"),
            None if names.is_empty() => "there is none yet".into(),
            None => format!("there is {}", names.join(", ")),
        };
        Self::Unknown { what, hint }
    }
}

fn at(place: &Option<String>) -> String {
    place.as_ref().map(|place| format!(", at {place}")).unwrap_or_default()
}
