use super::*;

const CAMERA: u32 = 1;
const AGAIN: u32 = 2;
const DEAD: u32 = 9;
const SECOND: Duration = Duration::from_secs(1);

fn stamp(ssrc: u32, sequence: u16) -> RtpHeader {
    RtpHeader {
        payload_type: 96,
        ssrc,
        sequence,
        timestamp: u32::from(sequence) * 3000,
    }
}

/// The sources of one stream; times are counted from the grant of its channel.
struct SentStream {
    sources: Sources,
    begin: Instant,
    starts: Vec<Start>,
}

impl SentStream {
    fn new(policy: SourcePolicy, announced: Option<u32>) -> Self {
        Self {
            sources: Sources::new(policy, announced, None),
            begin: Instant::now(),
            starts: Vec::new(),
        }
    }

    fn policed() -> Self {
        Self::new(SourcePolicy::OneAtATime, None)
    }

    fn begun(mut self) -> Self {
        self.sources.on_begun(self.begin);
        self.sources.on_started(self.begin, &[]);
        self
    }

    fn starts_at(&mut self, sequence: u16, timestamp: Option<u32>) {
        let start = Start {
            sequence,
            timestamp,
        };
        self.starts = vec![start];
        self.sources.on_started(self.begin, &self.starts);
    }

    /// True if a packet is accepted after so many milliseconds.
    fn takes(&mut self, at: u64, ssrc: u32, sequence: u16) -> bool {
        let admission = self.admit(at, ssrc, sequence);
        matches!(admission, Admission::Accept | Admission::TakeOver { .. })
    }

    fn admit(&mut self, at: u64, ssrc: u32, sequence: u16) -> Admission {
        let now = self.begin + Duration::from_millis(at);
        let is_start = |stamp| self.starts.iter().any(|start| start.fits(stamp));
        let header = stamp(ssrc, sequence);
        self.sources.admit(header, 1_000, now, is_start)
    }

    /// A camera with 25 pictures a second of four packets each, whose first is after so many
    /// milliseconds.
    fn plays(&mut self, at: u64, pictures: u16, ssrc: u32, sequence: u16) {
        for n in 0..pictures * 4 {
            let at = at + u64::from(n / 4) * 40;
            let now = self.begin + Duration::from_millis(at);
            let header = RtpHeader {
                timestamp: u32::from(sequence + n / 4) * 3600,
                ..stamp(ssrc, sequence + n)
            };
            let admission = self.sources.admit(header, 1_000, now, |_| false);
            assert_ne!(admission, Admission::Refuse, "{at}");
        }
    }
}

#[test]
fn only_live555_before_2017_06_04_is_policed() {
    let policy = |tool: &str| SourcePolicy::of_tool(Some(tool));
    for old in ["v2013.04.08", "v2017.06.03", "v2016.12.31"] {
        let tool = format!("LIVE555 Streaming Media {old}");
        assert_eq!(policy(&tool), SourcePolicy::OneAtATime, "{old}");
    }
    for new in [
        "v2017.06.04",
        "v2017.10.01",
        "v2026.06.24",
        "v",
        "vx.y.z",
        "",
    ] {
        let tool = format!("LIVE555 Streaming Media {new}");
        assert_eq!(policy(&tool), SourcePolicy::Any, "{new}");
    }
    assert_eq!(policy("GStreamer v2010.01.01"), SourcePolicy::Any);
    assert_eq!(SourcePolicy::of_tool(None), SourcePolicy::Any);
}

const HOLD: Admission = Admission::Hold;
const ACCEPT: Admission = Admission::Accept;
const TAKE_OVER: Admission = Admission::TakeOver {
    is_disproved: false,
};

fn any(announced: Option<u32>) -> SentStream {
    SentStream::new(SourcePolicy::Any, announced)
}

/// Uniview: each group of pictures has an SSRC of its own, and numbers and times go on.
#[test]
fn f50_another_source_that_goes_on_where_the_last_one_was_is_accepted() {
    let mut stream = any(None);
    assert_eq!(stream.admit(0, CAMERA, 1), TAKE_OVER);
    for (n, ssrc) in [7, 7, 0, 7, 8, 0, 0].into_iter().enumerate() {
        assert!(stream.takes(40, ssrc, 2 + n as u16), "{n}");
    }
}

