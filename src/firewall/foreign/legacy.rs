//! iptables-legacy's tables, which nft doesn't show: what
//! `iptables-restore-translate` makes of them in nft's words, as tables of
//! their own.

use serde_json::Value;

use crate::bounded::printable;
use crate::firewall::live::listing::UnexpectedListing;

use super::ruleset::Foreign;

/// Before the names of these tables. nft's have no space.
const PREFIX: &str = "legacy ";

/// Longer texts are cut off, in characters.
const TEXT_MAX: usize = 200;

/// What couldn't be judged of a family's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unjudged {
    /// `ip` or `ip6`.
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
        let renamed = |body: &mut Value| {
            if let Some(name) = body.get_mut("table") {
                *name = format!("{PREFIX}{}", name.as_str().unwrap_or_default()).into();
            }
        };
        for ((family, table, name), mut chain) in tables.chains {
            // Their numbers are the scratch table's.
            chain.rules.iter_mut().for_each(|rule| rule.handle = None);
            renamed(&mut chain.body);
            self.chains.insert((family, format!("{PREFIX}{table}"), name), chain);
        }
        for (kind, mut body) in tables.others {
            renamed(&mut body);
            self.others.push((kind, body));
        }
        Ok(())
    }

    /// Notes that something of a family's legacy tables isn't known.
    pub fn add_unjudged_legacy(&mut self, family: &str, what: impl Into<String>) {
        // A rule's comment is anybody's text, and this ends up on a terminal.
        let what = printable(&what.into(), TEXT_MAX);
        self.unjudged.push(Unjudged { family: family.into(), what });
    }
}

/// A table's name with iptables-legacy, where it is one of its.
pub fn legacy_table(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}

/// The rules that a translation has only as comments.
pub fn untranslated(translation: &str) -> Vec<&str> {
    translation.lines().filter_map(|line| line.strip_prefix("# -t ")).map(str::trim).collect()
}
