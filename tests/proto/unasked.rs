//! Bytes that a server sends on an idle connection (fault F47).

use gstrtspmux::mux::proto::{CloseReason, Event, FailureKind, Retirement};

use crate::sim::{SECOND, Sim, config, media};
use crate::support::rtsp::{Incoming, Request, Response, RtpPacket};

/// A connection whose only session was torn down and answered.
fn idle() -> Sim {
    let mut sim = Sim::new(config());
    let session = sim.playing(1);
    sim.release(session);
    sim.set_idle(Some(60 * SECOND));
    let teardown = sim.expect_sent("TEARDOWN");
    sim.answer(200, teardown, &[]);
    assert!(matches!(sim.next_event(), Some(Event::SessionClosed(_))));
    sim.advance(SECOND);
    sim.expect_no_event();
    sim
}

fn answer(cseq: u32) -> Vec<u8> {
    let answer = Response::new(200).header("CSeq", cseq.to_string());
    answer.to_bytes()
}

fn request() -> Vec<u8> {
    let request = Request::new("OPTIONS", "rtsp://nvr/1").header("CSeq", "5");
    request.to_bytes()
}

#[test]
fn f47_what_comes_whole_and_unasked_ends_an_idle_connection() {
    let unasked = [
        ("garbage", b"\xfe\xfe\xfe".to_vec()),
        ("words", b"hello\r\n".to_vec()),
        ("a frame on a channel that no session has", media(100, 1)),
        ("an answer to nothing", answer(77)),
        ("an answer given once more", answer(3)),
        (
            "an answer without a number",
            b"RTSP/1.0 400 Bad Request\r\n\r\n".to_vec(),
        ),
        (
            "one on its way",
            b"RTSP/1.0 100 Continue\r\nCSeq: 9\r\n\r\n".to_vec(),
        ),
    ];
    for (what, bytes) in unasked {
        let mut sim = idle();
        sim.receive(&bytes);
        let reason = sim.expect_closed();
        assert!(
            matches!(reason, CloseReason::Protocol(_)),
            "{what}: {reason:?}"
        );
    }
}

#[test]
fn f47_half_of_anything_ends_the_connection_when_it_is_to_be_used_again() {
    for whole in [media(0, 1), media(100, 1), answer(3), answer(4), request()] {
        for at in 1..whole.len() {
            let mut sim = idle();
            sim.receive(&whole[..at]);
            if sim.close_reason().is_some() {
                continue;
            }
            sim.set_idle(None);
            let reason = sim.expect_closed();
            assert!(matches!(reason, CloseReason::Protocol(_)), "{reason:?}");
            assert!(matches!(
                sim.try_open("rtsp://nvr/2"),
                Err(FailureKind::ConnectionLost(_))
            ));
            sim.expect_nothing_sent();
        }
    }
}

#[test]
fn f47_what_may_come_on_an_idle_connection_harms_nothing() {
    let may_come = [
        media(0, 1),
        request(),
        b"\r\n".to_vec(),
        b"\r\n\r\n".to_vec(),
    ];
    for bytes in may_come {
        for at in 0..bytes.len() {
            let mut sim = idle();
            let (first, second) = bytes.split_at(at);
            sim.receive(first);
            sim.receive(second);
            sim.set_idle(None);
            sim.expect_no_event();
            let session = sim.open("rtsp://nvr/2");
            sim.describe(session);
            let described = std::iter::from_fn(|| sim.next_sent()).any(
                |sent| matches!(sent, Incoming::Request(request) if request.method == "DESCRIBE"),
            );
            assert!(described, "{bytes:?}");
        }
    }
}

#[test]
fn f47_an_answer_to_a_tombstone_harms_nothing() {
    let mut sim = Sim::new(config());
    let session = sim.open("rtsp://nvr/1");
    sim.describe(session);
    let describe = sim.expect_sent("DESCRIBE");
    sim.media(0, 1);
    sim.advance(24 * SECOND);
    sim.media(0, 1);
    sim.advance(2 * SECOND);
    while sim.next_event().is_some() {}
    sim.release(session);
    sim.set_idle(Some(60 * SECOND));
    while sim.next_event().is_some() {}
    sim.answer(404, describe, &[]);
    sim.set_idle(None);
    assert_eq!(sim.close_reason(), None);
}

