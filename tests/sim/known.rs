//! What the simulator has found and is not mended yet: counted, so that it is not forgotten, and not
//! held against a run. Each has a seed that showed it. An entry goes with its cause.

use gstrtspmux::mux::ErrorKind;

use crate::server::Server;
use crate::support::mock_server::Family;

/// A session that the server let expire.
pub(crate) fn expiry(server: &Server) -> Option<&'static str> {
    // Several slow DESCRIBEs in a row, behind which keep-alives wait (seed 7081).
    let is_slow = server.slow.is_some();
    is_slow.then_some("known: keep-alives behind slow DESCRIBEs")
}

/// A session that was lost in play, although nothing happened to it.
pub(crate) fn loss(server: &Server, kind: Option<ErrorKind>) -> Option<&'static str> {
    // An error in answer to both kinds of keep-alive ends them for good, though the server may
    // have noticed them (seed 1763).
    let has_expired = kind == Some(ErrorKind::Status(454));
    if has_expired && server.family == Family::Tapo {
        return Some("known: keep-alives given up");
    }
    expiry(server).filter(|_| has_expired)
}
