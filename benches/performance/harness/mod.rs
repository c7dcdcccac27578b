//! What the questions share.

mod extent;
pub mod host;
pub mod layouts;
pub mod program;
mod report;
mod sample;
pub mod specs;

pub use extent::Extent;
pub use report::{Aim, Plot, Report, Series, Table, bytes, seconds};
pub use sample::{Sample, in_turn};
