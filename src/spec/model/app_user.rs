//! Whom an app runs as.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name of a user, in bytes (useradd(8)).
const NAME_MAX: usize = 32;
/// The kernel's "no id", as 32 bits and as the 16 that some programs still
/// have (setuid(2), credentials(7)).
const NOBODYS: [u32; 2] = [u32::MAX, 65_535];

/// Whom an app runs as: `www-data`, `1000`, or `1000:100`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AppUser {
    /// A user that the host knows by this name, with its group.
    Name(String),
    /// A user that the host knows by this number, with its group.
    Id(u32),
    /// Two numbers, whether the host knows them or not.
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

/// A text that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user is named as the host names it (www-data), or by number (1000), or by a user's and a group's \
     numbers (1000:100), not {0:?}"
)]
pub struct AppUserError(String);

impl AppUser {
    /// Whether it is root by its words alone; a host may know root by other
    /// names too.
    pub fn is_root(&self) -> bool {
        match self {
            Self::Name(name) => name == "root",
            Self::Id(uid) | Self::Ids { uid, .. } => *uid == 0,
        }
    }
}

impl FromStr for AppUser {
    type Err = AppUserError;

    fn from_str(text: &str) -> Result<Self, AppUserError> {
        let refused = || AppUserError(text.chars().take(2 * NAME_MAX).collect());
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.parse::<u32>().ok().filter(|id| plain && !NOBODYS.contains(id));
            number.ok_or_else(refused)
        };
        if let Some((uid, gid)) = text.split_once(':') {
            return Ok(Self::Ids { uid: number(uid)?, gid: number(gid)? });
        }
        let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let first = text.chars().next().ok_or_else(refused)?;
        if first.is_ascii_digit() {
            return Ok(Self::Id(number(text)?));
        }
        let named = first.is_ascii_alphabetic() || first == '_';
        if !named || text.len() > NAME_MAX || !text.chars().all(of_a_name) {
            return Err(refused());
        }
        Ok(Self::Name(text.into()))
    }
}

impl TryFrom<String> for AppUser {
    type Error = AppUserError;

    fn try_from(text: String) -> Result<Self, AppUserError> {
        text.parse()
    }
}

impl From<AppUser> for String {
    fn from(user: AppUser) -> Self {
        user.to_string()
    }
}

impl fmt::Display for AppUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(uid) => write!(f, "{uid}"),
            Self::Ids { uid, gid } => write!(f, "{uid}:{gid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_are_names_numbers_and_pairs_of_them() {
        let read = |text: &str| text.parse::<AppUser>();
        assert_eq!(read("www-data"), Ok(AppUser::Name("www-data".into())));
        assert_eq!(read("_apt"), Ok(AppUser::Name("_apt".into())));
        assert_eq!(read("1000"), Ok(AppUser::Id(1000)));
        assert_eq!(read("1000:100"), Ok(AppUser::Ids { uid: 1000, gid: 100 }));
        for text in
            ["", " ", "-x", "a b", "a/b", "a:b", "1000:", ":1", "1:2:3", "+1", "1a", "a\0", "..", "ä", "$x"]
        {
            assert!(read(text).is_err(), "{text:?}");
        }
        for text in ["4294967295", "4294967296", "65535", "1:4294967295", "65535:1", &"u".repeat(33)] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn root_is_known_by_name_and_number() {
        let is_root = |text: &str| text.parse::<AppUser>().unwrap().is_root();
        assert!(["root", "0", "0:0", "0:1000"].into_iter().all(is_root));
        assert!(!["roots", "1", "1:0"].into_iter().any(is_root));
    }

    proptest! {
        #[test]
        fn a_user_reads_back(text in "([a-z_][a-z0-9_.-]{0,31}|[1-9][0-9]{0,4}(:[1-9][0-9]{0,4})?)") {
            if let Ok(user) = text.parse::<AppUser>() {
                prop_assert_eq!(user.to_string(), text);
            }
        }

        #[test]
        fn nothing_panics(text in ".*") {
            let _ = text.parse::<AppUser>();
        }
    }
}
