//! Answers that come more than once, or that name another request (fault F43).

use gstrtspmux::mux::proto::{CloseReason, FailureKind, Reply, RequestId};

use crate::sim::{SECOND, Sim, config, config_with};
use crate::support::rtsp::Response;
use gstrtspmux::mux::proto::CredentialStatus;

fn described(cseq: impl ToString, body: &str) -> Vec<u8> {
    Response::new(200)
        .header("CSeq", cseq.to_string())
        .content("application/sdp", body)
        .to_bytes()
}

#[test]
fn f43_answers_sent_twice_cost_48_sessions_nothing() {
    let mut sim = Sim::new(config());
    for number in 1..=48 {
        let session = sim.open(&format!("rtsp://nvr/{number}"));
        let describe = sim.describe(session);
        let cseq = sim.expect_sent("DESCRIBE");
        let answer = described(cseq, "v=0\r\n");
        sim.receive(&[answer.clone(), answer].concat());
        assert!(matches!(
            sim.expect_completed(describe),
            Ok(Reply::Described { .. })
        ));
        let setup = sim.setup(session, &format!("rtsp://nvr/{number}/track1"));
        let cseq = sim.expect_sent("SETUP");
        for _ in 0..2 {
            sim.answer(200, cseq, &[&format!("Session: id{number}")]);
        }
        assert_eq!(sim.expect_granted(setup).session_id, format!("id{number}"));
        let play = sim.play(session, &format!("rtsp://nvr/{number}/"));
        let cseq = sim.expect_sent("PLAY");
        for _ in 0..2 {
            sim.answer(200, cseq, &[]);
        }
        assert!(matches!(sim.expect_completed(play), Ok(Reply::Playing(_))));
    }
    sim.expect_no_event();
    let counters = sim.connection.counters();
    assert_eq!(counters.repeated_responses, 3 * 48);
    assert_eq!(counters.unmatched_responses, 0);
    assert!(!sim.connection.is_pipelining(), "one request at a time");
}

#[test]
fn f43_a_challenge_sent_twice_refuses_no_password() {
    let mut sim = Sim::new(config_with("user", "pass", CredentialStatus::Proven(None)));
    let session = sim.open("rtsp://nvr/1");
    let describe = sim.describe(session);
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"";
    let cseq = sim.expect_sent("DESCRIBE");
    sim.answer(401, cseq, &[challenge]);
    sim.answer(401, cseq, &[challenge]);
    let cseq = sim.expect_sent("DESCRIBE");
    sim.expect_no_event();
    sim.receive(&described(cseq, "v=0\r\n"));
    assert!(matches!(
        sim.expect_completed(describe),
        Ok(Reply::Described { .. })
    ));
}

/// live555 does this when bytes arrive after a DESCRIBE while a session plays.
#[test]
fn f43_one_answer_for_each_byte_ends_no_session() {
    let mut sim = Sim::new(config());
    let playing = sim.playing(1);
    let describe = sim.describe(playing);
    let cseq = sim.expect_sent("DESCRIBE");
    for _ in 0..1400 {
        sim.receive(&described(cseq, "v=0\r\n"));
    }
    assert!(sim.expect_completed(describe).is_ok());
    sim.expect_no_event();
    assert_eq!(sim.connection.counters().repeated_responses, 1399);
}

#[test]
fn f43_an_answer_repeated_without_end_ends_the_connection() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    for _ in 0..2000 {
        sim.answer(200, 2, &[]);
    }
    sim.expect_no_event();
    sim.answer(200, 2, &[]);
    assert!(matches!(sim.expect_closed(), CloseReason::Protocol(_)));
}

#[test]
fn f43_a_description_given_once_more_is_no_other_cameras() {
    let mut sim = Sim::new(config());
    let [first, second] = [1, 2].map(|number| sim.open(&format!("rtsp://nvr/{number}")));
    let describe = sim.describe(first);
    let cseq = sim.expect_sent("DESCRIBE");
    sim.receive(&described(cseq, "v=0\r\na=of the first\r\n"));
    sim.expect_completed(describe).expect("a description");
    let describe = sim.describe(second);
    let later = sim.expect_sent("DESCRIBE");
    sim.receive(&described(cseq, "v=0\r\na=of the first\r\n"));
    sim.expect_no_event();
    sim.receive(&described(later, "v=0\r\na=of the second\r\n"));
    expect_described(&mut sim, describe, "of the second");
}

fn expect_described(sim: &mut Sim, id: RequestId, what: &str) {
    let Ok(Reply::Described { sdp, .. }) = sim.expect_completed(id) else {
        panic!("no description");
    };
    assert!(String::from_utf8_lossy(&sdp).contains(what), "{sdp:?}");
}

