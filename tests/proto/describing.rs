//! What may follow a DESCRIBE.

use std::time::Duration;

use gstrtspmux::mux::proto::{CloseReason, ConnectionConfig, Event, FailureKind, SessionKey};

use crate::sim::{MILLISECOND, SECOND, Sim, config};
use crate::support::rtsp::{Incoming, Response};

const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=control:track1\r\n";

/// The requests that are in the next write of the core.
fn write(sim: &mut Sim) -> Vec<(String, String)> {
    let mut sent = Vec::new();
    while let Some(incoming) = sim.next_sent() {
        if let Incoming::Request(request) = incoming {
            sent.push((request.method, request.uri));
        }
    }
    sent
}

fn methods(sim: &mut Sim) -> Vec<String> {
    write(sim).into_iter().map(|(method, _)| method).collect()
}

/// Several sessions ask for their descriptions before the core is polled.
fn describe_together(sim: &mut Sim, sessions: &[SessionKey]) {
    sim.is_held = true;
    for (at, session) in sessions.iter().enumerate() {
        sim.is_held = at + 1 < sessions.len();
        sim.describe(*session);
    }
}

fn open_all(sim: &mut Sim, count: usize) -> Vec<SessionKey> {
    let url = |number| format!("rtsp://nvr/{number}");
    (0..count)
        .map(|number| sim.open(&url(100 + number)))
        .collect()
}

fn described(sim: &mut Sim, cseq: u32) {
    let answer = Response::new(200)
        .header("CSeq", cseq.to_string())
        .content("application/sdp", SDP);
    sim.receive(&answer.to_bytes());
}

#[test]
fn a_batch_of_describes_is_one_write_of_one_segment_and_nothing_follows_before_all_are_answered() {
    let mut sim = Sim::new(config());
    let sessions = open_all(&mut sim, 40);
    describe_together(&mut sim, &sessions);
    let first = write(&mut sim);
    assert!(sim.largest_write <= 1400, "{}", sim.largest_write);
    assert!(sim.largest_write + 100 > 1400, "{}", sim.largest_write);
    let count = u32::try_from(first.len()).unwrap();
    for cseq in 1..count {
        described(&mut sim, cseq);
        sim.setup(sessions[cseq as usize - 1], "rtsp://nvr/x/track1");
        assert_eq!(methods(&mut sim), [""; 0], "behind {cseq} of {count}");
    }
    described(&mut sim, count);
    let next = methods(&mut sim);
    let setups = next.iter().take_while(|method| *method == "SETUP").count();
    assert_eq!(setups, first.len() - 1, "all in one write: {next:?}");
    assert!(next[setups..].iter().all(|method| method == "DESCRIBE"));
}

#[test]
fn a_describe_that_comes_a_moment_later_waits_for_the_batch() {
    let mut sim = Sim::new(config());
    let sessions = open_all(&mut sim, 3);
    describe_together(&mut sim, &sessions[..2]);
    assert_eq!(methods(&mut sim).len(), 2);
    sim.describe(sessions[2]);
    sim.advance(10 * MILLISECOND);
    described(&mut sim, 1);
    sim.expect_nothing_sent();
    described(&mut sim, 2);
    assert_eq!(methods(&mut sim), ["DESCRIBE"]);
}

/// A DESCRIBE after which each request is tried, where a session plays.
fn describing_beside_one_that_plays(config: ConnectionConfig) -> (Sim, SessionKey, SessionKey) {
    let mut sim = Sim::new(config);
    let first = sim.playing(1);
    let second = sim.open("rtsp://nvr/2");
    sim.describe(second);
    assert_eq!(methods(&mut sim), ["DESCRIBE"]);
    (sim, first, second)
}

#[test]
fn behind_a_describe_go_reports_and_answers_to_the_servers_requests_and_nothing_else() {
    let (mut sim, first, _) = describing_beside_one_that_plays(config());
    let third = sim.open("rtsp://nvr/3");
    sim.describe(third);
    let fourth = sim.open("rtsp://nvr/4");
    sim.setup(fourth, "rtsp://nvr/4/track1");
    sim.request(first, gstrtspmux::mux::proto::SessionRequest::Pause);
    sim.keep_next_alive();
    sim.advance(8 * SECOND);
    sim.media(0, 1);
    sim.expect_nothing_sent();
    assert!(sim.send_rtcp(first, 0, b"report"));
    assert!(matches!(sim.next_sent(), Some(Incoming::Frame(_))));
    let request = crate::support::rtsp::Request::new("OPTIONS", "rtsp://nvr/1").header("CSeq", "9");
    sim.receive(&request.to_bytes());
    assert!(matches!(sim.next_sent(), Some(Incoming::Response(_))));
    described(&mut sim, 3);
    let sent = methods(&mut sim);
    assert_eq!(
        sent[..2],
        ["SETUP", "PAUSE"],
        "then what has waited: {sent:?}"
    );
}

