//! Authentication as a server checks it: Basic (RFC 7617) and Digest (RFC 2617, RFC 7616), computed here.

use sha2::Digest as _;

use crate::support::rtsp::{Headers, Request};

/// What the server asks for.
#[derive(Debug, Clone)]
pub enum Auth {
    /// `Basic`.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// `Digest`, with a nonce per connection.
    Digest {
        /// The hash, and what goes with it.
        algorithm: Algorithm,
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

/// The digest algorithms a client has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5 without `qop` and `algorithm`, as most cameras do it (RFC 2069).
    LegacyMd5,
    /// MD5 with `qop="auth"`.
    Md5,
    /// MD5-sess with `qop="auth"`.
    Md5Sess,
    /// SHA-256 with `qop="auth"`.
    Sha256,
    /// SHA-512-256 with `qop="auth"`.
    Sha512Half,
}

impl Algorithm {
    fn token(self) -> &'static str {
        match self {
            Self::LegacyMd5 | Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha512Half => "SHA-512-256",
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::LegacyMd5 | Self::Md5 | Self::Md5Sess => hex(&md5::Md5::digest(text)),
            Self::Sha256 => hex(&sha2::Sha256::digest(text)),
            Self::Sha512Half => hex(&sha2::Sha512_256::digest(text)),
        }
    }
}

const REALM: &str = "mock";

/// The state of authentication on one connection.
#[derive(Debug, Default)]
pub(super) struct Guard {
    nonce_index: usize,
    uses: usize,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The value of WWW-Authenticate.
    pub(super) challenge: String,
    /// What a correct client would not have done, if it did.
    pub(super) violation: Option<String>,
}

impl Guard {
    /// Checks the Authorization of a request; a nonce is good for `rotate_after` requests.
    pub(super) fn check(
        &mut self,
        auth: &Auth,
        connection: usize,
        rotate_after: usize,
        request: &Request,
    ) -> Result<(), Refused> {
        let (algorithm, user, password) = match auth {
            Auth::Basic { user, password } => {
                let good = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
                return match request.headers.value("Authorization") {
                    Some(value) if value == good => Ok(()),
                    _ => Err(Refused {
                        challenge: format!("Basic realm=\"{REALM}\""),
                        violation: None,
                    }),
                };
            }
            Auth::Digest {
                algorithm,
                user,
                password,
            } => (*algorithm, user, password),
        };
        let nonce = format!("c{connection}n{}", self.nonce_index);
        let Some(given) = request.headers.value("Authorization") else {
            return Err(self.refuse(algorithm, connection, false, None));
        };
        let given = parameters(given);
        let is_stale = given.value("nonce") != Some(nonce.as_str());
        let expected = expected(algorithm, (user, REALM, password), &given, &request.method);
        if given.value("username") != Some(user.as_str())
            || given.value("response") != Some(expected.as_str())
        {
            return Err(self.refuse(algorithm, connection, false, None));
        }
        if given.value("uri") != Some(request.uri.as_str()) {
            let text = format!("digest uri {:?} for {}", given.value("uri"), request.uri);
            return Err(self.refuse(algorithm, connection, false, Some(text)));
        }
        if is_stale {
            return Err(self.refuse(algorithm, connection, true, None));
        }
        if self.uses >= rotate_after {
            self.nonce_index += 1;
            self.uses = 0;
            return Err(self.refuse(algorithm, connection, true, None));
        }
        self.uses += 1;
        let count = given.value("nc").map(|nc| usize::from_str_radix(nc, 16));
        if algorithm != Algorithm::LegacyMd5 && count != Some(Ok(self.uses)) {
            let text = format!("digest count {count:?} at use {} of the nonce", self.uses);
            return Err(self.refuse(algorithm, connection, false, Some(text)));
        }
        Ok(())
    }

    /// What a server answers to a user that it knows and does not let in.
    pub(super) fn challenge(&self, auth: Option<&Auth>, connection: usize) -> String {
        match auth {
            Some(Auth::Digest { algorithm, .. }) => {
                self.refuse(*algorithm, connection, false, None).challenge
            }
            Some(Auth::Basic { .. }) | None => format!("Basic realm=\"{REALM}\""),
        }
    }

    fn refuse(
        &self,
        algorithm: Algorithm,
        connection: usize,
        stale: bool,
        violation: Option<String>,
    ) -> Refused {
        let mut challenge = format!(
            "Digest realm=\"{REALM}\", nonce=\"c{connection}n{}\"",
            self.nonce_index
        );
        if algorithm != Algorithm::LegacyMd5 {
            challenge.push_str(&format!(", algorithm={}, qop=\"auth\"", algorithm.token()));
        }
        if stale {
            challenge.push_str(", stale=true");
        }
        Refused {
            challenge,
            violation,
        }
    }
}

/// RFC 7616, section 3.4.1.
pub(super) fn expected(
    algorithm: Algorithm,
    (user, realm, password): (&str, &str, &str),
    given: &Headers,
    method: &str,
) -> String {
    let field = |name| given.value(name).unwrap_or_default();
    let nonce = field("nonce");
    let mut secret = algorithm.hash(&format!("{user}:{realm}:{password}"));
    if algorithm == Algorithm::Md5Sess {
        secret = algorithm.hash(&format!("{secret}:{nonce}:{}", field("cnonce")));
    }
    let request = algorithm.hash(&format!("{method}:{}", field("uri")));
    let middle = match algorithm {
        Algorithm::LegacyMd5 => nonce.to_owned(),
        _ => format!(
            "{nonce}:{}:{}:{}",
            field("nc"),
            field("cnonce"),
            field("qop")
        ),
    };
    algorithm.hash(&format!("{secret}:{middle}:{request}"))
}

/// The `name=value` list after `Digest `.
pub(super) fn parameters(value: &str) -> Headers {
    let mut result = Headers::default();
    let list = value.strip_prefix("Digest ").unwrap_or_default();
    let mut quoted = false;
    let parts = list.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        result.push(name.trim(), value.trim().trim_matches('"'));
    }
    result
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 4648, section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            out.push(match place <= chunk.len() {
                true => char::from(ALPHABET[index as usize]),
                false => '=',
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        assert_eq!(
            base64(b"Aladdin:open sesame"),
            "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64(b"fooba"), "Zm9vYmE=");
    }

    #[test]
    fn parameters_keep_commas_within_quotes() {
        let given = parameters("Digest username=\"a,b\", nc=00000001, qop=auth");
        assert_eq!(given.value("username"), Some("a,b"));
        assert_eq!(given.value("nc"), Some("00000001"));
        assert_eq!(given.value("qop"), Some("auth"));
    }
}
