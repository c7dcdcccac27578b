//! What rules ask of sets, where what the sets hold is left open.

use crate::reach::subject::Field;

use super::super::diagram::{Diagram, Diagrams};
use super::super::header::Header;
use super::Unknown;
use super::listing::Table;
use super::statement::Set;

/// Says what it means that a set has an element.
pub trait Meaning {
    /// Where a set has an element for these fields, or a map a value, and which;
    /// none where it is meant what the listing shows of it.
    ///
    /// # Errors
    /// Where nobody says what it means.
    fn look_up(
        &self,
        diagrams: &mut Diagrams,
        header: &Header,
        of: (&Table, &Set),
        fields: &[Field],
    ) -> Result<Option<Diagram>, Unknown>;
}
