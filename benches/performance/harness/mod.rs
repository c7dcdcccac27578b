//! What the questions share.

pub mod host;
pub mod layouts;
pub mod machine;
pub mod page;
mod plot;
pub mod program;
mod report;
mod sample;
pub mod specs;

pub use report::{Aim, Plot, Report, Series, Table, bytes, seconds};
pub use sample::{Sample, in_turn, rounds};