#[test]
fn f50_the_source_that_the_server_has_named_does_not_give_way_to_the_one_before() {
    let mut stream = any(None);
    assert!(stream.takes(0, DEAD, 500), "it came before the answer");
    stream.starts_at(7000, None);
    for n in 0..50 {
        let at = 10 + u64::from(n) * 40;
        assert!(stream.takes(at, CAMERA, 7000 + n));
        assert!(!stream.takes(at + 20, DEAD, 501 + n));
    }
}

#[test]
fn f50_of_two_sources_that_both_go_on_one_has_the_stream() {
    let mut stream = any(None);
    stream.plays(0, 50, CAMERA, 1);
    for n in 0..3 {
        stream.takes(2_300 + u64::from(n) * 10, DEAD, 500 + n);
    }
    let mut changes = 0;
    let mut last = DEAD;
    for n in 0..100 {
        let at = 2_400 + u64::from(n) * 40;
        for (source, sequence) in [(CAMERA, 201 + n), (DEAD, 503 + n)] {
            if stream.takes(at, source, sequence) && std::mem::replace(&mut last, source) != source
            {
                changes += 1;
            }
        }
    }
    assert_eq!((changes, last), (1, CAMERA), "it was silent for a while");
}

#[test]
fn f50_another_source_is_held_until_the_old_one_was_silent_for_three_pictures() {
    let mut stream = any(None);
    stream.plays(0, 25, CAMERA, 1);
    assert_eq!(stream.admit(1000, AGAIN, 9_000), HOLD);
    assert_eq!(stream.admit(1040, AGAIN, 9_001), HOLD);
    assert_eq!(stream.admit(1084, AGAIN, 9_002), TAKE_OVER);
    assert_eq!(stream.admit(1085, AGAIN, 9_003), ACCEPT);
    assert_eq!(stream.admit(1085, CAMERA, 101), HOLD);
}

#[test]
fn f50_foreign_packets_that_are_more_frequent_than_own_ones_never_take_over() {
    let mut stream = any(None);
    for n in 0..100_u16 {
        assert!(stream.takes(u64::from(n) * 40, CAMERA, n));
        for more in 1..5 {
            let foreign = stream.admit(u64::from(n) * 40 + more * 8, DEAD, 500 + n);
            let expected = if n < 4 { HOLD } else { Admission::Refuse };
            if n != 3 {
                assert_eq!(foreign, expected, "{n}");
            }
        }
    }
    // A later source takes over while the foreign one goes on; the foreign one only after 10 s.
    assert_eq!(stream.admit(4_000, AGAIN, 9_000), HOLD);
    assert_eq!(stream.admit(4_080, DEAD, 900), Admission::Refuse);
    assert_eq!(stream.admit(4_081, AGAIN, 9_001), TAKE_OVER);
    assert_eq!(stream.admit(14_000, DEAD, 901), Admission::Refuse);
    assert_eq!(stream.admit(14_081, DEAD, 902), TAKE_OVER);
}

#[test]
fn f50_where_a_source_is_announced_others_are_held_and_dropped_when_it_comes() {
    let mut stream = any(Some(CAMERA));
    for at in 0..50 {
        assert_eq!(stream.admit(at, DEAD, 500), HOLD);
    }
    assert_eq!(stream.admit(50, CAMERA, 1), TAKE_OVER);
    assert_eq!(stream.admit(51, CAMERA, 2), ACCEPT);
    assert!(!stream.takes(52, DEAD, 501));
}

#[test]
fn f50_an_announced_source_that_does_not_come_is_disbelieved() {
    let disproved = Admission::TakeOver { is_disproved: true };
    let mut stream = any(Some(77));
    assert_eq!(stream.admit(0, CAMERA, 1), HOLD);
    assert_eq!(stream.admit(1999, CAMERA, 2), HOLD);
    assert_eq!(stream.admit(2000, CAMERA, 3), disproved);
    assert_eq!(stream.admit(2001, CAMERA, 4), ACCEPT);
    assert_eq!(stream.admit(2002, 77, 9_000), TAKE_OVER, "at last");

    let mut stream = any(Some(77));
    for n in 0..MAX_HELD_BYTES / held_weight(1_000) {
        assert_eq!(stream.admit(n as u64, CAMERA, n as u16), HOLD);
    }
    assert_eq!(stream.admit(600, CAMERA, 600), disproved);

    let mut stream = any(Some(77));
    stream.starts_at(1, None);
    assert_eq!(stream.admit(0, CAMERA, 1), TAKE_OVER, "RTP-Info names it");
}

