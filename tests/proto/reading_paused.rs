//! Reading is paused while a consumer drains its queue.

use std::time::Duration;

use gstrtspmux::mux::proto::{CloseReason, FailureKind};

use crate::sim::{SECOND, Sim, config};

fn pause_reading(sim: &mut Sim, is_paused: bool) {
    let now = sim.now();
    sim.connection.set_reading_paused(now, is_paused);
}

#[test]
fn what_is_not_heard_then_is_no_evidence_against_the_server() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    pause_reading(&mut sim, true);
    sim.advance(120 * SECOND);
    // The keep-alives are sent in time, although their answers wait.
    let sent: Vec<u32> = std::iter::from_fn(|| sim.next_request())
        .map(|request| request.headers.cseq().unwrap())
        .collect();
    assert!(sent.len() >= 2, "{sent:?}");
    sim.expect_no_event();
    pause_reading(&mut sim, false);
    for cseq in sent {
        sim.answer(200, cseq, &[]);
    }
    sim.advance(9 * SECOND);
    sim.expect_no_event();
    assert_eq!(sim.close_reason(), None);
}

#[test]
fn f05_silence_counts_again_from_then_on() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    pause_reading(&mut sim, true);
    sim.advance(60 * SECOND);
    pause_reading(&mut sim, false);
    sim.advance(19 * SECOND);
    sim.expect_no_event();
    sim.advance(2 * SECOND);
    assert!(matches!(sim.expect_closed(), CloseReason::Dead(_)));
}

#[test]
fn a_deadline_goes_on_where_it_had_stopped() {
    let mut sim = Sim::new(config());
    let session = sim.ready(1);
    let play = sim.play(session, "rtsp://nvr/1/");
    sim.expect_sent("PLAY");
    sim.advance(4 * SECOND);
    pause_reading(&mut sim, true);
    sim.advance(15 * SECOND);
    sim.expect_no_event();
    pause_reading(&mut sim, false);
    sim.advance(5 * SECOND);
    sim.expect_no_event();
    sim.advance(Duration::from_millis(1_100));
    let failure = sim.expect_failed(play);
    assert!(matches!(failure, FailureKind::TimedOut(_)), "{failure:?}");
}
