//! A user name and a password, in a type that cannot leak them by accident.
//!
//! Nothing here is ever printed: neither `Debug` nor an error shows the user, the password or the
//! length of either. The values leave only through [`Credentials::user`] and the password accessor
//! of the digest computation.

use std::fmt;

/// A user name and a password for one server.
///
/// Two connections may be shared only if their credentials are equal, hence `Eq` and `Hash`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    user: String,
    password: Secret,
}

impl Credentials {
    /// Takes a user name and a password as they are, without any decoding.
    ///
    /// # Errors
    ///
    /// Control characters (CR, LF, NUL ...) are refused in both: in a header they would start a
    /// line of their own.
    pub fn new(
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Self, InvalidCredentials> {
        let (user, password) = (user.into(), password.into());
        if user.chars().any(char::is_control) {
            return Err(InvalidCredentials::ControlCharacterInUser);
        }
        if password.chars().any(char::is_control) {
            return Err(InvalidCredentials::ControlCharacterInPassword);
        }
        Ok(Self {
            user,
            password: Secret(password),
        })
    }

    /// The user name. Not for logs: on many cameras it is half of the secret.
    pub fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn password(&self) -> &str {
        &self.password.0
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// A string whose `Debug` shows nothing, not even its length.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a user name and password cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidCredentials {
    /// The user name contains a control character.
    ControlCharacterInUser,
    /// The password contains a control character.
    ControlCharacterInPassword,
    /// The percent-encoded user or password of a URL does not decode to UTF-8.
    NotUtf8,
}

impl fmt::Display for InvalidCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlCharacterInUser => "the user name contains a control character",
            Self::ControlCharacterInPassword => "the password contains a control character",
            Self::NotUtf8 => "the user or password in the URL does not decode to UTF-8",
        })
    }
}

impl std::error::Error for InvalidCredentials {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_user_nor_password_nor_length() {
        let short = format!("{:?}", Credentials::new("admin", "x").unwrap());
        let long = format!(
            "{:?}",
            Credentials::new("operator", "x".repeat(40)).unwrap()
        );
        assert_eq!(short, long);
        assert!(!short.contains("admin") && !short.contains('x'), "{short}");
    }

    #[test]
    fn control_characters_are_refused() {
        for bad in ["a\rb", "a\nb", "a\0b", "\u{7f}", "\u{85}"] {
            assert_eq!(
                Credentials::new(bad, "pw"),
                Err(InvalidCredentials::ControlCharacterInUser)
            );
            assert_eq!(
                Credentials::new("user", bad),
                Err(InvalidCredentials::ControlCharacterInPassword)
            );
        }
    }

    #[test]
    fn other_special_characters_are_taken_as_they_are() {
        let credentials = Credentials::new("us:er", "p@ss:w/ö%41\"\\").unwrap();
        assert_eq!(credentials.user(), "us:er");
        assert_eq!(credentials.password(), "p@ss:w/ö%41\"\\");
    }

    #[test]
    fn an_empty_password_differs_from_another() {
        let empty = Credentials::new("admin", "").unwrap();
        assert_ne!(empty, Credentials::new("admin", "admin").unwrap());
    }
}
