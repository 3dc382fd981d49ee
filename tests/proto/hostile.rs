//! Servers that send too much, too slowly, or unasked.

use bytes::BytesMut;
use std::time::Duration;

use gstrtspmux::mux::proto::{
    CloseReason, Connection, CredentialReport, CredentialStatus, CredentialWant, Event,
    FailureKind, Permit, RefusalVerdict, Reply, RequestId, wire::redacted,
};

use crate::sim::{SECOND, Sim, config, config_with, media};
use crate::support::rtsp::{Incoming, Request, Response};

const KIB: usize = 1024;

/// Two DESCRIBEs are outstanding while a third session plays.
fn two_described(sim: &mut Sim) -> [(RequestId, u32); 2] {
    sim.server = Some("GStreamer RTSP server");
    let playing = sim.playing(1);
    // After a quick answer two DESCRIBEs may be outstanding.
    let quick = sim.describe(playing);
    let cseq = sim.expect_sent("DESCRIBE");
    sim.answer(404, cseq, &[]);
    sim.expect_failed(quick);
    [2, 3].map(|number| {
        let session = sim.open(&format!("rtsp://nvr/{number}"));
        let id = sim.describe(session);
        (id, sim.expect_sent("DESCRIBE"))
    })
}

/// The second description and the media of the third session arrive undisturbed.
fn expect_undisturbed(sim: &mut Sim, (id, cseq): (RequestId, u32)) {
    let answer = Response::new(200)
        .header("CSeq", cseq.to_string())
        .content("application/sdp", "v=0\r\n");
    sim.receive(&answer.to_bytes());
    assert!(matches!(
        sim.expect_completed(id),
        Ok(Reply::Described { .. })
    ));
    sim.media(0, 1);
    sim.expect_packet();
    sim.expect_no_event();
}

/// Sends in reads of 4 KiB, and checks that the core keeps no more than it must.
fn receive_in_reads(sim: &mut Sim, bytes: &[u8], most: usize) {
    for read in bytes.chunks(4 * KIB) {
        sim.receive(read);
        assert!(sim.unread() <= most, "{} bytes are kept", sim.unread());
    }
}

#[test]
fn f36_an_oversize_description_fails_its_own_request() {
    let mut sim = Sim::new(config());
    let [(large, cseq), other] = two_described(&mut sim);
    let answer = Response::new(200)
        .header("CSeq", cseq.to_string())
        .content("application/sdp", vec![b'a'; 5 * 1024 * KIB]);
    receive_in_reads(&mut sim, &answer.to_bytes(), 4 * KIB);
    assert!(matches!(
        sim.expect_failed(large),
        FailureKind::LimitExceeded(_)
    ));
    expect_undisturbed(&mut sim, other);
}

#[test]
fn f36_a_flood_of_headers_fails_its_own_request() {
    let mut sim = Sim::new(config());
    let [(flooded, cseq), other] = two_described(&mut sim);
    let mut answer = Response::new(200).header("CSeq", cseq.to_string());
    for number in 0..8000 {
        answer = answer.header(&format!("X-{number}"), "x".repeat(20));
    }
    receive_in_reads(&mut sim, &answer.to_bytes(), 64 * KIB + 4 * KIB);
    assert!(matches!(
        sim.expect_failed(flooded),
        FailureKind::LimitExceeded(_)
    ));
    expect_undisturbed(&mut sim, other);
}

#[test]
fn f36_an_impossible_content_length_fails_its_own_request() {
    for length in ["9223372036854775808", "99999999999999999999999", "-1", "4x"] {
        let mut sim = Sim::new(config());
        let [(impossible, cseq), other] = two_described(&mut sim);
        sim.answer(200, cseq, &[&format!("Content-Length: {length}")]);
        let kind = sim.expect_failed(impossible);
        assert!(
            matches!(
                kind,
                FailureKind::LimitExceeded(_) | FailureKind::Malformed(_)
            ),
            "{length}: {kind:?}"
        );
        expect_undisturbed(&mut sim, other);
    }
}

#[test]
fn f36_contradictory_lengths_fail_their_own_request() {
    let mut sim = Sim::new(config());
    let [(repeated, cseq), other] = two_described(&mut sim);
    let lengths = ["Content-Length: 0", "Content-Length: 7"];
    sim.answer(200, cseq, &lengths);
    assert!(matches!(
        sim.expect_failed(repeated),
        FailureKind::Malformed(_)
    ));
    expect_undisturbed(&mut sim, other);
}

