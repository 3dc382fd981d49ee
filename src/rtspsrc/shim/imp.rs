//! The element `rtspsrc` of the shim: translates between what programs see and `rtspmuxsrc`.

use std::{str::FromStr as _, sync::LazyLock};

use gst::{glib, prelude::*, subclass::prelude::*};
use gstreamer as gst;

use super::{PROPERTIES_VARIABLE, specs};
use crate::rtspsrc::{
    CAT, RtspMuxSrc,
    element::{
        imp,
        properties::{self, ConnectFailure, shown},
        settings::{PLAYED, parse_location},
    },
    guard,
};

/// The URIs of `rtspsrc`, in its order.
const PROTOCOLS: [&str; 9] = [
    "rtsp", "rtspu", "rtspt", "rtsph", "rtsp-sdp", "rtsps", "rtspsu", "rtspst", "rtspsh",
];

/// The state that the element has beside that of `rtspmuxsrc`: none.
#[derive(Default)]
pub struct RtspSrc;

#[glib::object_subclass]
impl ObjectSubclass for RtspSrc {
    const NAME: &'static str = super::TYPE;
    type Type = super::RtspSrc;
    type ParentType = RtspMuxSrc;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for RtspSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        &specs::SPECS
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.base().change_settings(|settings| {
            settings.is_shim = true;
            settings.protocols = specs::protocols();
            settings.connect_failure = ConnectFailure::Error;
            // Their defaults are empty, their first values are not set.
            (settings.proxy_id, settings.proxy_pw) = (None, None);
        });
        if let Some(list) = std::env::var_os(PROPERTIES_VARIABLE) {
            self.set_properties(&list.to_string_lossy());
        }
    }

    fn set_property(&self, id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        let own = own_spec(spec.name());
        if let Some((own, value)) = own.and_then(|own| Some((own, specs::in_form_of(value, own)?)))
        {
            self.base().set_property(id, &value, own);
        }
    }

    fn property(&self, id: usize, spec: &glib::ParamSpec) -> glib::Value {
        let name = spec.name();
        let as_set = self
            .base()
            .with_settings(|settings| specs::as_set(settings, name));
        let own = || Some(self.base().property(id, own_spec(name)?));
        let value = as_set.or_else(own);
        let value = value.and_then(|value| specs::in_form_of(&value, spec));
        value.unwrap_or_else(|| spec.default_value().clone())
    }
}

/// The specification of the property in `rtspmuxsrc`.
fn own_spec(name: &str) -> Option<&'static glib::ParamSpec> {
    properties::SPECS.iter().find(|spec| spec.name() == name)
}

impl GstObjectImpl for RtspSrc {}

impl ElementImpl for RtspSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "RTSP packet receiver on shared connections (rtspmux)",
                "Source/Network",
                "Receive data over the network via RTSP (RFC 2326), cameras of one server over one connection",
                env!("CARGO_PKG_NAME"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        <imp::RtspMuxSrc as ElementImpl>::pad_templates()
    }
}

impl BinImpl for RtspSrc {}

impl URIHandlerImpl for RtspSrc {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &PROTOCOLS
    }

    fn uri(&self) -> Option<String> {
        self.base()
            .with_settings(|settings| settings.location.clone())
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
        let is = |known: &&str| known.eq_ignore_ascii_case(scheme);
        let is_played = PLAYED.iter().any(is);
        // What it cannot play becomes an ERROR at the start, where programs read the reason.
        if is_played || !PROTOCOLS.iter().any(is) {
            parse_location(uri)
                .map_err(|error| glib::Error::new(gst::URIError::BadUri, error.message()))?;
        }
        self.base().set_location(uri);
        Ok(())
    }
}

impl RtspSrc {
    fn base(&self) -> glib::subclass::ObjectImplRef<imp::RtspMuxSrc> {
        let element = self.obj();
        let base: &RtspMuxSrc = element.upcast_ref();
        base.imp().ref_counted()
    }

    /// Sets the properties of a list as in [`PROPERTIES_VARIABLE`].
    fn set_properties(&self, list: &str) {
        let element = self.obj();
        let base: &RtspMuxSrc = element.upcast_ref();
        guard(base, (), || {
            // The syntax of GStreamer's structures: it has quotes for values with commas.
            let Ok(list) = gst::Structure::from_str(&format!("properties,{list}")) else {
                gst::error!(CAT, imp = self, "{PROPERTIES_VARIABLE}: not name=value,...");
                return;
            };
            for (name, value) in list.iter() {
                if let Err(why) = self.set_from_text(name, value) {
                    let text = shown(name);
                    gst::error!(CAT, imp = self, "{PROPERTIES_VARIABLE}: {text}: {why}");
                }
            }
        });
    }

    fn set_from_text(&self, name: &str, value: &glib::SendValue) -> Result<(), &'static str> {
        let element = self.obj();
        let spec = element.find_property(name).ok_or("no such property")?;
        if !spec.flags().contains(glib::ParamFlags::WRITABLE) {
            return Err("it cannot be set");
        }
        let text = match value.get::<String>() {
            Ok(text) => text,
            Err(_) => value.serialize().map_err(|_| "it has no value")?.into(),
        };
        let value = glib::Value::deserialize_with_pspec(&text, &spec);
        element.set_property_from_value(name, &value.map_err(|_| "not a value of its type")?);
        Ok(())
    }
}
