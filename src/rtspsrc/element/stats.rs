//! The property `stats`: connection, session and streams of an element, as a structure.

use gst::{glib, prelude::*};
use gstreamer as gst;

use crate::{
    mux::{Congestion, ConnectionHealth, SessionStats, StreamStats, WaitReason},
    rtspsrc::{manager::StreamReport, nanoseconds, session::control::SessionStatus},
};

/// The structure. It leaves out fields that are not known yet.
pub(crate) fn structure(
    stats: &SessionStats,
    status: &SessionStatus,
    reports: &[StreamReport],
) -> gst::Structure {
    let report = |number| reports.iter().find(|report| report.stream == number);
    let streams = stats.streams.iter();
    let streams: Vec<glib::SendValue> = streams
        .map(|stats| stream(stats, report(stats.stream)))
        .collect();
    gst::Structure::builder("application/x-rtspmux-stats")
        .field("state", status.state.name())
        .field("outages", status.outages)
        .field("attempts", status.attempts)
        .field_if_some("last-error", status.last_error.as_deref())
        .field_if_some("waiting-for", stats.waiting_for.map(WaitReason::name))
        .field_if_some("connection-id", stats.connection)
        .field("sessions", stats.sessions_on_connection)
        .field("references", stats.references_on_connection)
        .field("connections-to-server", stats.connections_to_server)
        .field("sharing", stats.sharing.name())
        .field_if_some("cannot-share", stats.cannot_share.as_deref())
        .field_if_some("sharing-age", stats.sharing_age.map(|age| age.as_secs()))
        .field("connection-health", health(&stats.health))
        .field_if_some("session-id", stats.session_id.as_deref())
        .field("streams", gst::Array::from_values(streams))
        .build()
}

/// The health of the connection; times in nanoseconds.
fn health(health: &ConnectionHealth) -> gst::Structure {
    gst::Structure::builder("application/x-rtspmux-connection-health")
        .field_if_some("congestion", health.congestion.map(Congestion::name))
        .field_if_some("round-trip", health.round_trip.map(nanoseconds))
        .field_if_some("last-answer", health.last_answer.map(nanoseconds))
        .field_if_some("service-time", health.service_time.map(nanoseconds))
        .field("rate", health.rate)
        .field("lost", health.lost)
        .field_if_some("path-round-trip", health.path_round_trip.map(nanoseconds))
        .field_if_some("out-of-order", health.out_of_order)
        .build()
}

/// The structure of an element without a session.
pub(crate) fn empty() -> gst::Structure {
    structure(&SessionStats::default(), &SessionStatus::default(), &[])
}

fn stream(stats: &StreamStats, report: Option<&StreamReport>) -> glib::SendValue {
    let source = report.and_then(|report| report.ssrc);
    let sender = report.and_then(|report| report.sender);
    gst::Structure::builder("application/x-rtspmux-stream-stats")
        .field("stream", stats.stream as u64)
        .field("rtp-channel", u32::from(stats.rtp_channel))
        .field_if_some("rtcp-channel", stats.rtcp_channel.map(u32::from))
        .field_if_some("ssrc", source.or(stats.ssrc))
        .field("packets", stats.count.packets)
        .field("bytes", stats.count.bytes)
        .field("rtcp-packets", stats.count.rtcp_packets)
        .field("drops", stats.count.dropped)
        .field("dropped-bytes", stats.count.dropped_bytes)
        .field("overflows", stats.count.overflows)
        .field_if_some("highest-sequence", report.map(|it| it.highest_sequence))
        .field_if_some("lost", report.map(|report| report.lost))
        .field_if_some("jitter", report.map(|report| report.jitter))
        .field_if_some("reports-sent", report.map(|report| report.reports_sent))
        .field_if_some("sr-ntp-time", sender.map(|sender| sender.ntp))
        .field_if_some("sr-rtp-time", sender.map(|sender| sender.time))
        .build()
        .to_send_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_session_there_are_counts_but_no_ids() {
        gst::init().unwrap();
        let stats = empty();
        assert!(!stats.has_field("connection-id") && !stats.has_field("session-id"));
        assert_eq!(stats.get::<u64>("sessions"), Ok(0));
        assert_eq!(stats.get::<gst::Array>("streams").unwrap().len(), 0);
    }
}
