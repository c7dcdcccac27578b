//! The second oracle: what the kernel lists of hostctl's tables, evaluated.
//!
//! It shares nothing with the renderer and nothing with the reachability
//! model: it reads `nft -j list ruleset` and lets a flow's first packet pass
//! its chains, hook by hook, as nft(8) and the kernel's netfilter hooks say.
//! Of nft it knows what hostctl emits. Whatever else stands in a listing is an
//! error, so that no rule is passed over in silence.

mod evaluate;
mod expression;
mod listing;
mod packet;
mod set;
mod statement;
mod value;
mod way;

pub use evaluate::{Hook, Trace};
pub use listing::Tables;
pub use packet::Packet;
pub use value::{index, name};
pub use way::Host;

/// Something in a listing, or asked of a packet, that the interpreter doesn't
/// know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the interpreter doesn't know {0}")]
pub struct Unknown(pub String);
