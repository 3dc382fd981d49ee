//! What an application decides about certificates: the signal `accept-certificate`, and the properties
//! `tls-database` and `tls-interaction`.
//!
//! The multiplexer asks in each handshake of the element's connection, on a thread that serves this handshake
//! alone. So handlers and the objects of the application are called right there.

pub(crate) mod connection;

use base64::{Engine, prelude::BASE64_STANDARD};
use gio::{TlsCertificate, TlsCertificateFlags, TlsInteractionResult, prelude::*};
use gst::{glib, subclass::prelude::*};
use gstreamer as gst;

use self::connection::{PeerConnection, TlsObject};
use crate::{
    mux::{CertificateChecks, ClientCertificate, ServerCertificate, TlsDecisions},
    rtspsrc::{CAT, RtspMuxSrc, guard},
};

/// `G_TLS_DATABASE_PURPOSE_AUTHENTICATE_SERVER`, which the bindings lack.
const AUTHENTICATE_SERVER: &str = "1.3.6.1.5.5.7.3.1";

/// Asks the application of one element.
pub(super) struct Decider(glib::WeakRef<RtspMuxSrc>);

impl Decider {
    pub(super) fn new(element: &RtspMuxSrc) -> Self {
        Self(element.downgrade())
    }
}

impl TlsDecisions for Decider {
    fn accepts(&self, server: &ServerCertificate<'_>) -> bool {
        let element = self.0.upgrade();
        element.is_some_and(|element| guard(&element, false, || accepts(&element, server)))
    }

    fn client_certificate(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Option<ClientCertificate>, String> {
        let interaction = self.0.upgrade().and_then(|element| {
            let imp = element.imp();
            imp.with_settings(|settings| settings.tls_interaction.clone())
        });
        match interaction {
            Some(TlsObject(interaction)) => client_certificate(&interaction, (host, port))
                .map_err(|why| format!("tls-interaction: {why}")),
            None => Ok(None),
        }
    }
}

fn accepts(element: &RtspMuxSrc, server: &ServerCertificate<'_>) -> bool {
    let (database, interaction, flags) = element.imp().with_settings(|settings| {
        // The fingerprint is the server's identity, whatever a database says.
        let is_pinned = settings.tls_fingerprint.is_some();
        let database = settings.tls_database.clone().filter(|_| !is_pinned);
        let interaction = settings.tls_interaction.clone();
        (database, interaction, settings.tls_validation_flags)
    });
    let certificate = certificate_of(server.chain)
        .inspect_err(|error| gst::warning!(CAT, obj = element, "the certificate: {error}"))
        .ok();
    let mut errors = flags_of(server.failed);
    let mut is_refused = server.is_refused;
    if let Some(TlsObject(database)) = database {
        let identity = gio::NetworkAddress::new(server.host, server.port);
        let verified = certificate.as_ref().map(|certificate| {
            database.verify_chain(
                certificate,
                AUTHENTICATE_SERVER,
                Some(&identity),
                interaction.as_ref().map(|it| &it.0),
                gio::TlsDatabaseVerifyFlags::NONE,
                gio::Cancellable::NONE,
            )
        });
        errors = match verified {
            Some(Ok(errors)) => errors,
            Some(Err(error)) => {
                gst::warning!(CAT, obj = element, "tls-database: {error}");
                TlsCertificateFlags::GENERIC_ERROR
            }
            None => TlsCertificateFlags::GENERIC_ERROR,
        };
        is_refused = errors.intersects(flags);
    }
    if !is_refused {
        return true;
    }
    if errors.is_empty() {
        errors = TlsCertificateFlags::GENERIC_ERROR;
    }
    let connection = PeerConnection::new((server.host, server.port));
    connection.show(certificate.as_ref(), errors, flags);
    element.emit_by_name("accept-certificate", &[&connection, &certificate, &errors])
}

/// The certificate with its issuers; an error if no backend of GLib is installed, or it cannot read it.
fn certificate_of(chain: &[&[u8]]) -> Result<TlsCertificate, glib::Error> {
    let all: String = chain.iter().map(|der| pem(der)).collect();
    // Servers send certificates that do not belong to the chain.
    let first = || TlsCertificate::from_pem(&chain.first().map(|der| pem(der)).unwrap_or_default());
    TlsCertificate::from_pem(&all).or_else(|_| first())
}

/// RFC 7468.
fn pem(der: &[u8]) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    // 64 characters a line.
    for line in der.chunks(48) {
        text.push_str(&BASE64_STANDARD.encode(line));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// The flags of the checks that fail.
fn flags_of(failed: CertificateChecks) -> TlsCertificateFlags {
    [
        (failed.authority, TlsCertificateFlags::UNKNOWN_CA),
        (failed.identity, TlsCertificateFlags::BAD_IDENTITY),
        (failed.not_yet_valid, TlsCertificateFlags::NOT_ACTIVATED),
        (failed.expired, TlsCertificateFlags::EXPIRED),
        (failed.form, TlsCertificateFlags::GENERIC_ERROR),
    ]
    .into_iter()
    .filter_map(|(fails, flag)| fails.then_some(flag))
    .collect()
}

/// What the application shows to a server that asks for a certificate.
fn client_certificate(
    interaction: &gio::TlsInteraction,
    server: (&str, u16),
) -> Result<Option<ClientCertificate>, String> {
    let connection = PeerConnection::new(server);
    let asked = interaction.invoke_request_certificate(
        &connection,
        gio::TlsCertificateRequestFlags::NONE,
        gio::Cancellable::NONE,
    );
    match asked.map_err(|error| error.to_string())? {
        TlsInteractionResult::Handled => {}
        _ => return Ok(None),
    }
    let Some(own) = TlsConnectionExt::certificate(&connection) else {
        return Ok(None);
    };
    let text = |name: &str| own.property::<Option<String>>(name);
    let key = text("private-key-pem").ok_or(
        "the private key of the certificate cannot be read out, as that of a token; rtspsrc can use it, and \
         tls-client-certificate takes a key from a PEM file",
    )?;
    let issuers = std::iter::successors(Some(own.clone()), TlsCertificateExt::issuer);
    let chain: String = issuers
        .filter_map(|it| it.property::<Option<String>>("certificate-pem"))
        .collect();
    let certificate = ClientCertificate::from_pem(chain.as_bytes(), key.as_bytes());
    certificate.map(Some).map_err(|error| error.to_string())
}
