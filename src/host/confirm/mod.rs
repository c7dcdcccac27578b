//! Applies that somebody has to confirm in time.

pub(super) mod unconfirmed;
pub(super) mod until_confirmed;
pub(super) mod watchdog;