#[test]
fn f50_a_source_heard_before_its_channel_had_an_owner_gives_way_at_once() {
    let mut stream = any(None);
    stream.sources.note_stray(DEAD);
    assert_eq!(
        stream.admit(0, DEAD, 500),
        TAKE_OVER,
        "it may be the stream"
    );
    assert_eq!(stream.admit(1, CAMERA, 1), TAKE_OVER);
    assert_eq!(stream.admit(2, DEAD, 501), Admission::Refuse);
    assert!(stream.sources.admit_report(AGAIN));
}

#[test]
fn the_first_one_heard_after_play_is_the_streams() {
    let mut stream = SentStream::policed().begun();
    assert!(stream.takes(0, CAMERA, 1));
    for at in 1..100 {
        assert!(!stream.takes(at * 100, DEAD, 500));
        assert!(stream.takes(at * 100, CAMERA, 2));
    }
}

#[test]
fn a_source_heard_before_play_gives_way_to_a_later_one() {
    let mut stream = SentStream::policed();
    assert!(!stream.takes(0, DEAD, 500));
    let mut stream = stream.begun();
    assert!(!stream.takes(10, DEAD, 501));
    assert!(stream.takes(20, CAMERA, 1));
    assert!(!stream.takes(30, DEAD, 502));
}

/// A dead session of the same camera, which the server encodes once for all.
#[test]
fn the_dead_may_be_the_stream_itself() {
    let mut stream = SentStream::policed();
    assert!(!stream.takes(0, CAMERA, 500));
    let mut stream = stream.begun();
    assert!(!stream.takes(1999, CAMERA, 501));
    assert!(stream.takes(2000, CAMERA, 502), "no other source came");

    let mut stream = SentStream::policed();
    assert!(!stream.takes(0, CAMERA, 500));
    let mut stream = stream.begun();
    stream.starts_at(500, Some(1_500_000));
    assert!(stream.takes(1, CAMERA, 501), "RTP-Info says so");
}

#[test]
fn rtp_info_replaces_the_source_that_came_first() {
    let mut stream = SentStream::policed().begun();
    assert!(stream.takes(0, DEAD, 500));
    stream.starts_at(7000, Some(21_000_000));
    assert!(stream.takes(1, DEAD, 501));
    assert!(stream.takes(2, CAMERA, 7000));
    assert!(!stream.takes(3, DEAD, 502));
    assert!(stream.takes(4, CAMERA, 7001));
}

#[test]
fn packets_before_the_answer_to_play_wait_for_it() {
    let mut stream = SentStream::policed();
    stream.sources.on_begun(stream.begin);
    assert_eq!(stream.admit(0, DEAD, 500), HOLD);
    assert_eq!(stream.admit(10, CAMERA, 7000), HOLD);
    stream.starts_at(7000, None);
    assert_eq!(stream.admit(20, CAMERA, 7001), TAKE_OVER);
    assert_eq!(stream.admit(30, DEAD, 501), Admission::Refuse);

    let mut of_one_camera = SentStream::policed();
    assert!(!of_one_camera.takes(0, CAMERA, 500), "before PLAY");
    of_one_camera.sources.on_begun(of_one_camera.begin);
    assert_eq!(of_one_camera.admit(10, CAMERA, 7000), HOLD);

    let mut unanswered = SentStream::policed();
    unanswered.sources.on_begun(unanswered.begin);
    assert_eq!(unanswered.admit(0, CAMERA, 1), HOLD);
    assert_eq!(unanswered.admit(499, CAMERA, 2), HOLD);
    assert_eq!(unanswered.admit(500, CAMERA, 3), TAKE_OVER);
}

#[test]
fn packets_overtake_the_answer_that_names_them() {
    let mut stream = SentStream::policed().begun();
    assert!(stream.takes(0, CAMERA, 6990));
    stream.starts_at(7000, None);
    assert!(!stream.takes(1, DEAD, 7001), "equal, and later");
    assert!(stream.takes(2, CAMERA, 6991));
}

