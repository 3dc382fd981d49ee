//! Stray bytes between frames, and frames that are shorter than their length (faults F16 and F42).

use gstrtspmux::mux::proto::{CloseReason, Event, FramingLoss, SessionKey};

use crate::sim::{MILLISECOND, SECOND, Sim, config, media};

const STRAY: [u8; 40] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefgh";

/// Sixteen sessions that play, on channels 0, 2, 4...
fn sixteen() -> (Sim, Vec<SessionKey>) {
    let mut sim = Sim::new(config());
    let sessions = (1..=16).map(|number| sim.playing(number)).collect();
    (sim, sessions)
}

/// One packet of each session; all arrive complete.
fn round(sim: &mut Sim, sessions: &[SessionKey]) {
    for (channel, session) in (0..).step_by(2).zip(sessions) {
        sim.media(channel, 1);
        let packet = sim.expect_packet();
        assert_eq!(packet.session, *session);
        assert_eq!(packet.payload, media(channel, 1)[4..]);
    }
}

fn answer_all(sim: &mut Sim) {
    while let Some(request) = sim.next_request() {
        sim.answer(200, request.headers.cseq().expect("a CSeq"), &[]);
    }
}

/// The sessions whose frames came before the losses so far.
fn losses(sim: &mut Sim) -> Vec<Option<SessionKey>> {
    sides(sim).into_iter().map(|loss| loss.after).collect()
}

fn sides(sim: &mut Sim) -> Vec<FramingLoss> {
    std::iter::from_fn(|| sim.connection.poll_framing_loss()).collect()
}

#[test]
fn f16_stray_bytes_every_2_s_cost_nothing_in_six_hours() {
    let (mut sim, sessions) = sixteen();
    for _ in 0..6 * 1800 {
        sim.media(6, 1);
        sim.expect_packet();
        sim.receive(&STRAY);
        round(&mut sim, &sessions);
        assert_eq!(losses(&mut sim), [Some(sessions[3])]);
        sim.advance(2 * SECOND);
        answer_all(&mut sim);
    }
    sim.expect_no_event();
    assert_eq!(sim.connection.counters().resyncs, 6 * 1800);
}

#[test]
fn f42_a_frame_that_is_cut_is_told_as_its_own_sessions_loss() {
    let (mut sim, sessions) = sixteen();
    for _ in 0..300 {
        round(&mut sim, &sessions);
        // The header announces 203 bytes, and 30 arrive: the next frames are taken for the rest.
        let mut cut = vec![b'$', 6, 0, 203, 0x80, 96];
        cut.resize(34, 7);
        cut[8..12].copy_from_slice(&[0; 4]);
        cut[12..16].copy_from_slice(&media(6, 1)[12..16]);
        sim.receive(&cut);
        let rest = (0..16).flat_map(|number| media(2 * number, 1));
        sim.receive(&rest.collect::<Vec<u8>>());
        let packet = sim.expect_packet();
        assert_eq!((packet.session, packet.payload.len()), (sessions[3], 203));
        while sim.next_event().is_some() {}
        assert_eq!(losses(&mut sim), [Some(sessions[3])]);
        round(&mut sim, &sessions);
        sim.advance(12 * SECOND);
        answer_all(&mut sim);
    }
    sim.expect_no_event();
}

#[test]
fn f42_stray_bytes_that_look_like_a_frame_are_one_loss_and_the_first_frames() {
    let (mut sim, sessions) = sixteen();
    sim.media(6, 1);
    sim.expect_packet();
    // A frame of the first session, between bytes that belong to no frame.
    let bait = [&b"\xfe\xfe"[..], &media(0, 1), b"\xfe\xfe"].concat();
    sim.receive(&bait);
    sim.expect_packet();
    sim.advance(10 * MILLISECOND);
    round(&mut sim, &sessions);
    assert_eq!(losses(&mut sim), [Some(sessions[3])]);
}

#[test]
fn f42_behind_an_answer_or_a_frame_of_no_session_a_loss_is_no_sessions() {
    let (mut sim, sessions) = sixteen();
    round(&mut sim, &sessions);
    sim.media(200, 1);
    sim.receive(b"\xfe\xfe");
    round(&mut sim, &sessions);
    sim.advance(SECOND);
    sim.keep_next_alive();
    let keep_alive = sim.expect_sent("OPTIONS");
    sim.answer(200, keep_alive, &[]);
    sim.receive(b"\xfe\xfe");
    round(&mut sim, &sessions);
    assert_eq!(losses(&mut sim), [None; 2]);
}

