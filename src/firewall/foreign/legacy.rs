//! iptables-legacy's tables, which nft doesn't show: what
//! `iptables-restore-translate` makes of them in nft's words, as tables of
//! their own.

use crate::bounded::printable;
use crate::firewall::live::listing::UnexpectedListing;

use super::ruleset::Foreign;

/// Before the names of these tables. nft's have no space.
pub(super) const PREFIX: &str = "legacy ";

/// Longer texts are cut off, in characters.
const TEXT_MAX: usize = 200;

/// What couldn't be judged of a family's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unjudged {
    pub family: String,
    /// Why, or which rules.
    pub what: String,
}

impl Foreign {
    /// Adds the tables of a family, from the listing of a namespace into which
    /// their translation was loaded.
    ///
    /// # Errors
    /// Where the text isn't nft's JSON.
    pub fn add_legacy(&mut self, json: &str) -> Result<(), UnexpectedListing> {
        let mut tables = Self::default();
        tables.add(json)?;
        for ((family, table, name), mut chain) in tables.chains {
            // Their numbers are the scratch table's.
            chain.rules.iter_mut().for_each(|rule| rule.handle = None);
            self.chains.insert((family, format!("{PREFIX}{table}"), name), chain);
        }
        Ok(())
    }

    /// Notes that something of a family's legacy tables isn't known.
    pub fn add_unjudged_legacy(&mut self, family: &str, what: impl Into<String>) {
        // A rule's comment is anybody's text, and this ends up on a terminal.
        let what = printable(&what.into(), TEXT_MAX);
        self.legacy_unjudged.push(Unjudged { family: family.into(), what });
    }
}

/// The rules that a translation has only as comments.
pub fn untranslated(translation: &str) -> Vec<&str> {
    translation.lines().filter_map(|line| line.strip_prefix("# -t ")).map(str::trim).collect()
}
