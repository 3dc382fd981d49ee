//! Certificates made for a test: authorities, and what they issue.
#![allow(
    dead_code,
    reason = "included by several binaries, none of which uses all of it"
)]

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};

/// Who issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one, which no client trusts yet.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its certificate, PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate, and its key.
    pub(crate) fn issue(&self, request: &Request) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = request.params().signed_by(&key, &self.0);
        Identity::new(&certificate.expect("a certificate"), &key)
    }
}

/// What a certificate is for, and when.
#[derive(Clone, Default)]
pub(crate) struct Request {
    names: Vec<String>,
    /// Years, from the first day of one to that of the other.
    valid: Option<(i32, i32)>,
    is_for_client: bool,
    is_ca: bool,
}

impl Request {
    /// For a server of these names, valid now.
    pub(crate) fn server(names: &[&str]) -> Self {
        let names = names.iter().map(ToString::to_string).collect();
        Self {
            names,
            ..Self::default()
        }
    }

    /// For a client.
    pub(crate) fn client() -> Self {
        Self {
            is_for_client: true,
            ..Self::default()
        }
    }

    /// Valid from the beginning of one year to that of another.
    pub(crate) fn valid(mut self, from: i32, until: i32) -> Self {
        self.valid = Some((from, until));
        self
    }

    /// Says that it is an authority's, as those that `openssl req -x509` makes.
    pub(crate) fn claiming_authority(mut self) -> Self {
        self.is_ca = true;
        self
    }

    /// Issued by itself.
    pub(crate) fn self_signed(&self) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = self.params().self_signed(&key);
        Identity::new(&certificate.expect("a certificate"), &key)
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new(self.names.clone()).expect("names");
        if let Some((from, until)) = self.valid {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        }
        if self.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.extended_key_usages = vec![match self.is_for_client {
            true => ExtendedKeyUsagePurpose::ClientAuth,
            false => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params
    }
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Identity {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Both in one text.
    pub(crate) fn pem(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }
}