/// The stray bytes arrive with the frame before them, or alone.
#[test]
fn f42_whatever_stray_bytes_look_like_the_frames_behind_them_are_found() {
    let texts = [
        &b"$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$"[..],
        b"$\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa",
        b"$\xff\xff\xff\xff\xff\xff",
        b"$\x01\x40\0stray bytes on a channel that lives",
        b"$\x40\0\x05stray bytes behind a short frame",
        b"$",
        b"$\xfe",
        b"$\xfe\x10\0",
        b"R",
        b"RTSP",
        b"RTSP/1.0",
        b"GET",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        b"hello, world\r\n",
        b"OPTIONS",
        b"\x80\x60\0\x01\0\0\0\x01\0\0\0\x01",
        &STRAY,
    ];
    for text in texts {
        for is_alone in [false, true] {
            let (mut sim, sessions) = sixteen();
            let mut came = vec![0; sessions.len()];
            for _ in 0..20 {
                let first = media(6, 1);
                if is_alone {
                    sim.receive(&first);
                    sim.receive(text);
                } else {
                    sim.receive(&[&first, text].concat());
                }
                for channel in (0..32).step_by(2) {
                    sim.receive(&media(channel, 1));
                }
                while let Some(event) = sim.next_event() {
                    let Event::Packet(packet) = event else {
                        panic!("{text:?}: {event:?}");
                    };
                    let number = sessions.iter().position(|s| *s == packet.session);
                    came[number.expect("a session")] += 1;
                }
                sim.advance(SECOND);
                answer_all(&mut sim);
            }
            // A lone dollar costs the frame after it.
            let missing = came.iter().map(|came| 20 - *came.min(&20)).sum::<i32>();
            let most = if *text == b"$"[..] { 20 } else { 0 };
            let text = text.escape_ascii();
            assert_eq!(missing, most, "{text}, alone: {is_alone}: {came:?}");
            let losses = losses(&mut sim);
            assert!(losses.len() >= 16, "{text}: {losses:?}");
            let told = losses.iter().all(|after| *after == Some(sessions[3]));
            assert!(told, "{text}, alone: {is_alone}: {losses:?}");
        }
    }
}

#[test]
fn f42_the_frame_behind_a_loss_is_told_as_well() {
    let (mut sim, sessions) = sixteen();
    let loss = |after: usize, before: usize| FramingLoss {
        after: Some(sessions[after]),
        before: Some(sessions[before]),
    };
    // All at once, in two reads, and with a pause before the next frame.
    for way in 0..3 {
        let (stray, frame) = (STRAY.to_vec(), media(14, 1));
        sim.media(6, 1);
        match way {
            0 => sim.receive(&[stray, frame].concat()),
            1 => {
                sim.receive(&stray);
                sim.receive(&frame);
            }
            _ => {
                sim.receive(&stray);
                assert_eq!(sides(&mut sim), []);
                sim.advance(2 * SECOND);
                sim.receive(&frame[..5]);
                assert_eq!(sides(&mut sim), []);
                sim.receive(&frame[5..]);
            }
        }
        assert_eq!(sides(&mut sim), [loss(3, 7)]);
        sim.advance(SECOND);
    }
    sim.receive(&STRAY);
    sim.receive(b"RTSP/1.0 200 OK\r\nCSeq: 7\r\n\r\n");
    let before_answer = FramingLoss {
        before: None,
        ..loss(7, 7)
    };
    assert_eq!(sides(&mut sim), [before_answer]);
}

#[test]
fn f16_garbage_without_end_ends_the_connection() {
    let mut sim = Sim::new(config());
    sim.playing(1);
    for _ in 0..65 {
        sim.receive(&[b'\xfe'; 1024]);
    }
    assert!(matches!(sim.expect_closed(), CloseReason::Protocol(_)));

    let mut sim = Sim::new(config());
    sim.playing(1);
    for _ in 0..4 {
        sim.receive(b"\xfe");
        sim.advance(SECOND / 2);
    }
    assert!(matches!(sim.expect_closed(), CloseReason::Protocol(_)));
}

/// A camera with a picture every five seconds.
#[test]
fn f16_where_nothing_comes_behind_garbage_the_next_frame_is_waited_for() {
    let mut sim = Sim::new(config());
    let session = sim.playing(1);
    for _ in 0..100 {
        sim.receive(&STRAY);
        sim.advance(5 * SECOND);
        sim.media(0, 1);
        assert_eq!(sim.expect_packet().session, session);
        answer_all(&mut sim);
    }
    sim.expect_no_event();
}

/// Stray bytes may look like the continuation of half a frame or half a header.
#[test]
fn f42_a_drip_behind_half_a_unit_is_found_out_within_12_s() {
    let half_frame = media(0, 1)[..9].to_vec();
    let answer = b"RTSP/1.0 200 OK\r\nCSeq: 7\r\n".to_vec();
    let long = [&[b'$', 0, 5, 0, 0x80, 96][..], &[0; 100]].concat();
    let halves = [
        b"$".to_vec(),
        b"$\0".to_vec(),
        b"$\0\0".to_vec(),
        half_frame,
        long,
        answer,
        b"RTS".to_vec(),
        b"OPTIONS".to_vec(),
        STRAY.to_vec(),
    ];
    let gaps = [500, 1000, 1300, 2500, 3900, 4000, 4900, 5000, 6000];
    for half in halves {
        for byte in [0, 1, b'\n', b'$', b'A', b' ', 0x80, 0xff] {
            for (gap, length) in gaps
                .iter()
                .flat_map(|gap| [(*gap, 1), (*gap, 3), (*gap.min(&2000), 12)])
            {
                let (mut sim, sessions) = sixteen();
                round(&mut sim, &sessions);
                sim.receive(&half);
                let begun = sim.elapsed();
                while sim.close_reason().is_none() {
                    sim.advance(gap * MILLISECOND);
                    sim.receive(&vec![byte; length]);
                    let took = sim.elapsed() - begun;
                    let drip = format!("{length} bytes of {byte} every {gap} ms");
                    assert!(took <= 12 * SECOND, "{half:?}, then {drip}: {took:?}");
                }
            }
        }
    }
}

