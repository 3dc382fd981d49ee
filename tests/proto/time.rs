//! Timeouts of the core, over times too long for a transcript.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gstrtspmux::mux::proto::{CloseReason, Event, FailureKind, RequestId, SessionKey};

use crate::sim::{MILLISECOND, SECOND, Sim, config};
use crate::support::rtsp::Incoming;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A server that ends a session after 0.8 of the announced timeout without a request, and that
/// answers slowly.
struct ImpatientServer {
    expiry: Duration,
    heard: BTreeMap<String, Duration>,
    answers: VecDeque<(Duration, u32)>,
    expired: Vec<(String, Duration)>,
}

impl ImpatientServer {
    fn new(timeout: Duration) -> Self {
        Self {
            expiry: timeout.mul_f64(0.8),
            heard: BTreeMap::new(),
            answers: VecDeque::new(),
            expired: Vec::new(),
        }
    }

    fn listen(&mut self, sim: &mut Sim) {
        let now = sim.elapsed();
        while let Some(request) = sim.next_request() {
            let cseq = request.headers.cseq().expect("a CSeq");
            let delay = u64::from(cseq * 7919 % 3000);
            let due = now + Duration::from_millis(delay);
            let earlier = self.answers.back().map_or(due, |(last, _)| *last);
            self.answers.push_back((due.max(earlier), cseq));
            if let Some(id) = request.headers.value("Session") {
                self.heard.insert(id.to_owned(), now);
            }
        }
        let expiry = self.expiry;
        let silent = self.heard.iter().filter(|(_, at)| now - **at > expiry);
        self.expired
            .extend(silent.map(|(id, at)| (id.clone(), *at)));
        while let Some((_, cseq)) = self.answers.front().filter(|(due, _)| *due <= now) {
            sim.answer(200, *cseq, &[]);
            self.answers.pop_front();
        }
    }
}

#[test]
fn f26_no_session_of_15_s_expires_in_a_day() {
    let mut sim = Sim::new(config());
    let sessions: Vec<SessionKey> = (1..=4).map(|n| sim.ready_for(n, 15)).collect();
    let mut server = ImpatientServer::new(15 * SECOND);
    for (number, session) in (1..=4).zip(&sessions) {
        sim.play(*session, &format!("rtsp://nvr/{number}/"));
    }
    while sim.elapsed() < DAY {
        sim.advance(SECOND / 4);
        server.listen(&mut sim);
        if sim.elapsed().subsec_millis() == 0 {
            sim.media(0, 1);
        }
        while let Some(event) = sim.next_event() {
            assert!(
                matches!(event, Event::Packet(_) | Event::Completed { .. }),
                "at {:?}: {event:?}",
                sim.elapsed()
            );
        }
    }
    assert_eq!(server.expired, []);
    assert_eq!(server.heard.len(), 4);
    let asked = sim.connection.counters().requests;
    assert!(asked < 4 * 86_400 / 3, "{asked} requests are too many");
}

#[test]
fn keep_alives_of_sessions_that_began_together_are_spread() {
    let mut sim = Sim::new(config());
    for number in 1..=16 {
        sim.ready(number);
    }
    let mut times = Vec::new();
    while times.len() < 16 && sim.advance_to_deadline() {
        while let Some(request) = sim.next_request() {
            times.push(sim.elapsed());
            sim.answer(200, request.headers.cseq().unwrap(), &[]);
        }
    }
    times.dedup();
    assert!(times.len() >= 15, "{times:?}");
    assert!(*times.first().unwrap() >= Duration::from_secs(21));
    assert!(*times.last().unwrap() <= Duration::from_secs(24));
}

#[test]
fn one_is_kept_alive_before_its_time_while_nothing_is_unanswered() {
    let mut sim = Sim::new(config());
    for number in 1..=2 {
        sim.ready(number);
    }
    let mut asked = Vec::new();
    for _ in 0..2 {
        sim.advance(2 * SECOND);
        sim.keep_next_alive();
        sim.keep_next_alive();
        let request = sim.next_request().expect("a keep-alive");
        sim.expect_nothing_sent();
        asked.push(request.headers.value("Session").unwrap().to_owned());
        sim.answer(200, request.headers.cseq().unwrap(), &[]);
    }
    assert_ne!(asked[0], asked[1], "in turn");
}

