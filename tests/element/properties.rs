//! Properties beside those of `rtspsrc`, and the URI handler.

use gst::glib;
use gst::prelude::*;
use gstreamer as gst;

use crate::player::init;

fn make(name: &str) -> gst::Element {
    init();
    gst::ElementFactory::make(name).build().unwrap()
}

/// Properties of `rtspsrc` that are not there yet.
const TO_COME: [&str; 1] = ["client-managed-mikey"];

/// The limits of a number; `None` of anything else.
fn limits(spec: &glib::ParamSpec) -> Option<[String; 2]> {
    macro_rules! of {
        ($($kind:ident),*) => {
            $(if let Some(spec) = spec.downcast_ref::<glib::$kind>() {
                return Some([spec.minimum().to_string(), spec.maximum().to_string()]);
            })*
        };
    }
    of!(ParamSpecInt, ParamSpecUInt, ParamSpecInt64, ParamSpecUInt64);
    None
}

/// The values of an enumeration.
fn values(spec: &glib::ParamSpec) -> Vec<(i32, String)> {
    let class = glib::EnumClass::with_type(spec.value_type());
    let values = class.iter().flat_map(|class| class.values());
    values
        .map(|it| (it.value(), it.nick().to_owned()))
        .collect()
}

#[test]
fn the_properties_of_rtspsrc_have_its_types_limits_and_defaults() {
    let (ours, theirs) = (make("rtspmuxsrc"), make("rtspsrc"));
    for spec in theirs.list_properties() {
        let name = spec.name();
        let Some(own) = ours.find_property(name) else {
            assert!(TO_COME.contains(&name), "{name} is missing");
            continue;
        };
        assert!(!TO_COME.contains(&name), "{name} has come");
        // The enumerations of `rtspsrc` belong to its plugin.
        match values(&spec) {
            none if none.is_empty() => assert_eq!(own.value_type(), spec.value_type(), "{name}"),
            values_of_theirs => assert_eq!(values(&own), values_of_theirs, "{name}"),
        }
        assert_eq!(limits(&own), limits(&spec), "{name}");
        assert_eq!(own.flags() & spec.flags(), spec.flags(), "{name}");
        // Only TCP is played.
        if !["protocols", "name", "parent"].contains(&name) {
            let value = |spec: &glib::ParamSpec| spec.default_value().serialize().ok();
            assert_eq!(value(&own), value(&spec), "{name}");
        }
    }
}

#[test]
fn values_of_rtspsrc_read_back() {
    let element = make("rtspmuxsrc");
    for (name, value) in [
        ("drop-on-latency", "true"),
        ("do-retransmission", "false"),
        ("buffer-mode", "synced"),
        ("retry", "65535"),
        ("do-rtcp", "false"),
        ("udp-reconnect", "false"),
        ("udp-buffer-size", "2000000"),
        ("nat-method", "none"),
        ("port-range", "3000-3005"),
        ("ntp-time-source", "clock-time"),
        ("default-rtsp-version", "2-0"),
        ("max-ts-offset", "0"),
    ] {
        element.set_property_from_str(name, value);
        let read = element.property_value(name).serialize().unwrap();
        assert_eq!(read, value, "{name}");
    }
    element.set_property("proxy", "http://viewer:secret@proxy:80");
    element.set_property("proxy-pw", "secret");
    for name in ["proxy", "proxy-pw"] {
        assert_eq!(element.property::<String>(name), "***");
    }
}

#[test]
fn sharing_has_the_defaults_of_the_pool() {
    let element = make("rtspmuxsrc");
    assert!(element.property::<bool>("enable-connection-pooling"));
    assert_eq!(element.property::<u32>("max-connections-per-server"), 4);
    assert_eq!(
        element.property::<u64>("idle-connection-timeout"),
        60_000_000_000
    );
    assert_eq!(element.property::<u32>("max-sessions-per-connection"), 16);
    let multiplex = element.property_value("multiplex");
    let (_, value) = glib::EnumValue::from_value(&multiplex).unwrap();
    assert_eq!(value.nick(), "auto");
    element.set_property_from_str("multiplex", "never");
    let stats: gst::Structure = element.property("stats");
    assert_eq!(stats.get::<u64>("connections-to-server"), Ok(0));
}

#[test]
fn any_value_can_be_written_without_a_panic() {
    let element = make("rtspmuxsrc");
    for spec in element.list_properties() {
        if !spec.flags().contains(glib::ParamFlags::WRITABLE) || spec.name() == "parent" {
            continue;
        }
        match spec.value_type() {
            glib::Type::U32 => element.set_property_from_str(spec.name(), "1"),
            glib::Type::U64 => {
                let spec = spec.downcast_ref::<glib::ParamSpecUInt64>().unwrap();
                element.set_property(spec.name(), spec.maximum());
            }
            glib::Type::STRING => {
                for text in ["", "\r\n", "rtsp://", "%zz", "rtsp://[::1%25eth0]:99999/"] {
                    element.set_property(spec.name(), text);
                }
                if spec.name() != "name" {
                    element.set_property(spec.name(), None::<String>);
                }
            }
            _ => {}
        }
    }
    assert!(element.property::<Option<String>>("location").is_none());
    element.set_state(gst::State::Paused).unwrap();
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn uris_with_and_without_tls_are_handled() {
    let element = make("rtspmuxsrc");
    let handler = element.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    assert_eq!(handler.uri_type(), gst::URIType::Src);
    assert_eq!(handler.protocols(), ["rtsp", "rtspt", "rtsps", "rtspst"]);
    handler.set_uri("rtspt://viewer:secret@nvr/cam").unwrap();
    let shown = handler.uri().unwrap();
    assert!(
        shown.contains("nvr/cam") && !shown.contains("secret"),
        "{shown}"
    );
    let error = handler.set_uri("http://nvr/cam").unwrap_err();
    assert!(error.matches(gst::URIError::UnsupportedProtocol), "{error}");
    let error = handler.set_uri("rtsp://viewer:secret@").unwrap_err();
    assert!(error.matches(gst::URIError::BadUri), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    assert!(
        handler.uri().unwrap().contains("nvr/cam"),
        "the good one stays"
    );
}

#[test]
fn rtspsrc_stays_what_players_take() {
    init();
    let factory = gst::ElementFactory::find("rtspmuxsrc").unwrap();
    assert_eq!(factory.rank(), gst::Rank::NONE);
    assert!(factory.has_type(gst::ElementFactoryType::SRC));
}
