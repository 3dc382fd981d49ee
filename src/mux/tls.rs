//! TLS options: what a TLS connection trusts, and the client certificate it shows.
//!
//! All of it is part of the [`ConnectionKey`](super::server_key::ConnectionKey): a session that wants
//! the server's certificate checked must not end up on a connection where it was not.

mod decisions;

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};

pub(super) use self::decisions::Decisions;
pub use self::decisions::{ClientCertificate, ServerCertificate, TlsDecisions};

/// How TLS connections are made, for `rtsps` URLs; without effect for others. Sessions share
/// connections only if their options are equal.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsOptions {
    /// What the server's certificate must satisfy. Default: everything.
    pub checks: CertificateChecks,
    pub(super) authorities: Arc<[CertificateDer<'static>]>,
    pub(super) client: Option<Arc<ClientIdentity>>,
    pub(super) fingerprint: Option<CertificateFingerprint>,
    pub(super) decisions: Option<Decisions>,
}

impl TlsOptions {
    /// Trusts the certificates of `pem` in addition to the system's authorities: either other
    /// authorities, or the server's own certificate, which is then trusted as it is.
    ///
    /// # Errors
    ///
    /// [`InvalidTls::Pem`], [`InvalidTls::NoCertificate`].
    pub fn with_authorities(mut self, pem: &[u8]) -> Result<Self, InvalidTls> {
        self.authorities = certificates(pem)?.into();
        Ok(self)
    }

    /// Shows the server the certificate that `chain` begins with, if it asks for one. Both are PEM,
    /// and both may be in the same text.
    ///
    /// # Errors
    ///
    /// There is no certificate or no key, the key is of a kind that is not supported (RSA, ECDSA and
    /// Ed25519 in PKCS #8, RSA in PKCS #1 and ECDSA in SEC1 are; none with a passphrase), or it is
    /// not that of the certificate.
    pub fn with_client_certificate(mut self, chain: &[u8], key: &[u8]) -> Result<Self, InvalidTls> {
        self.client = Some(Arc::new(ClientIdentity::from_pem(chain, key)?));
        Ok(self)
    }

    /// Trusts the certificate with this SHA-256 fingerprint, and no other one: the certificate itself is the
    /// server's identity. Its names, its dates and its issuer do not count, nor do [`checks`](Self::checks).
    /// For servers that made their certificate themselves, for names that they do not have.
    ///
    /// `text` is the fingerprint in hexadecimal digits, as `openssl x509 -fingerprint -sha256` and the error
    /// about a certificate print it: with or without colons, blanks, and a name before `=`.
    ///
    /// # Errors
    ///
    /// [`InvalidTls::Fingerprint`].
    pub fn with_fingerprint(mut self, text: &str) -> Result<Self, InvalidTls> {
        self.fingerprint = Some(CertificateFingerprint::parse(text)?);
        Ok(self)
    }

    pub(super) fn has_decisions(&self) -> bool {
        self.decisions.is_some()
    }

    /// Lets the application decide in each handshake.
    #[must_use]
    pub fn with_decisions(mut self, decisions: Arc<dyn TlsDecisions>) -> Self {
        self.decisions = Some(Decisions(decisions));
        self
    }
}

/// Leaves out the key, and shows only the number of certificates.
impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("checks", &self.checks)
            .field("authorities", &self.authorities.len())
            .field("client", &self.client.is_some())
            .field("fingerprint", &self.fingerprint)
            .field("decisions", &self.decisions.is_some())
            .finish()
    }
}

/// What is checked of a server's certificate. The names are read from its `subjectAltName` only.
/// Whether it was revoked is not found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CertificateChecks {
    /// The certificate was issued by a trusted authority. Without this check an attacker between us
    /// and the server can read everything, passwords included.
    pub authority: bool,
    /// The certificate is for the host of the URL. An IP address is a name like any other, and must
    /// be in the certificate.
    pub identity: bool,
    /// The certificate is already valid.
    pub not_yet_valid: bool,
    /// The certificate has not expired.
    pub expired: bool,
    /// The certificate is well formed, is for servers, and has a signature that is considered safe.
    /// Always checked together with `authority`.
    pub form: bool,
}

impl CertificateChecks {
    /// Checks nothing: any certificate is accepted.
    pub const NONE: Self = Self::all(false);

    const fn all(is_on: bool) -> Self {
        Self {
            authority: is_on,
            identity: is_on,
            not_yet_valid: is_on,
            expired: is_on,
            form: is_on,
        }
    }
}

impl Default for CertificateChecks {
    fn default() -> Self {
        Self::all(true)
    }
}

/// A client certificate with its chain and its key.
#[derive(PartialEq, Eq)]
pub(crate) struct ClientIdentity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, InvalidTls> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| InvalidTls::NoKey)?;
        let identity = Self { chain, key };
        identity.certified().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => InvalidTls::OtherKey,
            _ => InvalidTls::UnusableKey,
        })?;
        Ok(identity)
    }

    /// As rustls shows it to a server.
    pub(super) fn certified(&self) -> Result<CertifiedKey, rustls::Error> {
        let provider = ring::default_provider();
        CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider)
    }
}

/// Equal identities have equal chains; the key is left out.
impl Hash for ClientIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.chain.hash(state);
    }
}

/// The SHA-256 digest of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CertificateFingerprint([u8; 32]);

