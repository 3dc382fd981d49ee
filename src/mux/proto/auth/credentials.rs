//! A user name and a password, in a type that cannot leak them by accident, and the permits to use
//! them.
//!
//! Nothing here is ever printed: neither `Debug` nor an error shows the user, the password or the
//! length of either. The values leave only through [`Credentials::user`] and the password accessor
//! of the digest computation.
//!
//! # Permits
//!
//! Cameras lock accounts after a few wrong passwords (fault F22). So until a server has accepted
//! the credentials, a connection asks for a permit before it sends a request that may end in a try
//! of the password. `policy/credential_gate.rs` decides for all connections together.

use std::{
    collections::hash_map::DefaultHasher,
    fmt,
    hash::{Hash as _, Hasher as _},
    time::Instant,
};

/// A user name and a password for one server.
///
/// Two connections may be shared only if their credentials are equal, hence `Eq` and `Hash`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    user: String,
    password: String,
    /// The only realm that they are for.
    pub(super) realm: Option<Tag>,
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
            password,
            realm: None,
        })
    }

    /// The same, to be used by Digest and for this realm only: a password that goes by Basic, or a
    /// digest for a realm that the server has chosen, would give it away.
    pub(crate) fn confined_to(mut self, realm: Tag) -> Self {
        self.realm = Some(realm);
        self
    }

    /// The user name. Not for logs: on many cameras it is half of the secret.
    pub fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// Why a user name and password cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCredentials {
    /// The user name contains a control character.
    #[error("the user name contains a control character")]
    ControlCharacterInUser,
    /// The password contains a control character.
    #[error("the password contains a control character")]
    ControlCharacterInPassword,
}

/// A hash of a URI, realm or nonce: tells two of them apart, and shows nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u64);

impl Tag {
    /// The tag of a text.
    pub fn of(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// How strong an authentication is, weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strength {
    /// The password in clear text.
    #[default]
    Basic,
    /// Digest with MD5.
    Md5,
    /// Digest with SHA-256.
    Sha256,
    /// Digest with SHA-512-256.
    Sha512,
}

/// A request that waits for a permit to use the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialWant {
    /// The presentation it belongs to.
    pub uri: Tag,
    /// The server has refused it with a stronger algorithm than it would use now.
    pub is_weaker: bool,
    /// The server has accepted the credentials for this presentation before.
    pub was_accepted: bool,
}

/// A permit to use the credentials for one request: first without them, then with them once the
/// server has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The presentation of the request.
    pub uri: Tag,
    /// Use an algorithm weaker than this one, if the server offers one: this one was refused.
    pub below: Option<Strength>,
    /// Use none stronger than this one, if the server offers it: a stronger one is known to fail.
    pub ceiling: Option<Strength>,
    /// The server is known to close connections after a 401.
    pub closes_behind_401: bool,
}

/// What all connections together know of the credentials of this server and user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialStatus {
    /// The server has not accepted them. Requests that carry them need a permit; where
    /// `is_exclusive`, so do those that may be answered with a challenge.
    Unproven {
        /// Two challenges at a time would invalidate each other.
        is_exclusive: bool,
    },
    /// This connection may try the credentials.
    Permitted(Permit),
    /// The server has accepted them; with this algorithm, if it had refused a stronger one.
    Proven(Option<Strength>),
    /// Answers the last question: the credentials are not tried before this time.
    Refused {
        /// When they may be tried again.
        until: Instant,
        /// True if the server has refused them; false if its answers so far say nothing about them
        /// (404, 503).
        was_refused: bool,
    },
    /// Answers the last question: not yet. The connection asks again at this time.
    AskAgain {
        /// When to ask again.
        at: Instant,
    },
}

impl Default for CredentialStatus {
    fn default() -> Self {
        Self::Unproven {
            is_exclusive: false,
        }
    }
}

/// Why a connection returns a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitReturn {
    /// No request with the credentials was sent, and none is wanted any more.
    Unused,
    /// The answer to the request says nothing about the credentials (404, 503).
    Undecided,
    /// The answer does not count as a try: the nonce was stale.
    Excused,
    /// There is no answer so far.
    Unanswered,
    /// The server closed the connection after its 401, and may not have read the try.
    Unseen,
}

/// A 401 to a request which, as far as this connection knows, can only be due to the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The presentation of the request.
    pub uri: Tag,
    /// The realm whose challenge was answered.
    pub realm: Tag,
    /// The nonce that was answered.
    pub nonce: Tag,
    /// The server has sent the same nonce again: it uses one nonce for good.
    pub is_same_nonce: bool,
    /// The server made the answered challenge after this time.
    pub challenged: Instant,
    /// The algorithm.
    pub strength: Strength,
    /// The 401 also offers a weaker algorithm.
    pub offers_weaker: bool,
}

/// The verdict on a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalVerdict {
    /// The refusal counts.
    Refused {
        /// Ask for a permit to repeat the request with a weaker algorithm of the same answer.
        try_weaker: bool,
    },
    /// Another connection was challenged meanwhile: answer the newest challenge.
    Excused,
}

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
