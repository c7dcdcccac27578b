//! What is wrong with a spec, by the path of the key: before it is known
//! which file and line the key stands in.

use std::fmt;

/// A key's place in the spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpecPath(pub Vec<Segment>);

/// One step of a [`SpecPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// A table's key.
    Key(String),
    /// An array's index, from 0.
    Index(usize),
}

/// A mistake that shows only when several keys are seen together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// The key that is wrong.
    pub path: SpecPath,
    /// What is wrong with it.
    pub message: String,
    /// What would be right.
    pub hint: String,
    /// Whether it may be no more than the result of another mistake: a
    /// reference to something that was itself refused.
    pub dangling: bool,
}

impl Issue {
    /// A mistake at `path`.
    pub fn new(path: SpecPath, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { path, message: message.into(), hint: hint.into(), dangling: false }
    }

    /// A reference at `path` to something that isn't there.
    pub fn dangling(path: SpecPath, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { dangling: true, ..Self::new(path, message, hint) }
    }
}

impl SpecPath {
    /// The path of nested keys.
    pub fn keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(keys.into_iter().map(|key| Segment::Key(key.into())).collect())
    }

    /// This path with one more key.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.0.push(Segment::Key(key.into()));
        self
    }

    /// This path with one more index.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(Segment::Index(index));
        self
    }
}

impl fmt::Display for SpecPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
