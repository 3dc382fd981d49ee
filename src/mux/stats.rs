//! Statistics for an operator, per connection, session and stream.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    event::{Congestion, SharingVerdict},
    ids::named,
    proto::Counters,
};

/// A number that one task writes and any thread reads. Relaxed: each number stands for itself.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }
}

/// Counters of one connection. Its driver updates them once per batch; the pool updates the last
/// two.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounters {
    pub(crate) bytes_received: Gauge,
    pub(crate) bytes_sent: Gauge,
    pub(crate) packets: Gauge,
    pub(crate) sessions: Gauge,
    /// Of these, the sessions whose TEARDOWN the server has not answered yet.
    pub(crate) tearing_down: Gauge,
    pub(crate) references: Gauge,
    pub(crate) connections_to_server: Gauge,
}

/// All that a [`Mux`](super::Mux) has open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MuxStats {
    /// By host and port.
    pub servers: Vec<ServerStats>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Host and port.
    pub server: String,
    /// Whether its sessions share connections.
    pub sharing: SharingVerdict,
    /// Why its sessions do not share connections, if so.
    pub cannot_share: Option<String>,
    /// The age of that verdict; `None` while there is none.
    pub sharing_age: Option<Duration>,
    /// Sessions that wait for a connection.
    pub waiting: usize,
    /// Its connections, oldest first, without those of `enable-connection-pooling=false`.
    pub connections: Vec<ConnectionStats>,
}

named! {
    /// What a session waits for that does not play yet.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum WaitReason {
        /// Its turn to try a server that failed: one session tries for all, within a budget.
        Redial = "redial",
        /// A connection: it is being made, or all that the limit allows are in use.
        Connection = "connection",
        /// Another session, which finds out whether the server shares connections.
        SharingDecision = "sharing-decision",
        /// Another session, which looks for room at a full server.
        Capacity = "capacity",
        /// Sessions that leave a full server: their TEARDOWNs are on the way.
        Teardowns = "teardowns",
        /// Its request was not sent yet: the connection sends other requests first, a password is being
        /// tried, or the connection is checked after it was idle.
        Unsent = "unsent",
        /// The server's answer to its request.
        Answer = "answer",
        /// The server's answer to a request of another session, which is at the head of the line.
        HeadOfLine = "head-of-line",
        /// The check that the server has described its URI, and not another one.
        DescriptionCheck = "description-check",
        /// Other sessions of the connection, before the first of them plays.
        PlayGate = "play-gate",
        /// One more SETUP, sent to find out whether the server shares connections.
        Canary = "canary",
    }
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionState {
    /// The connection is being dialled: one attempt, for which all its sessions wait.
    Connecting,
    /// The connection carries sessions, or can.
    Open,
    /// The connection takes no more sessions. It counts against the limit until it is gone.
    Closing,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// The number of the connection, which is never used again.
    pub id: u64,
    /// The state of the connection.
    pub state: ConnectionState,
    /// True for a connection of one session alone. It does not count against
    /// `max-connections-per-server`.
    pub is_dedicated: bool,
    /// True for a describe-only connection: sessions are described on it, and play on others. It
    /// does not count either.
    pub is_aside: bool,
    /// Handles to it.
    pub references: u64,
    /// Sessions on it, those being torn down included.
    pub sessions: u64,
    /// Bytes read.
    pub bytes_received: u64,
    /// Bytes written.
    pub bytes_sent: u64,
    /// RTP and RTCP packets routed to sessions.
    pub packets: u64,
    /// What the protocol core has counted: requests, frames of no session, losses of framing.
    pub counts: Counters,
    /// The health of the connection.
    pub health: ConnectionHealth,
}

/// The health of a connection: sampled every two seconds while data arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionHealth {
    /// Why the connection is congested, if it is.
    pub congestion: Option<Congestion>,
    /// The shortest answer time so far of a request that was alone on the connection.
    pub round_trip: Option<Duration>,
    /// The last answer time of a keep-alive: while sessions play, the answer waits behind their
    /// media.
    pub last_answer: Option<Duration>,
    /// The time the server takes for one request when several are outstanding.
    pub service_time: Option<Duration>,
    /// Bytes received a second.
    pub rate: u64,
    /// RTP packets that the server has left out.
    pub lost: u64,
    /// The receiver's estimate of the round trip (`tcpi_rcv_rtt`), which includes queues on the
    /// path. Linux.
    pub path_round_trip: Option<Duration>,
    /// Segments that came out of order (`tcpi_rcv_ooopack`): most of them were lost and sent again.
    /// Linux.
    pub out_of_order: Option<u32>,
}

/// One session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// The number of its connection; `None` before it has one.
    pub connection: Option<u64>,
    /// Sessions on that connection.
    pub sessions_on_connection: u64,
    /// Handles to that connection.
    pub references_on_connection: u64,
    /// Connections to its server.
    pub connections_to_server: u64,
    /// Whether sessions of its server share connections.
    pub sharing: SharingVerdict,
    /// Why they do not share, if so.
    pub cannot_share: Option<String>,
    /// The age of that verdict; `None` while there is none.
    pub sharing_age: Option<Duration>,
    /// What the session waits for, as long as it does not play; none while it plays, and once it has
    /// ended.
    pub waiting_for: Option<WaitReason>,
    /// The session is being set up on another connection, where it will go on. While that lasts it
    /// holds two references.
    pub is_moving: bool,
    /// The health of its connection.
    pub health: ConnectionHealth,
    /// The session's id at the server.
    pub session_id: Option<String>,
    /// Its streams, in the order of their set-up.
    pub streams: Vec<StreamStats>,
}

/// One media stream of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamStats {
    /// Index of the stream in the presentation.
    pub stream: usize,
    /// Channel of its RTP packets.
    pub rtp_channel: u8,
    /// Channel of its RTCP packets.
    pub rtcp_channel: Option<u8>,
    /// The SSRC the server announced.
    pub ssrc: Option<u32>,
    /// What has come on it.
    pub count: StreamCount,
}

/// The counters of one media stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamCount {
    /// RTP packets received, dropped ones included.
    pub packets: u64,
    /// Bytes of RTP received.
    pub bytes: u64,
    /// RTCP packets received.
    pub rtcp_packets: u64,
    /// Packets dropped because they were not taken in time, or because the consumer was gone.
    pub dropped: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// How often a run of dropped RTP packets began.
    pub overflows: u64,
    /// RTP packets since the last one that `packets` counts which were left out because the
    /// description does not name their payload type.
    pub undescribed: u64,
    /// The payload type of the last of these packets.
    pub undescribed_type: Option<u8>,
}

// The health of one connection in one period while its sessions play, and how many sessions start together over a
// long path.

/// Out-of-order segments in a period from which on the path counts as lossy.
pub(crate) const OUT_OF_ORDER: u32 = 3;

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