#[test]
fn f05_a_half_open_connection_is_found_within_20_s() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    sim.advance(10 * SECOND);
    sim.expect_sent("OPTIONS");
    sim.expect_no_event();
    sim.advance(10 * SECOND);
    assert!(matches!(sim.expect_closed(), CloseReason::Dead(_)));
}

#[test]
fn f27_media_alone_keeps_a_connection_without_answers() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    for _ in 0..3600 {
        sim.advance(SECOND);
        sim.media(0, 1);
        assert!(matches!(sim.next_event(), Some(Event::Packet(_))));
        sim.expect_no_event();
    }
    // This server does not know GET_PARAMETER, and leaves OPTIONS unanswered once.
    sim.expect_sent("OPTIONS");
    sim.expect_nothing_sent();
}

#[test]
fn f25_a_describe_that_timed_out_is_not_waited_for_any_more() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    let second = sim.open("rtsp://nvr/2");
    let describe = sim.describe(second);
    for _ in 0..25 {
        assert_eq!(sim.connection.backlog().describes, 1, "{:?}", sim.elapsed());
        sim.advance(SECOND);
        sim.media(0, 1);
    }
    let is_end = |event: &Event| matches!(event, Event::Completed { .. });
    let end = std::iter::from_fn(|| sim.next_event()).find(is_end);
    let Some(Event::Completed {
        request, result, ..
    }) = end
    else {
        panic!("it did not end");
    };
    assert_eq!(request, describe);
    let kind = result.expect_err("no answer").kind;
    assert!(matches!(kind, FailureKind::TimedOut(_)), "{kind:?}");
    assert_eq!(sim.connection.backlog().describes, 0);
    assert_eq!(sim.close_reason(), None);
}

#[test]
fn nothing_is_asked_of_the_clock_on_a_connection_at_rest() {
    let mut sim = Sim::new(config());
    assert_eq!(sim.deadline(), None);
    let session = sim.playing(1);
    sim.teardown(session);
    let cseq = sim.expect_sent("TEARDOWN");
    sim.answer(200, cseq, &[]);
    sim.advance(60 * SECOND);
    sim.expect_nothing_sent();
    assert_eq!(sim.deadline(), None);
}

/// Which happens first when a session takes a reference as the idle time ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Timer,
    Reference,
}

/// An hour around the end of the idle time; returns how often the expiry was reported.
fn idle_expiries(first: First, at: Duration) -> usize {
    let mut sim = Sim::new(config());
    sim.set_idle(Some(60 * SECOND));
    sim.advance_asleep(at);
    if first == First::Timer {
        sim.wake();
    }
    sim.set_idle(None);
    sim.advance(Duration::from_secs(3600));
    let mut expiries = 0;
    while let Some(event) = sim.next_event() {
        assert!(matches!(event, Event::IdleExpired), "{event:?}");
        expiries += 1;
    }
    // In any case the connection can still be used, and is pinged first.
    let session = sim.open("rtsp://nvr/1");
    sim.describe(session);
    let ping = sim.expect_sent("OPTIONS");
    sim.answer(200, ping, &[]);
    sim.expect_sent("DESCRIBE");
    expiries
}

#[test]
fn f38_idle_expiry_and_reuse_never_both_and_never_neither() {
    let at = 60 * SECOND;
    for (first, early, on_time, late) in [(First::Timer, 0, 1, 1), (First::Reference, 0, 0, 0)] {
        assert_eq!(idle_expiries(first, at - MILLISECOND), early, "{first:?}");
        assert_eq!(idle_expiries(first, at), on_time, "{first:?}");
        assert_eq!(idle_expiries(first, at + MILLISECOND), late, "{first:?}");
    }
}

#[test]
fn f38_an_idle_connection_expires_once() {
    let mut sim = Sim::new(config());
    sim.set_idle(Some(60 * SECOND));
    sim.advance(60 * SECOND - MILLISECOND);
    sim.expect_no_event();
    sim.advance(MILLISECOND);
    assert!(matches!(sim.next_event(), Some(Event::IdleExpired)));
    sim.advance(DAY);
    sim.expect_no_event();
    sim.close();
    assert_eq!(sim.expect_closed(), CloseReason::Local);
}

