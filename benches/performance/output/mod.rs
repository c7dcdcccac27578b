//! What the bench writes: reports, the page, its pictures.

pub mod machine;
pub mod page;
mod plot;
