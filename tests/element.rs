//! The element `rtspmuxsrc` in pipelines, against a real gst-rtsp-server and the mock server.
//!
//! Many elements on one connection are in `cameras.rs`; here it is one element in all its states.
#![allow(clippy::unwrap_used, reason = "a test binary")]
#![allow(
    clippy::disallowed_methods,
    reason = "state changes are timed by the wall clock"
)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/gst_server.rs"]
mod gst_server;
#[path = "support/odd_setups.rs"]
mod odd_setups;
mod support;
#[path = "support/tls_front.rs"]
mod tls_front;

#[path = "element/account.rs"]
mod account;
#[path = "element/context.rs"]
mod context;
#[path = "element/description_bombs.rs"]
mod description_bombs;
#[path = "element/errors.rs"]
mod errors;
#[path = "element/held_up.rs"]
mod held_up;
#[path = "element/hostile_servers.rs"]
mod hostile_servers;
#[path = "element/leaks.rs"]
mod leaks;
#[path = "element/log.rs"]
mod log;
#[path = "element/managers.rs"]
mod managers;
#[path = "element/media.rs"]
mod media;
#[path = "element/no_threads.rs"]
mod no_threads;
#[path = "element/not_live.rs"]
mod not_live;
#[path = "element/odd_camera.rs"]
mod odd_camera;
#[path = "element/odd_media.rs"]
mod odd_media;
#[path = "element/odd_of_sixteen.rs"]
mod odd_of_sixteen;
#[path = "element/odd_packets.rs"]
mod odd_packets;
#[path = "element/on_bye.rs"]
mod on_bye;
#[path = "element/one_camera.rs"]
mod one_camera;
#[path = "element/one_id.rs"]
mod one_id;
#[path = "element/one_of_four.rs"]
mod one_of_four;
#[path = "element/onvif.rs"]
mod onvif;
#[path = "element/pads.rs"]
mod pads;
#[path = "element/player.rs"]
mod player;
#[path = "element/properties.rs"]
mod properties;
#[path = "element/real_media.rs"]
mod real_media;
#[path = "element/recovery.rs"]
mod recovery;
#[path = "element/redirected.rs"]
mod redirected;
#[path = "element/refusals.rs"]
mod refusals;
#[path = "element/relinking.rs"]
mod relinking;
#[path = "element/secrets.rs"]
mod secrets;
#[path = "element/seeking.rs"]
mod seeking;
#[path = "element/select_streams.rs"]
mod select_streams;
#[path = "element/sharing.rs"]
mod sharing;
#[path = "element/signals.rs"]
mod signals;
#[path = "element/states.rs"]
mod states;
#[path = "element/tls.rs"]
mod tls;
#[path = "element/unanswered_play.rs"]
mod unanswered_play;
#[path = "element/waiting_for.rs"]
mod waiting_for;