/// How a server numbers its answers: maps the request's CSeq to the answer's.
type Numbers = fn(u32) -> String;

const ALWAYS_0: Numbers = |_| "0".to_owned();
const ALWAYS_1: Numbers = |_| "1".to_owned();
const ONE_BEHIND: Numbers = |cseq| (cseq - 1).to_string();
const FAR_AWAY: Numbers = |cseq| (cseq + 7000).to_string();

/// Describes, sets up and plays one camera, one request after the other.
fn bring_up(sim: &mut Sim, number: u32, numbers: Numbers) {
    let session = sim.open(&format!("rtsp://nvr/{number}"));
    let describe = sim.describe(session);
    let cseq = sim.expect_sent("DESCRIBE");
    let body = format!("v=0\r\na=of {number}\r\n");
    sim.receive(&described(numbers(cseq), &body));
    expect_described(sim, describe, &format!("of {number}"));
    let setup = sim.setup(session, &format!("rtsp://nvr/{number}/track1"));
    let cseq = sim.expect_sent("SETUP");
    let answer = Response::new(200)
        .header("CSeq", numbers(cseq))
        .header("Session", format!("id{number}"));
    sim.receive(&answer.to_bytes());
    assert_eq!(sim.expect_granted(setup).session_id, format!("id{number}"));
    let play = sim.play(session, &format!("rtsp://nvr/{number}/"));
    let cseq = sim.expect_sent("PLAY");
    let answer = Response::new(200).header("CSeq", numbers(cseq));
    sim.receive(&answer.to_bytes());
    assert!(matches!(sim.expect_completed(play), Ok(Reply::Playing(_))));
}

#[test]
fn f43_where_numbers_say_nothing_an_answer_is_that_of_the_one_request_that_is_out() {
    for numbers in [ALWAYS_0, ALWAYS_1, ONE_BEHIND, FAR_AWAY] {
        let mut sim = Sim::new(config());
        for number in 1..=16 {
            bring_up(&mut sim, number, numbers);
            assert!(!sim.connection.is_pipelining());
        }
        // The same for keep-alives; the sessions stay.
        for _ in 0..600 {
            sim.advance(SECOND);
            for number in 0..16 {
                sim.media(2 * number, 1);
                sim.expect_packet();
            }
            while let Some(request) = sim.next_request() {
                let cseq = request.headers.cseq().expect("a CSeq");
                let answer = Response::new(200).header("CSeq", numbers(cseq));
                sim.receive(&answer.to_bytes());
            }
        }
        sim.expect_no_event();
    }
}

#[test]
fn f43_of_several_whose_answers_cannot_be_told_apart_each_is_described_once_more() {
    for numbers in [ALWAYS_0, ALWAYS_1, ONE_BEHIND, FAR_AWAY] {
        let mut sim = Sim::new(config());
        let mut described_by = Vec::new();
        for number in 1..=4 {
            let session = sim.open(&format!("rtsp://nvr/{number}"));
            // In one write.
            sim.is_held = number < 4;
            described_by.push((number, sim.describe(session)));
        }
        let mut asked: Vec<_> = described_by
            .into_iter()
            .map(|(number, describe)| (number, describe, sim.expect_sent("DESCRIBE")))
            .collect();
        for (number, _, cseq) in &asked {
            let body = format!(
                "v=0
a=of {number}
"
            );
            sim.receive(&described(numbers(*cseq), &body));
        }
        if numbers(1) == "1" {
            let (number, describe, _) = asked.remove(0);
            expect_described(&mut sim, describe, &format!("of {number}"));
        }
        for (number, describe, _) in asked {
            let request = sim.next_request().expect("once more");
            let is_its = request.uri.ends_with(&format!("/{number}"));
            assert!(is_its, "{}", request.uri);
            sim.expect_nothing_sent();
            let cseq = request.headers.cseq().expect("a CSeq");
            let body = format!(
                "v=0
a=of {number}
"
            );
            sim.receive(&described(numbers(cseq), &body));
            expect_described(&mut sim, describe, &format!("of {number}"));
        }
        sim.expect_no_event();
    }
}

#[test]
fn f43_setups_whose_answers_cannot_be_told_apart_are_given_up() {
    let mut sim = Sim::new(config());
    let setups = [1, 2].map(|number| {
        let session = sim.open(&format!("rtsp://nvr/{number}"));
        let setup = sim.setup(session, &format!("rtsp://nvr/{number}/track1"));
        sim.expect_sent("SETUP");
        setup
    });
    for number in 1..=2 {
        sim.answer(200, 0, &[&format!("Session: id{number}")]);
    }
    for setup in setups {
        assert_eq!(sim.expect_failed(setup), FailureKind::Ignored);
    }
}