#[test]
fn f19_provisional_answers_without_end_end_the_connection() {
    let mut sim = Sim::new(config());
    let session = sim.open("rtsp://nvr/1");
    let describe = sim.describe(session);
    let cseq = sim.expect_sent("DESCRIBE");
    for _ in 0..20 {
        sim.answer(100, cseq, &[]);
    }
    sim.expect_no_event();
    sim.answer(100, cseq, &[]);
    assert!(matches!(
        sim.expect_failed(describe),
        FailureKind::ConnectionLost(_)
    ));
    assert!(matches!(sim.expect_closed(), CloseReason::Protocol(_)));
}

#[test]
fn f19_a_storm_of_unsolicited_answers_ends_the_connection() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    for cseq in 1000..1021 {
        sim.answer(200, cseq, &[]);
    }
    sim.expect_no_event();
    sim.answer(200, 1021, &[]);
    assert!(matches!(sim.expect_closed(), CloseReason::Protocol(_)));
}

#[test]
fn f19_wrong_numbers_in_the_answers_to_all_keep_alives_are_no_storm() {
    let mut sim = Sim::new(config());
    for key in 1..=40 {
        sim.playing(key);
    }
    for _ in 0..40 {
        sim.answer(400, 9999, &[]);
    }
    sim.expect_no_event();
}

#[test]
fn f19_a_stray_answer_now_and_then_is_no_storm() {
    let mut sim = Sim::new(config());
    for _ in 0..3600 {
        sim.advance(SECOND);
        sim.answer(200, 77, &[]);
    }
    sim.expect_no_event();
    assert_eq!(sim.connection.counters().unmatched_responses, 3600);
}

fn server_request(cseq: u32) -> Vec<u8> {
    Request::new("OPTIONS", "rtsp://nvr/1")
        .header("CSeq", cseq.to_string())
        .to_bytes()
}

#[test]
fn f20_every_request_of_a_talkative_server_is_answered() {
    let mut sim = Sim::new(config());
    for cseq in 0..600 {
        sim.advance(SECOND / 8);
        sim.receive(&server_request(cseq));
        let Some(Incoming::Response(answer)) = sim.next_sent() else {
            panic!("no answer to {cseq}");
        };
        assert_eq!((answer.status, answer.headers.cseq()), (200, Some(cseq)));
    }
    sim.expect_no_event();
}

#[test]
fn f19_a_storm_of_requests_ends_the_connection() {
    let mut sim = Sim::new(config());
    for cseq in 0..101 {
        sim.receive(&server_request(cseq));
    }
    assert!(matches!(sim.expect_closed(), CloseReason::Protocol(_)));
    let answers = std::iter::from_fn(|| sim.next_sent()).count();
    assert_eq!(answers, 100);
}

#[test]
fn f35_an_answer_at_one_byte_a_second_ends_the_connection() {
    let mut sim = Sim::new(config());
    let session = sim.open("rtsp://nvr/1");
    let describe = sim.describe(session);
    let cseq = sim.expect_sent("DESCRIBE");
    sim.advance(SECOND);
    let begun = sim.elapsed();
    let answer = Response::new(404).header("CSeq", cseq.to_string());
    for byte in answer.to_bytes() {
        sim.receive(&[byte]);
        if sim.close_reason().is_some() {
            break;
        }
        sim.advance(SECOND);
    }
    assert!(matches!(
        sim.expect_failed(describe),
        FailureKind::ConnectionLost(_)
    ));
    assert!(matches!(sim.expect_closed(), CloseReason::Dead(_)));
    assert!(sim.elapsed() - begun <= 10 * SECOND);
}

#[test]
fn f35_a_stall_of_the_link_in_mid_frame_is_no_offence() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    let frame = media(0, 1);
    for _ in 0..20 {
        let (first, second) = frame.split_at(7);
        sim.receive(first);
        sim.advance(9 * SECOND);
        sim.receive(second);
        sim.expect_packet();
        while let Some(request) = sim.next_request() {
            sim.answer(200, request.headers.cseq().unwrap(), &[]);
        }
    }
    sim.expect_no_event();
}