#[test]
fn an_idle_time_without_end_never_expires() {
    let mut sim = Sim::new(config());
    sim.set_idle(Some(Duration::MAX));
    sim.advance(DAY);
    sim.expect_no_event();
}

#[test]
fn f29_close_takes_2_s_at_most_whatever_is_under_way() {
    // While a DESCRIBE is unanswered, a TEARDOWN is sent only to a server that works in order.
    for (server, told) in [(None, 0), (Some("GStreamer RTSP server"), 1)] {
        close_while_all_is_under_way(server, told);
    }
}

fn close_while_all_is_under_way(server: Option<&'static str>, told: usize) {
    let mut sim = Sim::new(config());
    sim.server = server;
    sim.playing(1);
    let second = sim.open("rtsp://nvr/2");
    let setup = sim.setup(second, "rtsp://nvr/2/track1");
    let third = sim.open("rtsp://nvr/3");
    let describe = sim.describe(third);
    sim.close();
    let begun = sim.elapsed();
    assert_eq!(sim.unfinished(), 0, "{setup:?} and {describe:?} are over");
    sim.advance(5 * SECOND);
    let mut released = 0;
    while let Some(event) = sim.next_event() {
        released += usize::from(matches!(event, Event::SessionClosed(_)));
    }
    assert_eq!(released, 3);
    assert_eq!(sim.close_reason(), Some(&CloseReason::Local));
    assert_eq!(begun, Duration::ZERO);
    let teardowns = std::iter::from_fn(|| sim.next_sent())
        .filter(|sent| matches!(sent, Incoming::Request(request) if request.method == "TEARDOWN"));
    assert_eq!(teardowns.count(), told, "one id was known");
}

#[test]
fn round_trip_and_service_time_are_measured() {
    let mut sim = Sim::new(config());
    let sessions: Vec<SessionKey> = (1..=3)
        .map(|number| sim.open(&format!("rtsp://nvr/{number}")))
        .collect();
    sim.describe(sessions[0]);
    sim.advance(50 * MILLISECOND);
    let headers = [
        "Server: GStreamer RTSP server\u{7}",
        "Public: OPTIONS, PLAY",
    ];
    sim.answer(404, 1, &headers);
    sim.describe(sessions[0]);
    for session in &sessions {
        sim.setup(*session, "rtsp://nvr/1/track1");
    }
    sim.advance(55 * MILLISECOND);
    sim.answer(404, 2, &[]);
    for cseq in 3..=5 {
        sim.advance(10 * MILLISECOND);
        sim.answer(404, cseq, &[]);
    }
    let measures = sim.connection.measures();
    assert_eq!(measures.round_trip, Some(50 * MILLISECOND));
    assert_eq!(measures.service_time, Some(10 * MILLISECOND));
    assert_eq!(measures.describe_time, None);
    assert_eq!(sim.connection.counters().answers, 5);
    let server = sim.connection.server_header();
    assert_eq!(server, Some("GStreamer RTSP server"));
    assert_eq!(sim.connection.public_header(), Some("OPTIONS, PLAY"));
}

#[test]
fn a_bring_up_lasts_until_play_is_answered() {
    let mut sim = Sim::new(config());
    assert!(!sim.connection.is_bringing_up());
    let session = sim.ready(1);
    assert!(!sim.connection.is_bringing_up(), "nothing is under way");
    sim.play(session, "rtsp://nvr/1/");
    assert!(sim.connection.is_bringing_up());
    let cseq = sim.expect_sent("PLAY");
    sim.answer(200, cseq, &[]);
    assert!(!sim.connection.is_bringing_up());
    sim.teardown(session);
    assert!(!sim.connection.is_bringing_up());
}

/// A PLAY is held back for others only while other sessions are going to play.
#[test]
fn a_session_comes_up_until_it_plays_or_leaves() {
    let mut sim = Sim::new(config());
    for number in 1..=3 {
        sim.playing(number);
    }
    assert_eq!(sim.connection.sessions_coming_up(), 0);
    let one = sim.ready(4);
    let other = sim.open("rtsp://nvr/5");
    assert_eq!(sim.connection.sessions_coming_up(), 2);
    sim.play(one, "rtsp://nvr/4/");
    assert_eq!(sim.connection.sessions_coming_up(), 2);
    let cseq = sim.expect_sent("PLAY");
    sim.answer(200, cseq, &[]);
    assert_eq!(sim.connection.sessions_coming_up(), 1);
    sim.release(other);
    assert_eq!(sim.connection.sessions_coming_up(), 0);
}

