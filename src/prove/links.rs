//! Links as numbers. Rules ask for a link's name, or for the kernel's number of
//! it: another link may bear the name of one.

use std::collections::{BTreeMap, HashMap};

use crate::packet::Range;
use crate::topology::IfName;

/// Every link that rules or the spec name, and one that nobody names.
#[derive(Debug, Default)]
pub struct LinkNumbers {
    names: Vec<String>,
    numbers: HashMap<String, Range>,
    indices: HashMap<u32, u128>,
    /// Whether each name may be another link's too.
    twins: bool,
}

/// The link that nobody names.
pub const NOBODYS: u128 = 0;

impl LinkNumbers {
    /// The `exact` ones are asked for by the kernel's number too, where it has
    /// one.
    pub fn new<'n>(exact: impl IntoIterator<Item = &'n IfName>, indices: &BTreeMap<IfName, u32>) -> Self {
        let mut all = Self { names: vec!["any other link".into()], ..Self::default() };
        for name in exact {
            if all.numbers.contains_key(name.as_str()) {
                continue;
            }
            let number = all.number(name.as_str()).0;
            all.names.push(format!("another link that is called {name}"));
            all.numbers.insert(name.as_str().into(), (number, number + 1));
            all.indices.extend(indices.get(name).map(|index| (*index, number)));
        }
        all
    }

    /// Where it isn't known which names rules mean by number: from now on each
    /// name is two links', the one that is meant and another that is called so.
    pub fn with_twins(self) -> Self {
        Self { twins: true, ..self }
    }

    /// All links of a name; the first of them is the one that the spec means.
    pub fn number(&mut self, name: &str) -> Range {
        if let Some(range) = self.numbers.get(name) {
            return *range;
        }
        let number = u128::try_from(self.names.len()).unwrap_or(u128::MAX);
        self.names.push(name.into());
        if self.twins {
            self.names.push(format!("another link that is called {name}"));
        }
        let range = (number, number + u128::from(self.twins));
        self.numbers.insert(name.into(), range);
        range
    }

    /// All links of a name, where it is known.
    pub fn known(&self, name: &str) -> Option<Range> {
        self.numbers.get(name).copied()
    }

    /// The link with the kernel's number.
    pub fn index(&self, index: u32) -> Option<u128> {
        self.indices.get(&index).copied()
    }

    /// What a number's link is called.
    pub fn name(&self, number: u128) -> &str {
        usize::try_from(number).ok().and_then(|number| self.names.get(number)).map_or("", String::as_str)
    }

    /// The names that somebody names, each once.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let first = |name: &&String| self.numbers.contains_key(*name);
        self.names.iter().skip(1).filter(first).map(String::as_str)
    }

    /// The highest number.
    pub fn last(&self) -> u128 {
        u128::try_from(self.names.len()).unwrap_or(u128::MAX).saturating_sub(1)
    }
}
