//! What the simulator has found and is not mended yet: counted, so that it is not forgotten, and not
//! held against a run. Each has a seed that showed it. An entry goes with its cause.

use gstrtspmux::mux::ErrorKind;

use crate::server::{Server, is_plain};
use crate::support::mock_server::Family;

/// A packet of another camera.
pub(crate) fn wrong_camera(server: &Server) -> Option<&'static str> {
    // With `multiplex=always` nobody compares the descriptions of a server that stays with the
    // first URI it saw (seeds 5113, 6443).
    let latches = matches!(server.family, Family::Go2Rtc | Family::ZlMediaKit);
    (server.is_forced && latches).then_some("known: always shows another camera")
}

/// A session that could not be opened, although nothing was in its way.
pub(crate) fn failure(server: &Server, step: &str, kind: ErrorKind) -> Option<&'static str> {
    if server.is_forced && !is_plain(server.family) {
        return Some("known: always fails others");
    }
    match (server.family, step, kind) {
        // Set up where sessions with the same id were left behind (seed 5112).
        (Family::Rockchip, "play", ErrorKind::Status(404)) => {
            Some("known: set up among left-behind namesakes")
        }
        // Taken into an idle connection whose TEARDOWN is not answered yet, and never is (8904).
        (Family::Go2Rtc, "describe", ErrorKind::TimedOut) => {
            Some("known: reused while a TEARDOWN is out")
        }
        _ => None,
    }
}

/// A session that was lost in play, although nothing happened to it.
pub(crate) fn loss(server: &Server, kind: Option<ErrorKind>) -> Option<&'static str> {
    // A session of `always` is tried beside one of `auto` that plays (seed 12348).
    if server.is_forced && !is_plain(server.family) {
        return Some("known: always interrupts others");
    }
    // An error in answer to both kinds of keep-alive ends them for good, though the server may
    // have noticed them (seed 1763).
    let has_expired = server.family == Family::Tapo && kind == Some(ErrorKind::Status(454));
    has_expired.then_some("known: keep-alives given up")
}
