//! The firewall room.
