//! What the core accepts from a peer and how long it waits, each default with its reason.

use std::time::Duration;

/// From this round trip on a path is long: first pictures wait for TCP's slow start, not for the
/// server.
pub(crate) const LONG_PATH: Duration = Duration::from_millis(10);

/// A structure whose fields stand with their defaults.
macro_rules! with_defaults {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $type:ty = $default:expr,)* }
    ) => {
        $(#[$meta])*
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}
pub(crate) use with_defaults;

with_defaults! {
    /// Sizes a peer may not exceed; beyond one the request fails with [`LimitExceeded`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Limits {
        /// Status or request line, in bytes. Longer lines were only ever seen in garbage.
        pub start_line: usize = 8 * 1024,
        /// One header, in bytes; a longer one is left out, as `RTP-Info` of 60 KiB is. Digest challenges and
        /// RTP-Info of 32 streams stay below 8 KiB.
        pub header_line: usize = 16 * 1024,
        /// All headers of a message, in bytes.
        pub headers: usize = 64 * 1024,
        /// Number of headers of a message.
        pub header_count: usize = 1024,
        /// Body of a message, in bytes. Descriptions of 579 KB exist in the wild (a key picture in
        /// `sprop-parameter-sets`); what they cost is bounded where they are read.
        pub body: usize = 4 * 1024 * 1024,
        /// Bytes skipped while looking for the next frame or message before the connection is given up.
        pub resync: usize = 64 * 1024,
        /// Provisional (1xx) answers to one request.
        pub provisional: u32 = 20,
        /// Requests of the server answered in [`Timeouts::storm_window`]; more is a storm (fault F19).
        pub server_requests: u32 = 100,
        /// Answers that match no request in [`Timeouts::storm_window`], plus one for each session,
        /// before the connection is given up.
        pub unmatched_responses: u32 = 20,
        /// Repeated answers in [`Timeouts::storm_window`]. live555 repeats the answer to a DESCRIBE for
        /// each byte that arrives meanwhile, and a server that sends everything twice repeats three
        /// answers for each session that starts: up to 1400 of them are no reason to end sessions that
        /// play.
        pub repeated_responses: u32 = 2000,
        /// Requests of one session on the wire at a time (RFC 7826 10.2 asks for restraint).
        pub outstanding_per_session: usize = 10,
        /// Channel pairs that must be free before a session is added, for collisions and further
        /// streams of other sessions.
        pub spare_pairs: usize = 8,
        /// Quarantined pairs beyond which a connection takes no new session.
        pub quarantined_pairs: usize = 32,
        /// Bytes waiting to be written from which on receiver reports are dropped, not queued.
        pub report_backlog: usize = 64 * 1024,
    }
}

/// The limit that a message exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer's {what} exceed the limit of {limit}")]
pub struct LimitExceeded {
    /// The part that is too large.
    pub what: &'static str,
    /// Its limit, in the unit of `what`.
    pub limit: usize,
}

with_defaults! {
    /// How long the core waits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Timeouts {
        /// Response deadline from the moment a request is head of line (RFC 7826 10.4 suggests 10 s).
        pub response: Duration = Duration::from_secs(10),
        /// The same for DESCRIBE: gst-rtsp-server holds one for 20 s while it prerolls a media.
        pub describe: Duration = Duration::from_secs(25),
        /// The same for keep-alives and pings.
        pub keep_alive: Duration = Duration::from_secs(5),
        /// The same for TEARDOWN: a session that ends does not hold up others for long.
        pub teardown: Duration = Duration::from_secs(2),
        /// The longest any request stays unanswered, head of line or not.
        pub ceiling: Duration = Duration::from_secs(60),
        /// A message that has begun must be complete after this time in which bytes arrived (fault F35).
        pub message: Duration = Duration::from_secs(10),
        /// Silence after a SETUP that the server has read, after which the core sends an OPTIONS as a
        /// fence (fault F09). After a request that the server may have lost because it came together with
        /// others, the core waits for 100 ms, or four round trips, but not longer than this.
        /// `Duration::MAX`: never.
        pub fence: Duration = Duration::from_secs(1),
        /// Silence on a connection with playing sessions after which the server is probed.
        pub silence_probe: Duration = Duration::from_secs(10),
        /// Silence on a connection with playing sessions after which it is dead.
        pub silence_dead: Duration = Duration::from_secs(20),
        /// An idle connection is pinged before reuse when it was idle for longer than this.
        pub health_check_after: Duration = Duration::from_secs(5),
        /// Quarantine of a channel pair after the answer to its TEARDOWN, and after the last frame that
        /// came on it later.
        pub quarantine: Duration = Duration::from_secs(2),
        /// Quiet time on an unanswered TEARDOWN's channels, after the session timeout, before reuse.
        pub quarantine_quiet: Duration = Duration::from_secs(5),
        /// The session timeout where the server names none (RFC 2326 12.37).
        pub session: Duration = Duration::from_secs(60),
        /// The longest time in which bytes arrive but no frame or message is found, after framing was
        /// lost. The number of losses does not matter.
        pub resync: Duration = Duration::from_secs(1),
        /// Window of [`Limits::server_requests`] and [`Limits::unmatched_responses`].
        pub storm_window: Duration = Duration::from_secs(10),
        /// Time without progress of the writer after which the peer is taken for dead (fault F34).
        pub write_stall: Duration = Duration::from_secs(20),
    }
}
