//! Applies that somebody has to confirm in time. What is written down
//! ([`unconfirmed::Record`]) is one of three:
//!
//! ```text
//!             apply --confirm 60s
//!   nothing ──────────────────────► waiting, being applied
//!    ▲ ▲ ▲                            │  │  │ its process died, or takes
//!    │ │ └─ it failed: taken back ────┘  │  │ longer than it may
//!    │ │                                 │  └───────────────────┐
//!    │ │                                 │ applied: now the     │
//!    │ │                                 ▼ time runs            │
//!    │ └── confirm,  ────────────────── waiting, generation N   │
//!    │     rollback to N                 │ the time is over,    │
//!    │                                   │ or the machine booted│
//!    │                                   ▼                      │
//!    │          the host returns to what was confirmed last  ◄──┘
//!    │                                   │
//!    │ another spec is applied,          ▼
//!    └─ or somebody rolls back to it ── rejected ── --confirm ──► waiting
//! ```
//!
//! It is written before anything is touched, so that a killed process or a
//! reboot is nobody's confirmation. A watchdog ([`watchdog`]) of its own session
//! returns the host, since whoever applied may have cut off their terminal;
//! where it is gone too, the next command does. `rejected` is kept so that the
//! same spec isn't applied again by a boot or a timer, where nobody is there
//! to confirm it.

pub(super) mod unconfirmed;
pub(super) mod until_confirmed;
pub(super) mod watchdog;