#[test]
fn a_keep_alive_that_falls_due_within_the_deadline_of_a_describe_goes_before_it() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    for _ in 0..4 {
        sim.advance(5 * SECOND);
        sim.media(0, 1);
        sim.expect_packet();
    }
    sim.expect_nothing_sent();
    let second = sim.open("rtsp://nvr/2");
    sim.describe(second);
    let keep_alive = sim.expect_sent("OPTIONS");
    sim.expect_nothing_sent();
    sim.answer(200, keep_alive, &[]);
    assert_eq!(methods(&mut sim), ["DESCRIBE"]);
    sim.advance(10 * SECOND);
    sim.expect_nothing_sent();
}

#[test]
fn f26_sessions_that_expire_soon_are_kept_alive_once_for_each_describe() {
    let mut sim = Sim::new(config());
    let first = sim.ready_for(1, 20);
    let play = sim.play(first, "rtsp://nvr/1/");
    let cseq = sim.expect_sent("PLAY");
    sim.answer(200, cseq, &[]);
    assert!(sim.expect_completed(play).is_ok());
    sim.advance(2 * SECOND);
    let second = sim.open("rtsp://nvr/2");
    sim.describe(second);
    let keep_alive = sim.expect_sent("OPTIONS");
    sim.answer(200, keep_alive, &[]);
    assert_eq!(methods(&mut sim), ["DESCRIBE"]);
}

#[test]
fn f29_a_teardown_behind_a_describe_is_given_up_after_its_time_and_its_channels_rest() {
    let (mut sim, first, _) = describing_beside_one_that_plays(config());
    let third = sim.teardown(first);
    sim.advance(1999 * MILLISECOND);
    sim.media(0, 1);
    sim.expect_no_event();
    sim.expect_nothing_sent();
    sim.advance(MILLISECOND);
    assert!(matches!(sim.expect_failed(third), FailureKind::TimedOut(_)));
    let closed = std::iter::from_fn(|| sim.next_event())
        .any(|event| matches!(event, Event::SessionClosed(key) if key == first));
    assert!(closed);
    sim.expect_nothing_sent();
    sim.media(0, 1);
    assert_eq!(
        sim.connection.counters().late_frames,
        2,
        "its channels rest"
    );
    // The TEARDOWN is sent as soon as it may be.
    described(&mut sim, 3);
    assert_eq!(methods(&mut sim), ["TEARDOWN"]);
}

/// The connection may be closed meanwhile, and the server would keep the session.
#[test]
fn f29_a_teardown_that_was_given_up_does_not_wait_its_turn_where_one_request_goes_at_a_time() {
    let serial = ConnectionConfig {
        is_serial: true,
        ..config()
    };
    let (mut sim, first, _) = describing_beside_one_that_plays(serial);
    let third = sim.open("rtsp://nvr/3");
    sim.setup(third, "rtsp://nvr/3/track1");
    sim.teardown(first);
    sim.advance(2 * SECOND);
    sim.expect_nothing_sent();
    described(&mut sim, 3);
    assert_eq!(methods(&mut sim), ["SETUP", "TEARDOWN"]);
}

/// A server with a realm for each camera answers 401, and takes its time for the DESCRIBE that follows.
#[test]
fn f29_a_teardown_goes_before_a_describe_that_is_sent_again() {
    let status = gstrtspmux::mux::proto::CredentialStatus::Proven(None);
    let (mut sim, first, _) =
        describing_beside_one_that_plays(crate::sim::config_with("root", "pass", status));
    sim.teardown(first);
    sim.expect_nothing_sent();
    sim.answer(401, 3, &["WWW-Authenticate: Basic realm=\"x\""]);
    let teardown = sim.expect_sent("TEARDOWN");
    sim.answer(200, teardown, &[]);
    assert_eq!(methods(&mut sim), ["DESCRIBE"]);
}

