use super::*;

const S: gst::ClockTime = gst::ClockTime::SECOND;

/// A seek in a recording of 10 s.
fn target(rate: f64, flags: gst::SeekFlags, start: gst::ClockTime) -> SeekTarget {
    gst::init().unwrap();
    let (set, none) = (gst::SeekType::Set, gst::SeekType::None);
    let event = match rate > 0.0 {
        true => gst::event::Seek::new(rate, flags, set, start, none, gst::ClockTime::NONE),
        false => gst::event::Seek::new(rate, flags, none, gst::ClockTime::NONE, set, start),
    };
    SeekTarget::new(&event, &recording()).unwrap()
}

fn recording() -> Segment {
    let mut segment = Segment::new();
    put_range(&mut segment, "npt=0-10", true);
    segment.set_duration(segment.stop());
    segment
}

fn texts(target: &SeekTarget, onvif: OnvifReplay) -> Vec<String> {
    let headers = target.headers(onvif);
    let shown = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"));
    shown.collect()
}

#[test]
fn a_seek_asks_for_its_range_and_its_rate() {
    let flush = gst::SeekFlags::FLUSH;
    assert_eq!(texts(&target(1.0, flush, 5 * S), None), ["Range: npt=5-10"]);
    let half = target(1.0, flush, S / 2);
    assert_eq!(texts(&half, None), ["Range: npt=0.5-10"]);
    let fast = target(2.0, flush, S);
    assert_eq!(texts(&fast, None), ["Range: npt=1-10", "Speed: 2"]);
    let trick = target(4.0, flush | gst::SeekFlags::TRICKMODE, S);
    assert_eq!(texts(&trick, None), ["Range: npt=1-10", "Scale: 4"]);
    let back = target(-2.0, flush, 8 * S);
    let expected = ["Range: npt=8-0", "Scale: -1", "Speed: 2"];
    assert_eq!(texts(&back, None), expected);
}

#[test]
fn in_onvif_replay_a_range_is_a_time_of_day() {
    // 2026-01-01 is 46 021 days after 1900-01-01.
    let time = (46_021 * 86_400 + 3_600) * S + S / 4;
    let mut target = target(1.0, gst::SeekFlags::TRICKMODE_KEY_UNITS, S);
    target.segment.set_start(time);
    target.segment.set_stop(gst::ClockTime::NONE);
    let expected = [
        "Range: clock=20260101T010000.25Z-",
        "Frames: intra",
        "Require: onvif-replay",
        "Rate-Control: no",
    ];
    assert_eq!(texts(&target, Some(false)), expected);
}

#[test]
fn what_the_server_answers_is_what_is_played() {
    gst::init().unwrap();
    let answer = |range: Option<&str>, scale, speed| {
        let answer = PlayAnswer {
            range: range.map(str::to_owned),
            scale,
            speed,
            ..PlayAnswer::default()
        };
        let asked = target(2.0, gst::SeekFlags::FLUSH, 5 * S).segment;
        let played = answered(asked, &answer);
        (played.start(), played.stop(), played.rate())
    };
    let (five, ten) = (Some(5 * S), Some(10 * S));
    assert_eq!(answer(None, None, None), (five, ten, 1.0));
    assert_eq!(
        answer(Some("npt=4-10"), None, Some(2.0)),
        (Some(4 * S), ten, 2.0)
    );
    assert_eq!(
        answer(Some("npt=4-"), Some(3.0), None),
        (Some(4 * S), None, 3.0)
    );
    assert_eq!(answer(Some("smpte=x"), None, None), (five, ten, 1.0));
    assert_eq!(answer(Some("clock=-"), None, None), (five, ten, 1.0));
}

#[test]
fn numbers_tell_the_new_place_from_the_old_one() {
    let new = |last, first, numbers: [u16; 4]| numbers.map(|it| is_of_new_place(it, last, first));
    let (old, mixed) = ([false; 4], [false, false, true, true]);
    // They go on over the seek, over the end of the numbers as well.
    assert_eq!(new(Some(100), 110, [101, 109, 110, 112]), mixed);
    assert_eq!(new(Some(65_530), 2, [65_531, 1, 2, 9]), mixed);
    // They begin elsewhere, behind or ahead.
    assert_eq!(new(Some(5_000), 100, [5_001, 5_900, 100, 700]), mixed);
    assert_eq!(new(Some(100), 20_000, [101, 900, 20_000, 20_900]), mixed);
    assert_eq!(new(Some(100), 110, [101, 102, 103, 109]), old);
    assert_eq!(new(None, 110, [100, 109, 110, 5_000]), mixed);
}

#[test]
fn an_end_that_is_not_announced_does_not_end_a_camera() {
    gst::init().unwrap();
    let answer = PlayAnswer {
        range: Some("npt=0.000-0.040".to_owned()),
        ..PlayAnswer::default()
    };
    assert_eq!(answered(Segment::new(), &answer).stop(), None);
    assert_eq!(
        answered(recording(), &answer).stop(),
        Some(40 * gst::ClockTime::MSECOND)
    );
}
