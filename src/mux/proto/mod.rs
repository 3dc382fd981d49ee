//! The protocol core: one RTSP connection and the sessions on it, without I/O.
//!
//! [`Connection`] is a state machine. It knows no socket, clock, task, lock or log: bytes, commands
//! and the time go in; bytes, events and the next deadline come out. The same inputs give the same
//! outputs, so a transcript is a test, a log and a fuzz case.
//!
//! # How to drive it
//!
//! Its methods are of four sorts:
//!
//! 1. *Commands*, from the driver on behalf of sessions:
//!    [`open_session`](Connection::open_session), [`request`](Connection::request),
//!    [`release`](Connection::release), [`send_rtcp`](Connection::send_rtcp),
//!    [`probe`](Connection::probe), [`set_idle`](Connection::set_idle),
//!    [`close`](Connection::close).
//! 2. *Inputs*, `handle_*`, from the socket and the clock. A clock that stood still while the
//!    machine was suspended is corrected by [`handle_suspend`](Connection::handle_suspend).
//!    [`handle_seen`](Connection::handle_seen) comes from the user who looks at requests.
//! 3. *Outputs*, `poll_*`. After any command or input drain
//!    [`poll_transmit`](Connection::poll_transmit) and [`poll_event`](Connection::poll_event), then
//!    arm a timer for [`poll_timeout`](Connection::poll_timeout). [`poll_framing_loss`](Connection::poll_framing_loss)
//!    reports losses of framing.
//! 4. *Getters*.
//!
//! [`set_wire_log`](Connection::set_wire_log) turns on [`poll_wire`](Connection::poll_wire), which
//! returns every message without its secrets, for a log.
//!
//! # What it promises
//!
//! * A packet goes only to the session that owned its channel when the frame began.
//! * Every request completes exactly once, as [`Event::Completed`]; an answer completes only its
//!   own request.
//! * A released session gets exactly one TEARDOWN if an id was ever received for it on a connection
//!   that is still usable, else none; it ends in exactly one [`Event::SessionClosed`]. Sessions that
//!   are not released by then end with the connection.
//! * CSeq rises by one on the wire; the digest count rises by one per nonce, in wire order.
//! * [`Event::Closed`] is the last event, and every outstanding request completes before it. Only a
//!   request that is made after the connection is over completes later.
//! * No allocation per packet: a packet shares the memory it was read into.

pub mod command;
pub mod connection;
pub mod event;
pub mod limits;

pub(crate) mod auth;
pub mod wire;

pub use self::{
    auth::{
        CredentialReport, LeftChallenge,
        credentials::{
            CredentialStatus, CredentialWant, Credentials, Permit, PermitReturn, Refusal,
            RefusalVerdict, Strength, Tag,
        },
        realms::Realms,
    },
    command::{
        OutgoingRequest, ParameterAnswer, ParameterRequest, PlayHeaders, PlayRange, Profile,
        RequestId, ServerAnswer, ServerRequest, SessionConfig, SessionKey, SessionRequest,
        SourcePolicy,
    },
    connection::{
        Connection, ConnectionConfig,
        liveness::KeepAliveMethod,
        requests::HeadOfLine,
        status::{Backlog, Counters, Measures},
    },
    event::{
        CloseReason, Event, Failure, FailureKind, FirstAsked, FramingLoss, Packet, PacketKind,
        PlayAnswer, ProbeOutcome, Redirect, RedirectTime, Reply, Retirement, SharingViolation,
        StreamGrant, Undescribed,
    },
    limits::{LimitExceeded, Limits, Timeouts},
    wire::{
        header::RtpInfo,
        sdp::{InvalidSdp, MediaStream, Presentation},
        server_text::{ServerText, WireMessage},
    },
};
