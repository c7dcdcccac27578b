//! The vm room.