#[test]
fn f47_a_teardown_that_is_out_is_waited_for() {
    let mut sim = Sim::new(config());
    let session = sim.playing(1);
    sim.release(session);
    sim.set_idle(Some(60 * SECOND));
    let teardown = sim.expect_sent("TEARDOWN");
    sim.receive(b"\xfe\xfe\xfe");
    assert!(matches!(
        sim.next_event(),
        Some(Event::NoMoreSessions(Retirement::SpokeUnasked))
    ));
    let packet = RtpPacket {
        payload_type: 96,
        ..RtpPacket::default()
    };
    assert!(packet.to_bytes().len() >= 12);
    sim.media(0, 1);
    sim.answer(200, teardown, &[]);
    assert!(matches!(sim.next_event(), Some(Event::SessionClosed(_))));
    assert!(matches!(sim.next_event(), Some(Event::IdleExpired)));
    sim.set_idle(None);
    assert!(matches!(sim.expect_closed(), CloseReason::Protocol(_)));
}

#[test]
fn f47_on_a_connection_in_use_it_costs_nothing() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    sim.receive(&answer(77));
    sim.receive(b"\xfe\xfe");
    sim.media(0, 1);
    sim.expect_packet();
    sim.expect_no_event();
}

#[test]
fn f47_garbage_right_before_the_last_one_left_counts_as_well() {
    let mut sim = Sim::new(config());
    let session = sim.playing(1);
    sim.release(session);
    let teardown = sim.expect_sent("TEARDOWN");
    sim.answer(200, teardown, &[]);
    assert!(matches!(sim.next_event(), Some(Event::SessionClosed(_))));
    sim.receive(b"\xfe");
    sim.set_idle(Some(60 * SECOND));
    assert!(matches!(sim.expect_closed(), CloseReason::Protocol(_)));
}

/// The session's camera was sending when it left: half a frame on its way is nothing unasked, and
/// the session that comes at the same moment shares the connection.
#[test]
fn f47_half_a_frame_of_a_session_that_is_leaving_harms_nothing() {
    let frame = media(0, 1);
    for at in 1..frame.len() {
        let mut sim = Sim::new(config());
        let session = sim.playing(1);
        let (half, rest) = frame.split_at(at);
        sim.receive(half);
        sim.release(session);
        sim.set_idle(Some(60 * SECOND));
        sim.set_idle(None);
        let teardown = sim.expect_sent("TEARDOWN");
        let next = sim.open("rtsp://nvr/2");
        sim.describe(next);
        sim.receive(rest);
        sim.answer(200, teardown, &[]);
        assert_eq!(sim.close_reason(), None, "{at}");
        sim.expect_sent("DESCRIBE");
    }
}

/// The connection is not used again, and closes only when the TEARDOWN is answered.
#[test]
fn f47_a_connection_that_is_not_used_again_still_tears_down() {
    let unasked: [&[u8]; 3] = [b"\xfe\xfe\xfe", b"hello\r\n", b"\xfe\xfe\xfe$"];
    for bytes in unasked {
        let mut sim = Sim::new(config());
        let session = sim.playing(1);
        sim.release(session);
        sim.receive(bytes);
        sim.set_idle(Some(60 * SECOND));
        sim.set_idle(None);
        let refused = sim.try_open("rtsp://nvr/2");
        let is_unasked = |reason: &CloseReason| matches!(reason, CloseReason::Protocol(_));
        assert!(
            matches!(&refused, Err(FailureKind::ConnectionLost(reason)) if is_unasked(reason)),
            "{refused:?}"
        );
        let teardown = sim.expect_sent("TEARDOWN");
        assert_eq!(sim.close_reason(), None, "{bytes:?}");
        sim.set_idle(Some(60 * SECOND));
        sim.receive(&media(0, 1));
        sim.answer(200, teardown, &[]);
        while sim.close_reason().is_none() && sim.next_event().is_some() {}
        assert!(sim.close_reason().is_some_and(is_unasked), "{bytes:?}");
    }
}
