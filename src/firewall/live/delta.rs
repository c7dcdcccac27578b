//! A change of the loaded tables that leaves the rest of them as it is.

use crate::ownership::TABLE;

/// What nft is told, in one transaction, and the same for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    json: bool,
    input: String,
    commands: Vec<String>,
}

impl Delta {
    /// One for `nft -j -f -` (libnftables-json(5)).
    pub(in crate::firewall) fn json(input: String, commands: Vec<String>) -> Self {
        Self { json: true, input, commands }
    }

    /// One for `nft -f -` (nft(8)).
    pub(in crate::firewall) fn text(input: String, commands: Vec<String>) -> Self {
        Self { json: false, input, commands }
    }

    /// What nft reads, and whether that is JSON.
    pub fn input(&self) -> (bool, &str) {
        (self.json, &self.input)
    }

    /// As commands that a person would type, one per set and direction.
    pub fn commands(&self) -> Vec<String> {
        self.commands.clone()
    }
}

/// The command that adds or deletes elements.
pub(in crate::firewall) fn element_command(
    add: bool,
    family: &str,
    set: &str,
    elements: &[String],
) -> String {
    let verb = if add { "add" } else { "delete" };
    format!("nft {verb} element {family} {TABLE} {set} '{{ {} }}'", elements.join(", "))
}