#[test]
fn f34_a_peer_that_does_not_read_is_dead_after_20_s_and_delivers_until_then() {
    let mut sim = Sim::new(config());
    let session = sim.playing(1);
    sim.stop_reading();
    let report = [0x80, 0xc9, 0, 1, 0, 0, 0, 9];
    assert!(sim.send_rtcp(session, 0, &report));
    let other = sim.open("rtsp://nvr/2");
    let describe = sim.describe(other);
    for _ in 0..19 {
        sim.advance(SECOND);
        sim.media(0, 1);
        sim.expect_packet();
    }
    sim.expect_no_event();
    sim.advance(SECOND);
    assert!(matches!(
        sim.expect_failed(describe),
        FailureKind::ConnectionLost(_)
    ));
    assert!(matches!(sim.expect_closed(), CloseReason::Dead(_)));
}

#[test]
fn f34_reports_to_a_peer_that_does_not_read_are_dropped() {
    let mut sim = Sim::new(config());
    let session = sim.playing(1);
    sim.stop_reading();
    let report = [0x80; 1000];
    let sent = (0..1000).filter(|_| sim.send_rtcp(session, 0, &report));
    assert_eq!(sent.count(), 64 * KIB / 1004);
    assert!(sim.connection.counters().reports_dropped > 900);
}

#[test]
fn f34_a_stall_that_only_reports_can_show_is_found() {
    let mut sim = Sim::new(config());
    let session = sim.playing(1);
    sim.stop_reading();
    let report = [0x80, 0xc9, 0, 1, 0, 0, 0, 9];
    sim.send_rtcp(session, 0, &report);
    for _ in 0..20 {
        sim.advance(SECOND);
        sim.media(0, 1);
        if sim.close_reason().is_none() {
            sim.expect_packet();
        }
    }
    assert!(matches!(sim.close_reason(), Some(CloseReason::Dead(_))));
}

#[test]
fn f12_the_121st_session_is_refused_and_8_pairs_stay_for_streams() {
    let mut sim = Sim::new(config());
    let sessions: Vec<_> = (1..=120).map(|number| sim.playing(number)).collect();
    let last = sim.open("rtsp://nvr/121");
    let refused = sim.setup(last, "rtsp://nvr/121/track1");
    sim.expect_nothing_sent();
    assert_eq!(sim.expect_failed(refused), FailureKind::ChannelsExhausted);
    for session in sessions.iter().take(8) {
        let setup = sim.setup_stream(*session, 1, "rtsp://nvr/1/track2");
        let cseq = sim.expect_sent("SETUP");
        sim.answer(200, cseq, &[]);
        sim.expect_granted(setup);
    }
    let none_left = sim.setup_stream(sessions[0], 2, "rtsp://nvr/1/track3");
    assert_eq!(sim.expect_failed(none_left), FailureKind::ChannelsExhausted);
    for (channel, session) in (0..=238).step_by(2).zip(&sessions) {
        sim.media(channel, 1);
        assert_eq!(sim.expect_packet().session, *session);
    }
}

#[test]
fn f14_media_on_unknown_channels_is_counted_and_dropped() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    for _ in 0..10_000 {
        sim.media(200, 1);
    }
    sim.expect_no_event();
    assert_eq!(sim.connection.counters().unknown_frames, 10_000);
    assert_eq!(sim.unread(), 0);
    sim.media(0, 1);
    sim.expect_packet();
}

#[test]
fn f16_frames_are_found_again_behind_garbage_of_any_size() {
    for size in [1, 2, 3, 4, 5, 100, 4 * KIB, 60 * KIB] {
        let mut sim = Sim::new(config());
        sim.playing(1);
        receive_in_reads(&mut sim, &vec![b'\xfe'; size], 4 * KIB);
        for _ in 0..3 {
            sim.media(0, 1);
            assert_eq!(sim.expect_packet().payload, media(0, 1)[4..], "{size}");
        }
        sim.expect_no_event();
        assert_eq!(sim.connection.counters().resyncs, 1, "{size}");
    }
}

/// The next question for a permit.
fn next_wants(sim: &mut Sim) -> Vec<CredentialWant> {
    let mut events = std::iter::from_fn(|| sim.next_event());
    let wants = events.find_map(|event| match event {
        Event::Credentials(CredentialReport::Wanted(wants)) => Some(wants),
        _ => None,
    });
    wants.expect("a question for leave")
}

fn permit(want: &CredentialWant) -> Permit {
    Permit {
        uri: want.uri,
        below: None,
        ceiling: None,
        closes_behind_401: false,
    }
}

