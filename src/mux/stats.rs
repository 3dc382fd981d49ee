//! What an operator wants to know, per connection, session and stream.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::event::{Congestion, SharingVerdict};

/// A number that one task writes and anybody reads. Relaxed: each stands for itself.
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

/// Numbers of one connection; its driver updates them once per batch, the pool the last two.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounters {
    pub(crate) bytes_received: Gauge,
    pub(crate) bytes_sent: Gauge,
    pub(crate) packets: Gauge,
    pub(crate) sessions: Gauge,
    /// Of these, the ones whose end the server has not confirmed.
    pub(crate) tearing_down: Gauge,
    pub(crate) requests: Gauge,
    pub(crate) server_requests: Gauge,
    pub(crate) frames_unknown: Gauge,
    pub(crate) frames_foreign: Gauge,
    pub(crate) frames_late: Gauge,
    pub(crate) reports_dropped: Gauge,
    pub(crate) resyncs: Gauge,
    pub(crate) repeated_responses: Gauge,
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
    /// How old that verdict is; none while there is none.
    pub sharing_age: Option<Duration>,
    /// Callers waiting for a connection.
    pub waiting: usize,
    /// Its connections, oldest first, without those of `enable-connection-pooling=false`.
    pub connections: Vec<ConnectionStats>,
}

/// What a session waits for that does not play yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitReason {
    /// Its turn to try a server that failed: one session tries for all, within a budget.
    Redial,
    /// A connection: it is being made, or all that the limit allows are in use.
    Connection,
    /// Another session, which finds out whether the server shares connections.
    SharingDecision,
    /// Another session, which looks for room at a full server.
    Capacity,
    /// Sessions that leave a full server: their TEARDOWNs are on the way.
    Teardowns,
    /// Its request was not sent yet: the connection sends other requests first, a password is being
    /// tried, or the connection is checked after it was idle.
    Unsent,
    /// The server's answer to its request.
    Answer,
    /// The server's answer to a request of another session, which is at the head of the line.
    HeadOfLine,
    /// The check that the server has described its URI, and not another one.
    DescriptionCheck,
    /// Other sessions of the connection, before the first of them plays.
    PlayGate,
    /// One more SETUP, sent to find out whether the server shares connections.
    Canary,
}

impl WaitReason {
    /// As `waiting-for` of the element's statistics has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redial => "redial",
            Self::Connection => "connection",
            Self::SharingDecision => "sharing-decision",
            Self::Capacity => "capacity",
            Self::Teardowns => "teardowns",
            Self::Unsent => "unsent",
            Self::Answer => "answer",
            Self::HeadOfLine => "head-of-line",
            Self::DescriptionCheck => "description-check",
            Self::PlayGate => "play-gate",
            Self::Canary => "canary",
        }
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redial => "its turn to try the server again",
            Self::Connection => "a connection",
            Self::SharingDecision => "another session that finds out whether the server shares",
            Self::Capacity => "another session that looks for room at the server",
            Self::Teardowns => "sessions that leave the server",
            Self::Unsent => "its request to be sent",
            Self::Answer => "the answer of the server",
            Self::HeadOfLine => "the answer to another session's request",
            Self::DescriptionCheck => "the check of its description",
            Self::PlayGate => "other sessions of the connection before PLAY",
            Self::Canary => "the test whether the server shares",
        })
    }
}

/// How far a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionState {
    /// Being made.
    Connecting,
    /// Carries sessions, or can.
    Open,
    /// Takes no sessions any more.
    Closing,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Its number; never used again.
    pub id: u64,
    /// How far it is.
    pub state: ConnectionState,
    /// Whether it is one session's own. Does not count against `max-connections-per-server`.
    pub is_dedicated: bool,
    /// Whether sessions are only described on it, and then go to others. Does not count either.
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
    /// Requests sent.
    pub requests: u64,
    /// Requests of the server, answered.
    pub server_requests: u64,
    /// Frames on channels that nobody owns.
    pub frames_unknown: u64,
    /// Frames that were not of the stream that owns their channel.
    pub frames_foreign: u64,
    /// Frames on channels whose session has left.
    pub frames_late: u64,
    /// Receiver reports not sent because the server reads too slowly.
    pub reports_dropped: u64,
    /// Losses of framing that were recovered.
    pub resyncs: u64,
    /// Answers that the server gave once more, dropped.
    pub repeated_responses: u64,
    /// How it bears what is sent over it.
    pub health: ConnectionHealth,
}

/// How a connection bears what is sent over it; taken once in two seconds while something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionHealth {
    /// What its sessions suffer from, if they do.
    pub congestion: Option<Congestion>,
    /// The quickest answer so far to a request that was alone on the connection.
    pub round_trip: Option<Duration>,
    /// The last one to a keep-alive: while sessions play it waits behind their media.
    pub last_answer: Option<Duration>,
    /// What the server takes for a request, where several were on their way.
    pub service_time: Option<Duration>,
    /// Bytes received a second.
    pub rate: u64,
    /// RTP packets that the server has left out.
    pub lost: u64,
    /// The receiver's estimate of the round trip (`tcpi_rcv_rtt`), queues on the way included. Linux.
    pub path_round_trip: Option<Duration>,
    /// Segments that came out of order (`tcpi_rcv_ooopack`): most were lost before and sent again. Linux.
    pub out_of_order: Option<u32>,
}

/// One session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// The number of its connection; none before it has one.
    pub connection: Option<u64>,
    /// Sessions on that connection.
    pub sessions_on_connection: u64,
    /// Handles to that connection.
    pub references_on_connection: u64,
    /// Connections to its server.
    pub connections_to_server: u64,
    /// Whether sessions of its server share connections.
    pub sharing: SharingVerdict,
    /// Why they do not, if so.
    pub cannot_share: Option<String>,
    /// How old that verdict is; none while there is none.
    pub sharing_age: Option<Duration>,
    /// What the session waits for, as long as it does not play; none while it plays, and once it has
    /// ended.
    pub waiting_for: Option<WaitReason>,
    /// It is being brought up on another connection, where it will go on: for as long as that takes
    /// it has two references.
    pub is_moving: bool,
    /// How its connection bears what is sent over it.
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
    /// RTP packets received, dropped ones included.
    pub packets: u64,
    /// Bytes of RTP received.
    pub bytes: u64,
    /// RTCP packets received.
    pub rtcp_packets: u64,
    /// Packets dropped because they were not taken in time.
    pub dropped: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// How often RTP packets began to be dropped; a run of them is one overflow.
    pub overflows: u64,
    /// RTP packets that came since the last one that is counted in `packets`, and were left out: the
    /// description does not name their payload type.
    pub undescribed: u64,
    /// The payload type of the last one of these.
    pub undescribed_type: Option<u8>,
}
