//! Running a program that may turn against the host: a QEMU that its guest has
//! taken over, a parser of guests' bytes. Whatever it uses is opened for it
//! beforehand; by itself it sees its own files and nothing else.
//!
//! | file | what |
//! |---|---|
//! | [`view`] | which of the host's files a program sees (pure) |
//! | [`room`] | the mount namespace that has those and no others |
//! | [`filter`] | the system calls and ioctls that it may make (pure) |
//! | [`limits`] | what it may take of the host |
//! | [`user`] | becoming somebody else |
//! | [`spawn`] | starting it so |

mod capabilities;
mod child;
mod filter;
mod limits;
mod room;
mod spawn;
mod user;
mod view;

pub(crate) use capabilities::keep_only;
pub(crate) use filter::Calls;
pub(crate) use limits::Limits;
pub(crate) use spawn::{Confinement, spawn};
pub use user::User;