#[test]
fn f09_no_fence_for_a_request_that_has_the_connection_to_itself() {
    let mut sim = Sim::new(config());
    let session = sim.open("rtsp://nvr/1");
    sim.describe(session);
    sim.expect_sent("DESCRIBE");
    sim.advance(20 * SECOND);
    sim.expect_nothing_sent();
    sim.expect_no_event();
}

/// Two SETUPs together, of which the first is refused and its session released. Returns the request
/// of the other session, and the fence that is sent for it.
fn lost_beside_one_that_has_gone(sim: &mut Sim, sessions: [SessionKey; 2]) -> (RequestId, u32) {
    let setup = |session| {
        let id = sim.setup(session, "rtsp://nvr/track1");
        (id, sim.expect_sent("SETUP"))
    };
    let [(refused, cseq), (lost, _)] = sessions.map(setup);
    sim.answer(461, cseq, &[]);
    sim.expect_failed(refused);
    sim.release(sessions[0]);
    while sim.next_event().is_some() {}
    sim.advance(SECOND);
    (lost, sim.expect_sent("OPTIONS"))
}

/// VLC loses all but the first of requests that it reads together, and refuses every session over
/// TCP.
#[test]
fn f09_a_request_that_was_lost_among_others_is_repeated_though_they_have_gone() {
    let mut sim = Sim::new(config());
    let sessions = [1, 2].map(|number| sim.open(&format!("rtsp://nvr/{number}")));
    let (lost, fence) = lost_beside_one_that_has_gone(&mut sim, sessions);
    sim.answer(200, fence, &[]);
    let again = sim.expect_sent("SETUP");
    sim.answer(461, again, &[]);
    assert!(matches!(
        sim.expect_failed(lost),
        FailureKind::Status { code: 461, .. }
    ));
}

/// Other requests arrived together and were all answered (VLC read them one by one), so this one
/// was ignored.
#[test]
fn f09_a_request_that_was_ignored_is_given_up_though_the_others_have_gone() {
    let mut sim = Sim::new(config());
    let sessions = [1, 2].map(|number| sim.open(&format!("rtsp://nvr/{number}")));
    sim.is_held = true;
    let first = sim.describe(sessions[0]);
    sim.is_held = false;
    let second = sim.describe(sessions[1]);
    for id in [first, second] {
        let cseq = sim.expect_sent("DESCRIBE");
        sim.answer(404, cseq, &[]);
        sim.expect_failed(id);
    }
    let (lost, fence) = lost_beside_one_that_has_gone(&mut sim, sessions);
    sim.answer(200, fence, &[]);
    assert_eq!(sim.expect_failed(lost), FailureKind::Ignored);
}

#[test]
fn f09_each_request_gets_one_fence_and_a_blocked_one_is_not_repeated() {
    let mut sim = Sim::new(config());
    sim.server = Some("GStreamer RTSP server");
    sim.playing(1);
    let second = sim.open("rtsp://nvr/2");
    sim.describe(second);
    sim.expect_sent("DESCRIBE");
    sim.advance(SECOND);
    sim.expect_sent("OPTIONS");
    sim.advance(4 * SECOND);
    let third = sim.open("rtsp://nvr/3");
    sim.setup(third, "rtsp://nvr/3/track1");
    sim.expect_sent("SETUP");
    sim.advance(SECOND);
    sim.expect_nothing_sent();
    // The first request and its fence are answered; the second is not, and gets a fence of its own.
    sim.answer(404, 3, &[]);
    sim.answer(200, 4, &[]);
    sim.expect_nothing_sent();
    sim.advance(SECOND);
    let fence = sim.expect_sent("OPTIONS");
    while sim.next_event().is_some() {}
    sim.answer(200, fence, &[]);
    // It may have been lost because another one was outstanding when it was sent: repeat it alone.
    sim.expect_sent("SETUP");
    sim.advance(SECOND);
    let fence = sim.expect_sent("OPTIONS");
    sim.expect_no_event();
    sim.answer(200, fence, &[]);
    assert!(sim.connection.is_pipelining(), "that was not why");
    let Some(Event::Completed { result, .. }) = sim.next_event() else {
        panic!("no verdict");
    };
    let failure = result.expect_err("a failure");
    assert_eq!(failure.kind, FailureKind::Ignored);
}