/// A network so slow that a picture takes longer than a drip is tolerated.
#[test]
fn f42_a_slow_link_is_no_drip() {
    let (mut sim, sessions) = sixteen();
    for _ in 0..3 {
        round(&mut sim, &sessions);
        let picture = [
            &[b'$', 0, 0x2d, 0x00][..],
            &media(0, 1)[4..16],
            &[0; 0x2d00 - 12],
        ]
        .concat();
        for piece in picture.chunks(1448) {
            sim.receive(piece);
            sim.advance(SECOND);
        }
        assert_eq!(sim.expect_packet().session, sessions[0]);
        answer_all(&mut sim);
    }
    sim.expect_no_event();
}

/// The network stalls in the middle of a frame, twice.
#[test]
fn f42_a_link_that_stands_still_is_no_drip() {
    let (mut sim, sessions) = sixteen();
    let picture = [
        &[b'$', 0, 0x08, 0x00][..],
        &media(0, 1)[4..16],
        &[0; 0x800 - 12],
    ]
    .concat();
    sim.receive(&picture[..1000]);
    sim.advance(6 * SECOND);
    sim.receive(&picture[1000..1500]);
    sim.advance(6 * SECOND);
    sim.receive(&picture[1500..]);
    assert_eq!(sim.expect_packet().session, sessions[0]);
    round(&mut sim, &sessions);
}

/// What comes until something is delivered, while one packet of a session arrives each `every`; and how long that
/// took.
fn until_delivered(sim: &mut Sim, every: std::time::Duration) -> (usize, std::time::Duration) {
    let begun = sim.elapsed();
    loop {
        sim.advance(every);
        answer_all(sim);
        sim.media(6, 1);
        let delivered = std::iter::from_fn(|| sim.next_event()).count();
        let took = sim.elapsed() - begun;
        if delivered > 0 {
            return (delivered, took);
        }
        assert!(took < 10 * SECOND, "nothing is delivered");
    }
}

/// The frames behind it would be taken for its rest for 6 minutes.
#[test]
fn f51_a_length_that_lies_on_a_slow_stream_is_found_out_within_a_second() {
    for length in [65_535_u16, 3_000] {
        for every in [40, 250] {
            let (mut sim, sessions) = sixteen();
            for _ in 0..10 {
                round(&mut sim, &sessions);
                let mut lie = media(6, 1);
                lie[2..4].copy_from_slice(&length.to_be_bytes());
                sim.receive(&lie);
                let (_, took) = until_delivered(&mut sim, every * MILLISECOND);
                assert!(took <= SECOND, "{length}, each {every} ms: {took:?}");
                assert_eq!(losses(&mut sim), [Some(sessions[3])]);
                sim.advance(10 * SECOND);
                answer_all(&mut sim);
            }
            round(&mut sim, &sessions);
        }
    }
}

/// The answer to a keep-alive announces a body that does not come.
#[test]
fn f51_a_body_that_does_not_come_is_found_out_within_a_second() {
    let (mut sim, sessions) = sixteen();
    let cseq = loop {
        sim.advance(SECOND);
        round(&mut sim, &sessions);
        if let Some(request) = sim.next_request() {
            break request.headers.cseq().expect("a CSeq");
        }
    };
    sim.answer(200, cseq, &["Content-Length: 65535"]);
    let (delivered, took) = until_delivered(&mut sim, 100 * MILLISECOND);
    assert!(took <= SECOND, "{took:?}");
    assert!(delivered >= 5, "no frame is lost: {delivered}");
    assert_eq!(losses(&mut sim), []);
    round(&mut sim, &sessions);
}

/// A key picture over a slow link is in one packet, and looks like anything inside.
#[test]
fn f51_a_large_frame_that_takes_long_is_delivered_whole() {
    let (mut sim, sessions) = sixteen();
    let mut random = crate::support::random::Random::new(1);
    for _ in 0..20 {
        let mut frame = media(6, 1);
        frame.truncate(16);
        frame.resize_with(4 + 60_000, || random.below(256) as u8);
        frame[2..4].copy_from_slice(&60_000_u16.to_be_bytes());
        for piece in frame.chunks(1_448) {
            sim.expect_no_event();
            sim.receive(piece);
            sim.advance(150 * MILLISECOND);
        }
        assert_eq!(sim.expect_packet().payload.len(), 60_000);
        answer_all(&mut sim);
    }
    assert_eq!(losses(&mut sim), []);
    round(&mut sim, &sessions);
}