#[test]
fn an_rtp_info_that_fits_no_source_does_no_harm() {
    let mut stream = SentStream::policed().begun();
    stream.starts_at(0, Some(0));
    assert!(stream.takes(0, CAMERA, 40_000));
    assert!(!stream.takes(1, DEAD, 500));
    assert!(stream.takes(2, CAMERA, 40_001));
}

#[test]
fn the_announced_ssrc_is_preferred_and_never_required() {
    let mut stream = SentStream::new(SourcePolicy::OneAtATime, Some(CAMERA)).begun();
    assert!(stream.takes(0, DEAD, 500));
    assert!(stream.takes(1, CAMERA, 1));
    assert!(!stream.takes(2, DEAD, 501));

    let mut stream = SentStream::new(SourcePolicy::OneAtATime, Some(77)).begun();
    assert!(stream.takes(0, CAMERA, 1), "the server announces another");
    assert!(!stream.takes(1, DEAD, 500));
}

#[test]
fn an_encoder_that_starts_again_is_followed_after_two_seconds() {
    let mut stream = SentStream::policed().begun();
    assert!(stream.takes(0, CAMERA, 1));
    assert!(!stream.takes(40, AGAIN, 500));
    assert!(!stream.takes(1999, AGAIN, 549));
    assert!(stream.takes(2000, AGAIN, 550));
    assert!(stream.takes(2040, AGAIN, 551));
}

#[test]
fn a_pause_is_no_silence() {
    for policy in [SourcePolicy::Any, SourcePolicy::OneAtATime] {
        let mut stream = SentStream::new(policy, None).begun();
        assert!(stream.takes(0, CAMERA, 1));
        assert!(!stream.takes(10, DEAD, 500));
        assert!(stream.takes(20, CAMERA, 2));
        stream.sources.on_paused();
        for n in 0..60 {
            let at = 1_000 + u64::from(n) * 1_000;
            assert!(!stream.takes(at, DEAD, 501 + n), "{at}");
        }
        stream.sources.on_begun(stream.begin + 61 * SECOND);
        assert!(!stream.takes(61_010, DEAD, 561));
        assert!(stream.takes(61_020, CAMERA, 3));
    }
}

#[test]
fn a_known_stray_follows_after_ten_seconds() {
    let mut stream = SentStream::policed().begun();
    assert!(stream.takes(0, CAMERA, 1));
    assert!(!stream.takes(10, DEAD, 500));
    assert!(
        stream.takes(20, CAMERA, 2),
        "in between: no encoder does that"
    );
    assert!(!stream.takes(10_019, DEAD, 501));
    assert!(stream.takes(10_020, DEAD, 502));
    assert!(stream.takes(10_030, CAMERA, 3), "and gives way at once");
    assert!(!stream.takes(10_040, DEAD, 503));
}

/// More sources than the stream remembers: it keeps its own, and gets another one in time.
#[test]
fn many_dead_do_not_silence_a_stream() {
    let mut stream = SentStream::policed().begun();
    assert!(stream.takes(0, CAMERA, 1));
    for at in 1..1000 {
        assert!(!stream.takes(at, 100 + at as u32, 500));
        assert!(stream.takes(at, CAMERA, 2));
    }
    assert!(stream.takes(999 + 10_000, 101, 501));
}

#[test]
fn reports_are_taken_from_the_streams_source_alone() {
    let mut stream = SentStream::policed();
    assert!(!stream.sources.admit_report(DEAD));
    let mut stream = stream.begun();
    assert!(!stream.sources.admit_report(DEAD), "heard before PLAY");
    assert!(
        stream.sources.admit_report(CAMERA),
        "before the first packet"
    );
    assert!(!stream.takes(0, DEAD, 500), "a report has told of it");
    assert!(stream.takes(1, CAMERA, 1));
    assert!(stream.sources.admit_report(CAMERA));
    assert!(!stream.sources.admit_report(AGAIN));
}

