//! The pause before what crashed is started again.

use std::time::Duration;

/// The shortest pause.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// The pause after so many failures in a row: doubled with each.
pub(crate) fn backoff(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    BACKOFF_FIRST.saturating_mul(factor).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_and_never_overflows() {
        assert_eq!([1, 2, 3].map(|failures| backoff(failures).as_secs()), [1, 2, 4]);
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
        assert_eq!(backoff(0), BACKOFF_FIRST);
    }
}
