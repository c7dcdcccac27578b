//! A change of the loaded tables that leaves the rest of them as it is.

use super::element::Kind;
use super::element_message::SetElements;
use super::nft::NftError;
use super::read_back;
use super::transaction::ElementsError;
use crate::ownership::TABLE;

/// What changes, in one transaction, and the same for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    json: bool,
    input: String,
    parts: Option<Parts>,
    commands: Vec<String>,
}

/// A change by messages of hostctl's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::firewall) struct Parts {
    /// Elements that go, before the rules change.
    pub deleted: Vec<SetElements>,
    /// What nft is told of chains, rules and sets; nothing where only elements
    /// change.
    pub rules: String,
    /// Elements that come, after the rules changed.
    pub added: Vec<SetElements>,
}

impl Parts {
    /// Adds elements of a set, written as nft reads them; says whether all of
    /// them are understood.
    pub fn push(&mut self, add: bool, family: &'static str, set: &str, texts: &[String]) -> bool {
        let Some(kind) = Kind::named(set) else { return false };
        let elements: Option<Vec<_>> = texts.iter().map(|text| kind.element(text)).collect();
        let Some(elements) = elements else { return false };
        let list = if add { &mut self.added } else { &mut self.deleted };
        if !elements.is_empty() {
            list.push(SetElements { family, set: set.into(), elements });
        }
        true
    }
}

impl Delta {
    /// One for `nft -j -f -` (libnftables-json(5)).
    pub(in crate::firewall) fn json(input: String, commands: Vec<String>) -> Self {
        Self { json: true, input, parts: None, commands }
    }

    /// One for `nft -f -` (nft(8)).
    pub(in crate::firewall) fn text(input: String, commands: Vec<String>) -> Self {
        Self { json: false, input, parts: None, commands }
    }

    /// The same by messages of hostctl's own.
    pub(in crate::firewall) fn by(self, parts: Option<Parts>) -> Self {
        Self { parts, ..self }
    }

    /// How it is done by messages of hostctl's own; nothing where something in it
    /// is known to nft alone.
    pub(in crate::firewall) fn parts(&self) -> Option<&Parts> {
        self.parts.as_ref()
    }

    /// Whether nft has to do what was tried, alone: where what it makes of rules
    /// can't be had here, or is refused, which only nft can explain. Nothing was
    /// changed then.
    pub(in crate::firewall) fn is_nfts(&self, tried: &Result<(), NftError>) -> bool {
        let refused =
            matches!(tried, Err(NftError::Lend(_) | NftError::Elements(ElementsError::Transaction(_))));
        refused && !self.is_elements()
    }

    /// Whether nft needn't be started for it.
    pub fn is_elements(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.rules.is_empty())
    }

    /// That the kernel has each element that it touches as it leaves it, and
    /// none of those that it takes. They are asked for by their keys. Of a change
    /// that nft alone knows, nothing is asked.
    ///
    /// # Errors
    /// The first that is otherwise, and where the kernel doesn't answer.
    pub fn verify(&self) -> Result<(), ElementsError> {
        self.parts.as_ref().map_or(Ok(()), |parts| read_back::check(&parts.deleted, &parts.added))
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
