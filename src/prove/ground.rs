//! What the packets of one kind have in common, whoever sends them: their
//! diagrams, and what is known by these.

use crate::reach::subject::{Field, Kind};

use super::diagram::Diagrams;
use super::grain::{GRAINED, Missing, Starts};
use super::header::Header;
use super::links::LinkNumbers;
use super::rules::run::Shared;
use super::rules::{Tables, Unknown};
use super::space::Known;

/// Nodes after which a thread begins anew: what senders share is worth keeping,
/// up to some hundred megabytes.
const NODES: usize = 1_500_000;

/// More grains of one field than rules have are kept up to so many.
const GRAINS: usize = 64;

/// Grains are divided no oftener; each time they are by all ends that were asked
/// for and met none.
const DIVISIONS: usize = 1000;

/// Of one kind.
#[derive(Debug)]
pub struct Ground {
    pub diagrams: Diagrams,
    pub known: Known,
    pub shared: Shared,
    /// By which values packets are told apart that rules and model ask for: as
    /// rules say, and what else turned up.
    starts: Starts,
    more: Starts,
    missing: Missing,
    header: Header,
    last_link: u128,
}

impl Ground {
    /// That of packets of `kind`, for these rules.
    pub fn new(kind: Kind, rules: &[&Tables], links: &LinkNumbers) -> Self {
        let mut starts = Starts::default();
        for tables in rules {
            tables.divide(kind, &mut starts);
        }
        let (missing, last_link) = (Missing::default(), links.last());
        let header = Header::new(kind, &starts, &missing, last_link);
        Self {
            diagrams: Diagrams::default(),
            known: Known::default(),
            shared: Shared::default(),
            starts,
            more: Starts::default(),
            missing,
            header,
            last_link,
        }
    }

    /// All headers.
    pub fn header(&self) -> Header {
        self.header.clone()
    }

    /// Tells the values of some fields apart only where a sender's packets may
    /// fare differently: where `starts` says, and what turned up.
    pub fn narrow(&self, header: &mut Header, starts: &Starts, fields: &[Field]) {
        for field in fields {
            let mut of = starts.of(*field);
            of.extend(self.more.of(*field));
            header.narrow(*field, &of);
        }
    }

    /// Works until no end of a range was asked for that lies within a grain.
    ///
    /// # Errors
    /// As the work says.
    pub fn settled<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, Unknown>,
    ) -> Result<T, Unknown> {
        if self.diagrams.len() > NODES {
            self.begin_anew();
        }
        for field in GRAINED {
            if self.more.len(field) > GRAINS {
                self.more.forget(field);
            }
        }
        for _ in 0..DIVISIONS {
            let done = work(self);
            let missing = std::mem::take(&mut *self.missing.borrow_mut());
            if missing.is_empty() {
                return done;
            }
            let mut anew = false;
            for (field, value) in missing {
                self.more.begin(field, value);
                anew |= self.starts.begin(field, value);
            }
            if anew {
                self.begin_anew();
            }
            // What was told of is lost with the work.
            self.diagrams.tell_again();
        }
        Err(Unknown("which values are told apart: there is no end of them".into()))
    }

    fn begin_anew(&mut self) {
        self.diagrams = Diagrams::default();
        self.known = Known::default();
        self.shared.clear();
        self.header = Header::new(self.header.kind, &self.starts, &self.missing, self.last_link);
    }
}