/// A server that reads nothing for a while: what comes meanwhile is of the dead.
#[test]
fn a_stray_waits_longer_while_play_is_not_answered() {
    let mut stream = SentStream::policed();
    assert!(!stream.takes(0, DEAD, 1), "before PLAY");
    stream.sources.on_begun(stream.begin);
    for at in (100..8_000).step_by(100) {
        assert!(!stream.takes(at, DEAD, 2), "{at}");
    }
    let answered = stream.begin + 8 * SECOND;
    stream.sources.on_started(answered, &[]);
    assert!(!stream.takes(8_010, DEAD, 3), "the own source comes now");
    assert!(
        stream.takes(10_000, DEAD, 4),
        "it may be of the same camera"
    );
    let mut unanswered = SentStream::policed();
    unanswered.sources.note_stray(DEAD);
    unanswered.sources.on_begun(unanswered.begin);
    assert!(unanswered.takes(10_000, DEAD, 1), "and not for ever");
}

#[test]
fn a_stray_does_not_take_over_once_pause_is_sent_answered_or_not() {
    let mut stream = SentStream::policed().begun();
    assert!(stream.takes(0, CAMERA, 1));
    stream.sources.note_stray(DEAD);
    stream.sources.on_pausing();
    assert!(!stream.takes(20_000, DEAD, 1));
    assert!(stream.takes(20_010, CAMERA, 2), "it was not paused");
    stream.sources.on_begun(stream.begin + 20 * SECOND);
    assert!(stream.takes(40_000, DEAD, 2));
}

#[test]
fn a_start_is_near_in_packets_and_in_time() {
    let start = Start {
        sequence: 65_530,
        timestamp: Some(u32::MAX),
    };
    let fits = |sequence, timestamp| {
        start.fits(RtpHeader {
            payload_type: 96,
            ssrc: 1,
            sequence,
            timestamp,
        })
    };
    assert!(fits(65_530, u32::MAX));
    assert!(fits(2, 3000), "both wrap");
    assert!(fits(65_500, u32::MAX - 3000));
    assert!(!fits(1000, 3000));
    assert!(!fits(65_530, 1 << 31));
}

#[test]
fn a_wait_is_shorter_than_a_watchdog() {
    assert!(SILENCE < STRAY_SILENCE);
    assert!(STRAY_SILENCE < 20 * SECOND);
}

mod hostile {
    use super::*;

    /// Packets of any source in any order: within ten seconds of silence of all others, a source
    /// gets the stream.
    #[test]
    fn nothing_shuts_a_stream_for_ever() {
        let mut seed = 0x2545_f491_u32;
        let mut random = move |below: u32| {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            seed % below
        };
        for _ in 0..200 {
            let announced = (random(3) == 0).then_some(random(6));
            let policy = match random(2) {
                0 => SourcePolicy::Any,
                _ => SourcePolicy::OneAtATime,
            };
            let mut stream = SentStream::new(policy, announced);
            let mut at = 0;
            for step in 0..60 {
                at += u64::from(random(900));
                match random(8) {
                    0 => stream.starts_at(random(1 << 16) as u16, None),
                    1 => {
                        stream.sources.admit_report(random(6));
                    }
                    _ => {
                        stream.takes(at, random(6), random(1 << 16) as u16);
                    }
                }
                if step == 20 {
                    let now = stream.begin + Duration::from_millis(at);
                    stream.sources.on_begun(now);
                }
            }
            // Where a source is announced and none has come, the first packet may be held.
            assert_ne!(stream.admit(at + 10_000, 3, 30_000), Admission::Refuse);
            assert!(stream.takes(at + 12_000, 3, 30_001));
        }
    }
}

#[test]
fn the_version_of_live555_says_whether_it_feeds_the_dead() {
    let tool = |version: &str| format!("LIVE555 Streaming Media v{version}");
    let policy = |tool: &str| SourcePolicy::of_tool(Some(tool));
    assert_eq!(policy(&tool("2017.06.03")), SourcePolicy::OneAtATime);
    assert_eq!(policy(&tool("2017.06.04")), SourcePolicy::Any);
    for unknown in [
        &tool("2017.06"),
        &tool("x.y.z"),
        "LIVE555",
        "Lavf v2010.01.01",
        "",
    ] {
        assert_eq!(policy(unknown), SourcePolicy::Any, "{unknown}");
    }
}
