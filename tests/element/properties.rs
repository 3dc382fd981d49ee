//! Properties beside those of `rtspsrc`, and the URI handler.

use gst::glib;
use gst::prelude::*;
use gstreamer as gst;

use crate::player::init;

fn make(name: &str) -> gst::Element {
    init();
    gst::ElementFactory::make(name).build().unwrap()
}

#[test]
fn what_rtspsrc_has_too_has_its_type_and_default() {
    let (ours, theirs) = (make("rtspmuxsrc"), make("rtspsrc"));
    for spec in ours.list_properties() {
        let Some(other) = theirs.find_property(spec.name()) else {
            continue;
        };
        assert_eq!(spec.value_type(), other.value_type(), "{}", spec.name());
        // Only TCP is played.
        if !["protocols", "name", "parent"].contains(&spec.name()) {
            let (ours, theirs) = (
                spec.default_value().serialize(),
                other.default_value().serialize(),
            );
            assert_eq!(ours.ok(), theirs.ok(), "{}", spec.name());
        }
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
            glib::Type::U64 => element.set_property(spec.name(), u64::MAX),
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
    assert!(element.set_state(gst::State::Paused).is_err());
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