#[test]
fn f09_a_late_answer_never_ends_the_session_that_took_its_place() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    let second = sim.open("rtsp://nvr/2");
    let ignored = sim.setup(second, "rtsp://nvr/2/track1");
    let lost = sim.expect_sent("SETUP");
    sim.advance(SECOND);
    let fence = sim.expect_sent("OPTIONS");
    sim.answer(200, fence, &[]);
    assert_eq!(sim.expect_failed(ignored), FailureKind::Ignored);
    let again = sim.setup(second, "rtsp://nvr/2/track1");
    let cseq = sim.expect_sent("SETUP");
    sim.answer(200, cseq, &["Session: same"]);
    let grant = sim.expect_granted(again);
    assert_ne!(grant.rtp_channel, 2, "the lost answer may still grant it");
    sim.answer(200, lost, &["Session: same"]);
    sim.expect_nothing_sent();
    sim.answer(200, lost, &["Session: other"]);
    sim.expect_nothing_sent();
}

/// Only its own caller is told: requests after it wait as long as they would without that.
#[test]
fn an_impatient_session_is_told_early_and_the_connection_waits_on() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    let sessions = [2, 3].map(|number| sim.open(&format!("rtsp://nvr/{number}")));
    sim.connection.set_patience(sessions[0], 2 * SECOND);
    let [early, patient] = sessions.map(|session| sim.describe(session));
    let cseq = sim.expect_sent("DESCRIBE");
    let mut ended = Vec::new();
    for second in 1..=30 {
        sim.advance(SECOND);
        sim.media(0, 1);
        while let Some(event) = sim.next_event() {
            if let Event::Completed {
                request, result, ..
            } = event
            {
                let kind = result.expect_err("no answer").kind;
                assert!(matches!(kind, FailureKind::TimedOut(_)), "{kind:?}");
                ended.push((request, second));
            }
        }
    }
    assert_eq!(ended, [(early, 2)]);
    assert_eq!(sim.close_reason(), None);
    // The server goes on, in order.
    sim.answer(404, cseq, &[]);
    while let Some(request) = sim.next_request() {
        let cseq = request.headers.cseq().expect("a CSeq");
        sim.answer(404, cseq, &[]);
    }
    let is_end = |event: &Event| matches!(event, Event::Completed { .. });
    let end = std::iter::from_fn(|| sim.next_event()).find(is_end);
    let Some(Event::Completed {
        request, result, ..
    }) = end
    else {
        panic!("it did not end");
    };
    assert_eq!(request, patient);
    let kind = result.expect_err("404").kind;
    assert!(
        matches!(kind, FailureKind::Status { code: 404, .. }),
        "{kind:?}"
    );
}

/// Its media has to prove the PLAY before the session's own time for answers is over; the PLAYs of others wait
/// for their second.
#[test]
fn f13_an_impatient_session_plays_without_an_answer_to_play_before_its_time_is_over() {
    for other_is_first in [true, false] {
        let mut sim = Sim::new(config());
        let sessions = [1, 2].map(|number| sim.ready(number));
        let [impatient, other] = sessions;
        sim.connection.set_patience(impatient, SECOND);
        let order = match other_is_first {
            true => [other, impatient],
            false => [impatient, other],
        };
        let requests = order.map(|session| {
            let number = if session == impatient { 1 } else { 2 };
            sim.play(session, &format!("rtsp://nvr/{number}"))
        });
        let mut played = Vec::new();
        for tenth in 1..=20 {
            sim.advance(SECOND / 10);
            for channel in [0, 2] {
                sim.media(channel, 1);
            }
            while let Some(event) = sim.next_event() {
                if let Event::Completed {
                    request, result, ..
                } = event
                {
                    assert!(result.is_ok(), "{result:?}");
                    played.push((request, tenth));
                }
            }
        }
        let at = |session| {
            let index = order.iter().position(|it| *it == session).unwrap();
            let request = requests[index];
            played.iter().find(|(it, _)| *it == request).unwrap().1
        };
        assert!((5..=7).contains(&at(impatient)), "{played:?}");
        assert!((10..=13).contains(&at(other)), "{played:?}");
    }
}
