//! The properties that the shim has in another form than `rtspmuxsrc`: those with an enumeration of
//! `rtspsrc`'s name, with another default, or that read back as they were set.

use std::sync::LazyLock;

use gst::{glib, prelude::*};
use gst_rtsp::RTSPLowerTrans;
use gstreamer as gst;
use gstreamer_rtsp as gst_rtsp;

use super::ffi;
use crate::rtspsrc::element::properties::{self, ConnectFailure, Settings};

/// Enumerations that belong to the plugin of `rtspsrc`.
pub(super) const ENUMS: &[(&str, &str)] = &[
    ("buffer-mode", "GstRTSPSrcBufferMode"),
    ("ntp-time-source", "GstRTSPSrcNtpTimeSource"),
    ("nat-method", "GstRTSPNatMethod"),
    ("backchannel", "GstRTSPBackchannel"),
    ("backchannel-http-method", "GstRTSPBackchannelHTTPMethod"),
];

/// Properties that hold, or may hold, a secret.
const SECRETS: [&str; 4] = ["location", "user-pw", "proxy", "proxy-pw"];

/// The default of `rtspsrc`.
pub(super) fn protocols() -> RTSPLowerTrans {
    RTSPLowerTrans::UDP | RTSPLowerTrans::UDP_MCAST | RTSPLowerTrans::TCP
}

/// The properties that take the place of those of `rtspmuxsrc`.
pub(super) static SPECS: LazyLock<Vec<glib::ParamSpec>> =
    LazyLock::new(|| properties::SPECS.iter().filter_map(replaced).collect());

fn replaced(spec: &glib::ParamSpec) -> Option<glib::ParamSpec> {
    let name = spec.name();
    if name == "protocols" {
        let flags = glib::ParamSpecFlags::builder::<RTSPLowerTrans>(name);
        return Some(like(flags.default_value(protocols()), spec).build());
    }
    if name == "connect-failure" {
        let failure = glib::ParamSpecEnum::builder_with_default(name, ConnectFailure::Error);
        return Some(like(failure, spec).build());
    }
    if SECRETS.contains(&name) {
        let default: Option<String> = spec.default_value().get().ok().flatten();
        let text = glib::ParamSpecString::builder(name).default_value(default.as_deref());
        return Some(ffi::left_out_of_dumps(like(text, spec).build()));
    }
    let of = match ENUMS.iter().find(|(property, _)| *property == name) {
        Some((_, renamed)) => {
            let own = glib::EnumClass::with_type(spec.value_type())?;
            ffi::renamed_enum(renamed, &own)
        }
        None if name == "default-rtsp-version" => ffi::rtsp_version(),
        None => return None,
    };
    let spec = spec.downcast_ref::<glib::ParamSpecEnum>()?;
    Some(ffi::with_enum(spec, of))
}

/// Nick, blurb and flags of another property.
fn like<'a, B: gst::prelude::ParamSpecBuilderExt<'a>>(builder: B, spec: &'a glib::ParamSpec) -> B {
    let builder = builder.nick(spec.nick()).flags(spec.flags());
    builder.blurb(spec.blurb().unwrap_or_default())
}

/// The value of one property in the form of another: the enumerations have the same numbers.
pub(super) fn in_form_of(value: &glib::Value, spec: &glib::ParamSpec) -> Option<glib::Value> {
    if value.type_().is_a(spec.value_type()) {
        return Some(value.clone());
    }
    let (_, chosen) = glib::EnumValue::from_value(value)?;
    glib::EnumClass::with_type(spec.value_type())?.to_value(chosen.value())
}

/// A property that may hold a secret, as it was set.
pub(super) fn as_set(settings: &Settings, name: &str) -> Option<glib::Value> {
    let text = match name {
        "location" => &settings.location,
        "user-pw" => &settings.user_pw,
        "proxy" => &settings.proxy,
        "proxy-pw" => &settings.proxy_pw,
        _ => return None,
    };
    Some(text.to_value())
}
