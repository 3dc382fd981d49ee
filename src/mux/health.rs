//! The health of one connection in one period while its sessions play, and from which round trip on
//! a path counts as long.

use std::time::Duration;

/// Out-of-order segments in a period from which on the path counts as lossy.
pub(crate) const OUT_OF_ORDER: u32 = 3;

/// From this round trip on a path is long: first pictures wait for TCP's slow start, not for the
/// server.
pub(crate) const LONG_PATH: Duration = Duration::from_millis(10);

/// The number of sessions whose answers and first pictures fit about two flights of a new
/// connection (RFC 6928: ten segments, then twenty).
pub(crate) const BATCH_OVER_A_LONG_PATH: u32 = 4;

/// One health sample of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HealthSample {
    /// The length of the period.
    pub(crate) time: Duration,
    /// Bytes received.
    pub(crate) bytes: u64,
    /// Sessions that received packets.
    pub(crate) sessions: u32,
    /// Of these, the sessions with missing RTP packets.
    pub(crate) lossy: u32,
    /// RTP packets missing in all sessions.
    pub(crate) lost: u64,
    /// The answer time of a keep-alive that was alone on the connection, if one was answered.
    pub(crate) answer: Option<Duration>,
    /// The shortest such answer time so far.
    pub(crate) round_trip: Option<Duration>,
    /// Segments that came out of order.
    pub(crate) out_of_order: u32,
    /// What the system says about the network path.
    pub(crate) path: Option<PathInfo>,
    /// More bytes than usual wait for our consumers: packets may be late because of this side.
    pub(crate) is_behind: bool,
}

/// What the system says about the network path (`TCP_INFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathInfo {
    /// The receiver's estimate of the round trip, which includes the send queue of the peer; zero
    /// while unknown.
    pub(crate) round_trip: Duration,
    /// Segments that came out of order since the connection was established.
    pub(crate) out_of_order: u32,
}

impl HealthSample {
    pub(crate) fn is_path_lossy(&self) -> bool {
        self.out_of_order >= OUT_OF_ORDER
    }

    /// True if the connection should measure an answer time now, with a keep-alive: on a lossy path
    /// the next regular keep-alive may be most of a minute away.
    pub(crate) fn calls_for_answer(&self) -> bool {
        self.is_path_lossy() && self.sessions >= 2 && !self.is_behind
    }

    /// The data rate in bytes per second.
    pub(crate) fn rate(&self) -> u64 {
        let millis = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        self.bytes.saturating_mul(1000) / millis.max(1)
    }
}
