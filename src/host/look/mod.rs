//! What a look at the host says: status, what could go wrong, who reaches whom.

pub(super) mod advice;
pub(super) mod connectivity;
pub(super) mod doctor;
pub(super) mod flow_room;
pub(super) mod proof;
pub(super) mod reliance;
pub(super) mod status;
