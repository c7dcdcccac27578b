//! The questions, one file each. The bench asks them, and a test sets the stage
//! of each up once, so that none stops to work without anybody noticing.

pub mod harness;

mod full_apply;
mod growth;
mod guests;
mod offload;
mod packets;
mod planning;
mod proof;
mod ruleset_load;
mod setup_commands;

use harness::{Extent, Report};

/// A question's name, and who answers it.
pub type Question = (&'static str, fn(&Extent) -> Report);

/// In the order of the page.
pub const QUESTIONS: [Question; 9] = [
    ("setup-commands", setup_commands::ask),
    ("ruleset-load", ruleset_load::ask),
    ("packets", packets::ask),
    ("growth", growth::ask),
    ("full-apply", full_apply::ask),
    ("planning", planning::ask),
    ("proof", proof::ask),
    ("guests", guests::ask),
    ("offload", offload::ask),
];
