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
        self
    }

    fn starts_at(&mut self, sequence: u16, timestamp: Option<u32>) {
        let start = Start {
            sequence,
            timestamp,
        };
        self.starts = vec![start];
        self.sources.on_started(&self.starts);
    }

    /// True if a packet is accepted after so many milliseconds.
    fn takes(&mut self, at: u64, ssrc: u32, sequence: u16) -> bool {
        let now = self.begin + Duration::from_millis(at);
        let is_start = |stamp| self.starts.iter().any(|start| start.fits(stamp));
        self.sources.admit(stamp(ssrc, sequence), now, is_start)
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

#[test]
fn elsewhere_a_stream_may_have_many_sources_and_play_before_it_is_asked_to() {
    let mut stream = SentStream::new(SourcePolicy::Any, Some(CAMERA));
    for (at, ssrc) in [(0, AGAIN), (1, CAMERA), (1, DEAD), (2, AGAIN)] {
        assert!(stream.takes(at, ssrc, 1));
        assert!(stream.sources.admit_report(ssrc));
    }
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
            let mut stream = SentStream::new(SourcePolicy::OneAtATime, announced);
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
            assert!(stream.takes(at + 10_000, 3, 30_000));
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
