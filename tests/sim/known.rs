//! What the simulator has found and is not mended yet: counted, so that it is not forgotten, and not
//! held against a run. Each has a seed that showed it. An entry goes with its cause.

use gstrtspmux::mux::ErrorKind;

use crate::server::{Server, is_plain};
use crate::support::mock_server::Family;

/// A packet of another camera.
pub(crate) fn wrong_camera(server: &Server) -> Option<&'static str> {
    // A server stays with the first URI it saw. With `multiplex=always` nobody compares its
    // descriptions (seeds 5113, 6443); else that is only noticed if the first one was answered to
    // somebody who was still there (seed 18321).
    let latches = matches!(server.family, Family::Go2Rtc | Family::ZlMediaKit);
    match (latches, server.is_forced) {
        (true, true) => Some("known: always shows another camera"),
        (true, false) => Some("known: shows the camera of somebody who has left"),
        (false, _) => None,
    }
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

/// A session that was there only after a long time.
pub(crate) fn delay(server: &Server) -> Option<&'static str> {
    if server.is_forced && !is_plain(server.family) {
        return Some("known: always holds up others");
    }
    // Asked again and again, each time with a connection of its own (seed 4872).
    match server.family {
        Family::AtLimit(_) => Some("known: full and asked again"),
        // As with `second_session` (26667).
        Family::EvoStream => Some("known: asked for one by one"),
        _ => None,
    }
}

/// A second session on a connection of a server whose sessions are kept apart.
pub(crate) fn second_session(server: &Server) -> Option<&'static str> {
    // Waiting in line when the verdict came, and asked for one by one, at a second each (8818).
    let swallows = server.family == Family::EvoStream;
    swallows.then_some("known: asked for in spite of the verdict")
}

/// A session that the server let expire.
pub(crate) fn expiry(server: &Server) -> Option<&'static str> {
    // Several slow DESCRIBEs in a row, behind which keep-alives wait (seed 7081).
    let is_slow = server.slow.is_some();
    is_slow.then_some("known: keep-alives behind slow DESCRIBEs")
}

/// A session that was lost in play, although nothing happened to it.
pub(crate) fn loss(server: &Server, kind: Option<ErrorKind>) -> Option<&'static str> {
    // A session of `always` is tried beside one of `auto` that plays (seed 12348).
    if server.is_forced && !is_plain(server.family) {
        return Some("known: always interrupts others");
    }
    // An error in answer to both kinds of keep-alive ends them for good, though the server may
    // have noticed them (seed 1763).
    let has_expired = kind == Some(ErrorKind::Status(454));
    if has_expired && server.family == Family::Tapo {
        return Some("known: keep-alives given up");
    }
    expiry(server).filter(|_| has_expired)
}
