//! A `GTlsClientConnection` that is not connected: handlers of `accept-certificate` and `GTlsInteraction` get
//! one. It answers for the peer's certificate, and keeps the certificate that an interaction sets.
#![allow(
    unsafe_code,
    reason = "classes of GLib that the bindings cannot derive from, and objects that GLib shares between threads"
)]

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock},
};

use gio::{TlsCertificate, TlsCertificateFlags, ffi as gio_ffi, prelude::*, subclass::prelude::*};
use gst::glib::{self, ffi as glib_ffi, translate::*};
use gstreamer as gst;

use crate::rtspsrc::lock;

/// A `GTlsDatabase` or `GTlsInteraction`.
#[derive(Clone)]
pub(crate) struct TlsObject<T>(pub(crate) T);

// SAFETY: GLib counts references atomically. Both classes are made to be called from the threads of
// connections: a database locks itself, and an interaction is called in the context of its user
// (`g_tls_interaction_invoke_request_certificate`).
unsafe impl<T> Send for TlsObject<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for TlsObject<T> {}

/// The properties of a `GTlsConnection`.
const OF_CONNECTION: [&str; 9] = [
    "base-io-stream",
    "use-system-certdb",
    "database",
    "require-close-notify",
    "rehandshake-mode",
    "certificate",
    "interaction",
    "peer-certificate",
    "peer-certificate-errors",
];
/// Those of a `GTlsClientConnection`.
const OF_CLIENT: [&str; 4] = [
    "validation-flags",
    "server-identity",
    "use-ssl3",
    "accepted-cas",
];

glib::wrapper! {
    /// See the [module](self).
    pub(crate) struct PeerConnection(ObjectSubclass<imp::PeerConnection>)
        @extends gio::TlsConnection, gio::IOStream,
        @implements gio::TlsClientConnection;
}

impl PeerConnection {
    pub(super) fn new((host, port): (&str, u16)) -> Self {
        let connection: Self = glib::Object::new();
        let identity = gio::NetworkAddress::new(host, port);
        connection
            .imp()
            .keep("server-identity", identity.to_value());
        connection
    }

    /// From now on it answers for this certificate.
    pub(super) fn show(
        &self,
        certificate: Option<&TlsCertificate>,
        errors: TlsCertificateFlags,
        flags: TlsCertificateFlags,
    ) {
        let imp = self.imp();
        imp.keep("peer-certificate", certificate.to_value());
        imp.keep("peer-certificate-errors", errors.to_value());
        imp.keep("validation-flags", flags.to_value());
    }
}

mod imp {
    use super::*;

    #[derive(Default)]
    pub(crate) struct PeerConnection {
        values: Mutex<HashMap<String, Kept>>,
        /// GLib asks for the same ones each time.
        streams: OnceLock<TlsObject<(gio::InputStream, gio::OutputStream)>>,
    }

    type Kept = TlsObject<glib::Value>;

    impl PeerConnection {
        pub(super) fn keep(&self, name: &str, value: glib::Value) {
            lock(&self.values).insert(name.to_owned(), TlsObject(value));
        }

        fn streams(&self) -> &(gio::InputStream, gio::OutputStream) {
            let empty = || {
                TlsObject((
                    gio::MemoryInputStream::new().upcast(),
                    gio::MemoryOutputStream::new_resizable().upcast(),
                ))
            };
            &self.streams.get_or_init(empty).0
        }
    }

    #[glib::object_subclass]
    impl ObjectSubclass for PeerConnection {
        const NAME: &'static str = "GstRtspMuxPeerConnection";
        const ALLOW_NAME_CONFLICT: bool = true;
        type Type = super::PeerConnection;
        type ParentType = gio::TlsConnection;
        type Interfaces = (gio::TlsClientConnection,);
    }

    impl ObjectImpl for PeerConnection {
        fn properties() -> &'static [glib::ParamSpec] {
            static SPECS: OnceLock<Vec<glib::ParamSpec>> = OnceLock::new();
            SPECS.get_or_init(|| {
                let of_class = glib::ParamSpecOverride::for_class::<gio::TlsConnection>;
                let of_client = glib::ParamSpecOverride::for_interface::<gio::TlsClientConnection>;
                let own = OF_CONNECTION.into_iter().map(of_class);
                own.chain(OF_CLIENT.into_iter().map(of_client)).collect()
            })
        }

        fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
            self.keep(spec.name(), value.clone());
        }

        fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
            let kept = lock(&self.values).get(spec.name()).cloned();
            let unset = || glib::Value::from_type(spec.value_type());
            kept.map_or_else(unset, |it| it.0)
        }
    }

    impl IOStreamImpl for PeerConnection {
        fn input_stream(&self) -> gio::InputStream {
            self.streams().0.clone()
        }

        fn output_stream(&self) -> gio::OutputStream {
            self.streams().1.clone()
        }
    }
}

// SAFETY: calls the initialisation of the parent class. The functions that it leaves unset are those of a
// handshake, and no handshake is made here; the one that waits says so.
unsafe impl IsSubclassable<imp::PeerConnection> for gio::TlsConnection {
    fn class_init(class: &mut glib::Class<Self>) {
        Self::parent_class_init::<imp::PeerConnection>(class);
        class.as_mut().handshake = Some(no_handshake);
    }
}

// SAFETY: the interface has no function that must be set.
unsafe impl IsImplementable<imp::PeerConnection> for gio::TlsClientConnection {}

unsafe extern "C" fn no_handshake(
    _connection: *mut gio_ffi::GTlsConnection,
    _cancellable: *mut gio_ffi::GCancellable,
    error: *mut *mut glib_ffi::GError,
) -> glib_ffi::gboolean {
    if !error.is_null() {
        let why = "this object shows a certificate, and is not connected";
        let why = glib::Error::new(gio::IOErrorEnum::NotSupported, why);
        // SAFETY: the caller takes the error, and has initialised the place for it.
        unsafe { *error = why.into_glib_ptr() };
    }
    glib_ffi::GFALSE
}