#[test]
fn the_retries_after_a_401_are_a_batch_of_their_own() {
    let status = gstrtspmux::mux::proto::CredentialStatus::Proven(None);
    let mut sim = Sim::new(crate::sim::config_with("root", "pass", status));
    let sessions = open_all(&mut sim, 3);
    // With credentials, one request goes alone before the first answer.
    describe_together(&mut sim, &sessions);
    let basic = &["WWW-Authenticate: Basic realm=\"x\""];
    let first = sim.expect_sent("DESCRIBE");
    sim.expect_nothing_sent();
    sim.answer(404, first, &[]);
    let (second, third) = (sim.expect_sent("DESCRIBE"), sim.expect_sent("DESCRIBE"));
    sim.answer(401, second, basic);
    sim.expect_nothing_sent();
    sim.answer(401, third, basic);
    assert_eq!(methods(&mut sim), ["DESCRIBE", "DESCRIBE"]);
}

#[test]
fn where_describes_are_slow_one_goes_at_a_time() {
    let mut sim = Sim::new(config());
    let sessions = open_all(&mut sim, 3);
    sim.describe(sessions[0]);
    let first = sim.expect_sent("DESCRIBE");
    describe_together(&mut sim, &sessions[1..]);
    sim.advance(100 * MILLISECOND);
    described(&mut sim, first);
    assert_eq!(methods(&mut sim), ["DESCRIBE"]);
}

#[test]
fn a_server_known_to_work_in_order_gets_all_at_once() {
    let gst = ConnectionConfig {
        is_in_order: true,
        ..config()
    };
    let mut sim = Sim::new(gst.clone());
    let session = sim.open("rtsp://nvr/1");
    sim.describe(session);
    sim.setup(session, "rtsp://nvr/1/track1");
    assert_eq!(methods(&mut sim), ["DESCRIBE", "SETUP"]);
    // Another server has replaced this one.
    sim.answer(404, 1, &[]);
    sim.answer(404, 2, &[]);
    while sim.next_event().is_some() {}
    sim.describe(session);
    sim.setup(session, "rtsp://nvr/1/track1");
    assert_eq!(methods(&mut sim), ["DESCRIBE"]);

    let mut sim = Sim::new(config());
    sim.server = Some("GStreamer RTSP server");
    sim.playing(1);
    let second = sim.open("rtsp://nvr/2");
    sim.describe(second);
    sim.setup(second, "rtsp://nvr/2/track1");
    assert_eq!(methods(&mut sim), ["DESCRIBE", "SETUP"]);
}

fn repeated(cseq: &str) -> Vec<u8> {
    Response::new(200)
        .header("CSeq", cseq)
        .header("Content-Base", "rtsp://nvr/2/")
        .content("application/sdp", SDP)
        .to_bytes()
}

#[test]
fn f43_one_answer_for_each_byte_of_a_request_is_dropped_and_completes_nothing() {
    // 2026.08.07: the CSeq of the request whose bytes they were; 2014.07.04: garbage; 2017.01.26: none.
    for cseq in ["3", "\u{1}", ""] {
        let (mut sim, first, second) = describing_beside_one_that_plays(config());
        described(&mut sim, 3);
        sim.next_event();
        let setup = sim.setup(second, "rtsp://nvr/2/track1");
        let asked = sim.expect_sent("SETUP");
        for _ in 0..134 {
            sim.receive(&repeated(cseq));
        }
        // Even under the CSeq of an unanswered request.
        sim.receive(&repeated(&asked.to_string()));
        sim.expect_no_event();
        assert_eq!(sim.connection.counters().repeated_responses, 135);
        sim.answer(200, asked, &["Session: id2"]);
        sim.expect_granted(setup);
        sim.media(0, 1);
        assert_eq!(sim.expect_packet().session, first);
    }
}

#[test]
fn f19_answers_repeated_without_end_end_the_connection() {
    let (mut sim, ..) = describing_beside_one_that_plays(config());
    described(&mut sim, 3);
    sim.next_event();
    for _ in 0..2001 {
        sim.receive(&repeated("3"));
    }
    assert!(matches!(sim.expect_closed(), CloseReason::Protocol(_)));
}

#[test]
fn no_fence_goes_behind_a_describe() {
    let mut sim = Sim::new(config());
    let sessions = open_all(&mut sim, 2);
    describe_together(&mut sim, &sessions);
    assert_eq!(methods(&mut sim).len(), 2);
    sim.advance(Duration::from_secs(20));
    sim.expect_nothing_sent();
}
