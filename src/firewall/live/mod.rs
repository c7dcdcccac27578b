//! What the kernel has: listed, compared with what it should have, changed, held.

pub(super) mod as_loaded;
pub(super) mod batch;
pub(super) mod change;
pub(super) mod delta;
pub(super) mod deviation;
pub(super) mod difference;
pub(super) mod element;
pub(super) mod element_message;
pub(super) mod field;
pub(super) mod known;
pub(super) mod lent_socket;
pub(super) mod listing;
pub(super) mod message;
pub mod nft;
pub(super) mod owner;
pub(super) mod read_back;
pub(super) mod rule_text;
pub(super) mod stamp;
pub(super) mod statics;
pub(super) mod tables;
pub(super) mod transaction;
