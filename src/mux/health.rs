//! What one connection has shown in a period, while its sessions play; and from when on a path is long.

use std::time::Duration;

/// Segments that came out of order in a period from which on the path loses some.
pub(crate) const OUT_OF_ORDER: u32 = 3;

/// From here on a path is long: slow start, not the server, is what first pictures wait for.
pub(crate) const LONG_PATH: Duration = Duration::from_millis(10);

/// Sessions whose answers and first pictures fit about two flights of a fresh connection
/// (RFC 6928: ten segments, then twenty).
pub(crate) const BATCH_OVER_A_LONG_PATH: u32 = 4;

/// What one connection has shown in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HealthSample {
    /// How long the period was.
    pub(crate) time: Duration,
    /// Bytes received.
    pub(crate) bytes: u64,
    /// Sessions that sent something.
    pub(crate) sessions: u32,
    /// Of these, sessions that left out RTP packets.
    pub(crate) lossy: u32,
    /// RTP packets that they left out.
    pub(crate) lost: u64,
    /// How long a keep-alive took that was alone on the connection, if one was answered.
    pub(crate) answer: Option<Duration>,
    /// The quickest such answer so far.
    pub(crate) round_trip: Option<Duration>,
    /// Segments that came out of order.
    pub(crate) out_of_order: u32,
    /// What the system says of the path.
    pub(crate) path: Option<PathInfo>,
    /// More waits for our consumers than is usual: what comes late, comes late because of this side.
    pub(crate) is_behind: bool,
}

/// What the system says of the path (`TCP_INFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathInfo {
    /// The receiver's round trip, its own queue at the sender included; zero while unknown.
    pub(crate) round_trip: Duration,
    /// Segments that came out of order since the connection was made.
    pub(crate) out_of_order: u32,
}

impl HealthSample {
    pub(crate) fn is_path_lossy(&self) -> bool {
        self.out_of_order >= OUT_OF_ORDER
    }

    /// Whether it is worth asking the server, for how long its answer takes: on a path that loses
    /// segments the next keep-alive may be most of a minute off.
    pub(crate) fn calls_for_answer(&self) -> bool {
        self.is_path_lossy() && self.sessions >= 2 && !self.is_behind
    }

    /// Bytes a second.
    pub(crate) fn rate(&self) -> u64 {
        let millis = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        self.bytes.saturating_mul(1000) / millis.max(1)
    }
}