#[test]
fn f22_of_16_sessions_one_at_a_time_tries_the_password() {
    let unproven = CredentialStatus::Unproven { is_exclusive: true };
    let mut sim = Sim::new(config_with("u", "p", unproven));
    let challenge = r#"WWW-Authenticate: Digest realm="cam", nonce="n", qop="auth""#;
    for number in 1..=16 {
        let session = sim.open(&format!("rtsp://nvr/{number}"));
        sim.describe(session);
    }
    sim.expect_nothing_sent();
    // The first question came when only the first request waited; the second includes the others.
    let wants = next_wants(&mut sim);
    assert_eq!(wants.len(), 1);
    sim.set_credentials(CredentialStatus::Permitted(permit(&wants[0])));
    let first = sim.expect_sent("DESCRIBE");
    sim.expect_nothing_sent();
    sim.answer(401, first, &[challenge]);
    let trial = sim.expect_sent("DESCRIBE");
    sim.expect_nothing_sent();
    sim.answer(401, trial, &[challenge]);
    sim.expect_nothing_sent();
    let wants = next_wants(&mut sim);
    assert_eq!(wants.len(), 15);
    sim.judge(RefusalVerdict::Refused { try_weaker: false });
    let until = sim.now() + Duration::from_secs(60);
    sim.set_credentials(CredentialStatus::Refused {
        until,
        was_refused: true,
    });
    sim.expect_nothing_sent();
    assert_eq!(sim.unfinished(), 0, "all 16 were told");
}

#[test]
fn http_is_told_by_name() {
    let mut sim = Sim::new(config());
    sim.receive(b"HTTP/1.0 400 Bad Request\r\n\r\n");
    match sim.expect_closed() {
        CloseReason::Protocol(why) => assert!(why.contains("HTTP"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn packets_share_the_memory_they_were_read_into() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    let now = sim.now();
    let mut read = BytesMut::from(&media(0, 1)[..]);
    let range = read.as_ptr_range();
    let connection: &mut Connection = &mut sim.connection;
    let mut packets = Vec::new();
    connection.handle_input(now, &mut read, |packet| packets.push(packet));
    assert_eq!(packets.len(), 1);
    assert!(range.contains(&packets[0].payload.as_ptr()));
}

#[test]
fn packets_and_answers_that_are_read_together_come_in_their_order() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    let session = sim.ready(2);
    let play = sim.play(session, "rtsp://nvr/2/");
    let cseq = sim.expect_sent("PLAY");
    let answer = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: id2\r\n\r\n");
    sim.receive(&[&media(0, 1)[..], answer.as_bytes(), &media(2, 2)].concat());
    assert_ne!(sim.expect_packet().session, session);
    assert!(matches!(sim.expect_completed(play), Ok(Reply::Playing(_))));
    assert_eq!(sim.expect_packet().session, session);
    sim.expect_no_event();
}

#[test]
fn the_wire_log_has_every_message_and_no_secret() {
    let mut sim = Sim::new(config_with(
        "us3r",
        "hunter2",
        CredentialStatus::Proven(None),
    ));
    let session = sim.open("rtsp://nvr/1?password=hunter2");
    sim.describe(session);
    assert!(sim.wire_log().is_empty(), "not asked for");
    sim.connection.set_wire_log(true);
    let challenge = r#"WWW-Authenticate: Digest realm="cam", nonce="n0nce", qop="auth""#;
    sim.answer(401, 1, &[challenge]);
    let request = Request::new("OPTIONS", "rtsp://u:hunter2@nvr/").header("CSeq", "9");
    sim.receive(&request.to_bytes());
    sim.next_request();
    let authorized = sim.next_request().expect("the DESCRIBE again");
    let value = authorized.headers.value("Authorization").expect("a digest");
    let response = value.split("response=\"").nth(1).expect("a response");
    let response = response.split('"').next().unwrap_or_default();
    let log = sim.wire_log();
    let starts: Vec<&str> = log.iter().filter_map(|text| text.lines().next()).collect();
    let shown = redacted(&"rtsp://nvr/1?password=hunter2".parse().unwrap());
    assert_eq!(
        starts,
        [
            "s0: < RTSP/1.0 401 Unauthorized",
            &format!("s0: > DESCRIBE {shown} RTSP/1.0"),
            "-: < OPTIONS rtsp://nvr/ RTSP/1.0",
            "-: > RTSP/1.0 200 OK",
        ]
    );
    for secret in ["us3r", "hunter2", "n0nce", response] {
        assert!(!log.concat().contains(secret), "{secret} in {log:?}");
    }
    assert!(log.concat().contains("realm=\"cam\""));
}
