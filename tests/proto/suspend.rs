//! The core after a suspend of its machine.

use std::time::Duration;

use gstrtspmux::mux::proto::{CloseReason, Event};

use crate::sim::{SECOND, Sim, config};

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn the_server_is_asked_first_and_all_keep_alives_follow_its_answer() {
    let mut sim = Sim::new(config());
    for number in 1..=3 {
        sim.playing(number);
    }
    sim.sleep(HOUR);
    let ping = sim.expect_sent("OPTIONS");
    sim.expect_nothing_sent();
    sim.answer(200, ping, &[]);
    for _ in 1..=3 {
        let request = sim.next_request().expect("a keep-alive");
        let session = request.headers.value("Session").map(str::to_owned);
        assert!(session.is_some_and(|id| id.starts_with("id")));
        sim.answer(454, request.headers.cseq().unwrap(), &[]);
        assert!(matches!(sim.next_event(), Some(Event::SessionLost { .. })));
    }
    sim.expect_nothing_sent();
}

#[test]
fn a_server_that_does_not_answer_then_is_gone_after_5_s() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    sim.sleep(HOUR);
    sim.expect_sent("OPTIONS");
    sim.advance(5 * SECOND);
    assert_eq!(sim.expect_closed(), CloseReason::Suspended);
}

#[test]
fn the_end_of_a_connection_is_the_sleeps_only_until_the_server_has_answered() {
    for (is_answered, reason) in [
        (false, CloseReason::Suspended),
        (true, CloseReason::PeerClosed),
    ] {
        let mut sim = Sim::new(config());
        sim.playing(1);
        sim.sleep(HOUR);
        let ping = sim.expect_sent("OPTIONS");
        if is_answered {
            sim.answer(200, ping, &[]);
        }
        sim.eof();
        assert_eq!(sim.expect_closed(), reason);
    }
}

#[test]
fn a_short_nap_only_counts_as_time() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    sim.advance(8 * SECOND);
    sim.media(0, 1);
    sim.sleep(4 * SECOND);
    sim.expect_nothing_sent();
    // Twenty of the 24 s of an interval, and four in a suspend.
    for _ in 0..3 {
        sim.advance(4 * SECOND);
        sim.media(0, 1);
    }
    sim.expect_sent("OPTIONS");
}

#[test]
fn an_idle_connection_ends_with_its_idle_time_or_is_pinged_before_it_is_used() {
    let mut sim = Sim::new(config());
    sim.set_idle(Some(60 * SECOND));
    sim.sleep(30 * SECOND);
    sim.expect_no_event();
    sim.set_idle(None);
    let session = sim.open("rtsp://nvr/1");
    sim.describe(session);
    let ping = sim.expect_sent("OPTIONS");
    sim.answer(200, ping, &[]);
    sim.expect_sent("DESCRIBE");

    let mut sim = Sim::new(config());
    sim.set_idle(Some(60 * SECOND));
    sim.sleep(HOUR);
    assert!(matches!(sim.next_event(), Some(Event::IdleExpired)));
}