impl CertificateFingerprint {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    fn parse(text: &str) -> Result<Self, InvalidTls> {
        let digits = text.rsplit('=').next().unwrap_or_default();
        let is_digit = |it: &char| !matches!(it, ':' | ' ');
        let digits: Option<Vec<u8>> = (digits.trim().chars().filter(is_digit))
            .map(|it| it.to_digit(16).and_then(|it| u8::try_from(it).ok()))
            .collect();
        let digits = digits.filter(|digits| digits.len() == 64);
        let digits = digits.ok_or(InvalidTls::Fingerprint)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |sum, digit| sum << 4 | digit);
        }
        Ok(Self(bytes))
    }
}

/// As openssl prints it.
impl fmt::Display for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colons = std::iter::once("").chain(std::iter::repeat(":"));
        colons
            .zip(self.0)
            .try_for_each(|(colon, byte)| write!(f, "{colon}{byte:02X}"))
    }
}

impl fmt::Debug for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why TLS options cannot be used. Says nothing of what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTls {
    /// The text is not PEM (RFC 7468).
    #[error("it is not PEM")]
    Pem,
    /// There is no certificate in it.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// There is no private key in it, or it has a passphrase.
    #[error("there is no private key in it, or it has a passphrase")]
    NoKey,
    /// The private key is of a kind that is not supported.
    #[error("the private key is of a kind that is not supported")]
    UnusableKey,
    /// The private key is not that of the certificate.
    #[error("the private key is not that of the certificate")]
    OtherKey,
    /// It is not the SHA-256 fingerprint of a certificate.
    #[error("it is no SHA-256 fingerprint: 64 hexadecimal digits, with or without colons")]
    Fingerprint,
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(none) if none.is_empty() => Err(InvalidTls::NoCertificate),
        Ok(found) => Ok(found),
        Err(_) => Err(InvalidTls::Pem),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Certificate and key, in one text.
    fn identity(name: &str) -> String {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        made.cert.pem() + &made.signing_key.serialize_pem()
    }

    fn with_client(identity: &str) -> Result<TlsOptions, InvalidTls> {
        let pem = identity.as_bytes();
        TlsOptions::default().with_client_certificate(pem, pem)
    }

    fn pinned(text: &str) -> Result<TlsOptions, InvalidTls> {
        TlsOptions::default().with_fingerprint(text)
    }

    /// Not of size zero, so that each has an address of its own.
    struct Decider(#[expect(dead_code, reason = "for its size")] u8);

    impl TlsDecisions for Decider {}

    #[test]
    fn a_fingerprint_is_read_as_it_is_printed() {
        let bytes: Vec<String> = (0..32).map(|it| format!("{:02X}", it * 7)).collect();
        let colons = bytes.join(":");
        let options = pinned(&colons).unwrap();
        assert_eq!(options.fingerprint.unwrap().to_string(), colons);
        for same in [
            bytes.concat(),
            colons.to_lowercase(),
            bytes.join(" "),
            format!("sha256 Fingerprint={colons}\n"),
        ] {
            assert_eq!(pinned(&same).unwrap(), options, "{same}");
        }
        for none in ["", "=", "00", &colons[1..], &format!("{colons}:00"), "g"] {
            assert_eq!(pinned(none), Err(InvalidTls::Fingerprint), "{none}");
        }
    }

    #[test]
    fn whatever_differs_makes_other_options() {
        let base = TlsOptions::default();
        let change = |change: fn(&mut CertificateChecks)| {
            let mut changed = base.clone();
            change(&mut changed.checks);
            changed
        };
        let (one, two) = (identity("one"), identity("two"));
        let trusting = |pem: &str| base.clone().with_authorities(pem.as_bytes()).unwrap();
        let all = [
            base.clone(),
            change(|checks| checks.authority = false),
            change(|checks| checks.identity = false),
            change(|checks| checks.not_yet_valid = false),
            change(|checks| checks.expired = false),
            change(|checks| checks.form = false),
            change(|checks| *checks = CertificateChecks::NONE),
            trusting(&one),
            trusting(&two),
            with_client(&one).unwrap(),
            with_client(&two).unwrap(),
            pinned(&"0".repeat(64)).unwrap(),
            pinned(&"1".repeat(64)).unwrap(),
            base.clone().with_decisions(Arc::new(Decider(0))),
            base.clone().with_decisions(Arc::new(Decider(0))),
        ];
        let count = all.len();
        assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), count);
        assert_eq!(with_client(&one), with_client(&one));
    }

    #[test]
    fn what_cannot_be_used_is_refused_at_once() {
        let (one, two) = (identity("one"), identity("two"));
        let trusting = |pem: &str| TlsOptions::default().with_authorities(pem.as_bytes());
        let broken = "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n";
        assert_eq!(trusting(""), Err(InvalidTls::NoCertificate));
        assert_eq!(trusting(broken), Err(InvalidTls::Pem));
        let certificate = &one[..one.find("-----BEGIN PRIVATE").unwrap()];
        assert_eq!(with_client(certificate), Err(InvalidTls::NoKey));
        let others = TlsOptions::default().with_client_certificate(one.as_bytes(), two.as_bytes());
        assert_eq!(others, Err(InvalidTls::OtherKey));
    }

    #[test]
    fn the_private_key_is_not_shown() {
        let identity = identity("one");
        let options = with_client(&identity).unwrap();
        let key = options.client.as_ref().unwrap().key.secret_der();
        let shown = format!("{options:?} {options:#?}");
        let bytes = format!("{}, {}, {}", key[40], key[41], key[42]);
        assert!(!shown.contains(&bytes), "{shown}");
        assert!(shown.contains("client: true"), "{shown}");
    }
}
