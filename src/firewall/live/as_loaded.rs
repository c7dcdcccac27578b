//! Whether the kernel has elements as they were loaded, asked for by their keys.

use strum::IntoEnumIterator;

use super::element::Kind;
use super::element_message::SetElements;
use super::read_back;
use super::transaction::ElementsError;
use crate::firewall::desired::ruleset::Ruleset;
use crate::firewall::desired::set::Set;
use crate::ownership::INET;

/// Whether each element of `ruleset` is there, with its value and its limits. One
/// that hostctl can't ask for counts as missing.
///
/// # Errors
/// Where the kernel doesn't answer.
pub fn is_as_loaded(ruleset: &Ruleset) -> Result<bool, ElementsError> {
    let sets = Set::iter().flat_map(|set| {
        let families = set.definition().families.iter().copied();
        families.map(move |family| (family, set.name().to_string(), ruleset.elements(set)))
    });
    let policies = ruleset.policies.iter().flat_map(|policy| policy.sets());
    let policies = policies.map(|(set, elements)| (INET, set, elements));
    let mut wanted = Vec::new();
    for (family, set, texts) in sets.chain(policies).filter(|(_, _, texts)| !texts.is_empty()) {
        let Some(kind) = Kind::named(&set) else { return Ok(false) };
        let elements: Option<Vec<_>> = texts.iter().map(|text| kind.element(text)).collect();
        let Some(elements) = elements else { return Ok(false) };
        wanted.push(SetElements { family, set, elements });
    }
    match read_back::check(&[], &wanted) {
        Ok(()) => Ok(true),
        Err(ElementsError::Otherwise { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
