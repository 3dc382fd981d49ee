//! What the simulator has found and is not mended yet: counted, so that it is not forgotten, and not
//! held against a run. Each has a seed that showed it. An entry goes with its cause.

use crate::server::Server;

/// A session that the server let expire; `is_waiting`: a request of it was there in time, and not
/// answered.
pub(crate) fn expiry(server: &Server, is_waiting: bool) -> Option<&'static str> {
    // Several DESCRIBEs of a camera that is not known to be slow yet, in one burst with the SETUPs of
    // others: behind three times 20 s their keep-alives come too late (seed 19265).
    let is_behind = server.slow.is_some() && is_waiting;
    is_behind.then_some("known: keep-alives behind a burst of slow DESCRIBEs")
}
