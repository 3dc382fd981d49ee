//! Which sessions are set up again, and when.
#![expect(clippy::disallowed_methods, reason = "any time will do")]

use super::*;
use crate::mux::error::TlsFailure;

const S: Duration = Duration::from_secs(1);

fn policy(attempts: Option<u32>) -> RecoveryPolicy {
    RecoveryPolicy {
        is_on: true,
        fails_at_start: false,
        follows_changes: true,
        on_bye: ByePolicy::Auto,
        attempts,
        bounds: RetryBounds::default(),
    }
}

fn played(policy: RecoveryPolicy) -> Recovery {
    let mut recovery = Recovery::new(policy);
    recovery.on_playing();
    recovery.on_media(Instant::now());
    recovery
}

fn decide(recovery: &mut Recovery, kind: ErrorKind) -> RecoveryDecision {
    recovery.on_end(Instant::now());
    recovery.decide(classes(kind, None).0)
}

#[test]
fn reasons_of_a_kind_are_of_one_class() {
    use crate::mux::error::{ErrorKind as Kind, TlsFailure};
    use ReasonClass as Class;

    let table = [
        (Kind::Resolve, Class::Unreachable),
        (Kind::Connect, Class::Unreachable),
        (Kind::ConnectionLost, Class::Unreachable),
        (Kind::Tls(TlsFailure::Expired), Class::Tls),
        (Kind::TimedOut, Class::NoAnswer),
        (Kind::Unauthorized, Class::Credentials),
        (Kind::CredentialsOnHold, Class::Credentials),
        (Kind::Status(403), Class::Credentials),
        (Kind::Status(404), Class::Refused),
        (Kind::Status(461), Class::Refused),
        (Kind::Status(503), Class::Refused),
        (Kind::Redirects, Class::Redirects),
        (Kind::ServerLimit, Class::Limit),
        (Kind::Sdp, Class::Unusable),
        (Kind::Malformed, Class::Unusable),
    ];
    for (kind, class) in table {
        assert_eq!(classes(kind, None).1, class, "{kind:?}");
    }
}

#[test]
fn a_camera_that_is_off_at_first_is_tried_again() {
    for kind in [
        ErrorKind::Connect,
        ErrorKind::Resolve,
        ErrorKind::ConnectionLost,
        ErrorKind::Tls(TlsFailure::Interrupted),
        // The recorder has no clock before the network is there.
        ErrorKind::Tls(TlsFailure::NotYetValid),
    ] {
        let mut recovery = Recovery::new(policy(None));
        assert_eq!(
            decide(&mut recovery, kind),
            RecoveryDecision::InTurn,
            "{kind:?}"
        );
        assert_eq!(recovery.outages(), 0, "it has never played");
    }
    let mut recovery = Recovery::new(policy(None));
    let decision = decide(&mut recovery, ErrorKind::TimedOut);
    assert_eq!(decision, RecoveryDecision::InTurn);
}

#[test]
fn a_first_refusal_is_final() {
    for kind in [
        ErrorKind::Status(404),
        ErrorKind::Status(453),
        ErrorKind::Status(503),
        ErrorKind::Sdp,
        ErrorKind::InvalidUrl,
        ErrorKind::CannotShare,
        ErrorKind::ServerLimit,
        ErrorKind::Tls(TlsFailure::UnknownAuthority),
        ErrorKind::Tls(TlsFailure::NotTls),
    ] {
        let mut recovery = Recovery::new(policy(None));
        assert_eq!(
            decide(&mut recovery, kind),
            RecoveryDecision::GiveUp,
            "{kind:?}"
        );
    }
}

#[test]
fn a_session_that_has_played_is_set_up_again_whatever_the_server_answers() {
    for kind in [
        ErrorKind::Status(404),
        ErrorKind::Status(454),
        ErrorKind::Status(503),
        ErrorKind::Sdp,
        ErrorKind::Malformed,
    ] {
        let mut recovery = played(policy(None));
        assert_eq!(
            decide(&mut recovery, kind),
            RecoveryDecision::InTurn,
            "{kind:?}"
        );
        assert_eq!(recovery.outages(), 1);
    }
    for kind in [
        ErrorKind::ConnectionLost,
        ErrorKind::Tls(TlsFailure::Expired),
    ] {
        let mut recovery = played(policy(None));
        assert_eq!(
            decide(&mut recovery, kind),
            RecoveryDecision::InTurn,
            "{kind:?}"
        );
    }
    let mut recovery = played(policy(None));
    assert_eq!(
        decide(&mut recovery, ErrorKind::ShutDown),
        RecoveryDecision::GiveUp
    );
}

#[test]
fn f22_credentials_that_never_played_are_not_repeated() {
    let mut other = played(policy(None));
    other.on_other_credentials();
    for mut recovery in [Recovery::new(policy(None)), other] {
        for kind in [ErrorKind::Unauthorized, ErrorKind::Status(403)] {
            assert_eq!(decide(&mut recovery, kind), RecoveryDecision::Ask(None));
        }
    }
}

#[test]
fn f22_credentials_that_have_played_are_tried_again_rarely() {
    let mut recovery = played(policy(None));
    for minutes in [1, 2, 4, 8, 15, 15] {
        let later = RecoveryDecision::Later(60 * minutes * S);
        assert_eq!(decide(&mut recovery, ErrorKind::Unauthorized), later);
    }
    recovery.on_playing();
    let later = RecoveryDecision::Later(60 * S);
    assert_eq!(decide(&mut recovery, ErrorKind::Unauthorized), later);
    let mut limited = played(policy(Some(0)));
    let ask = decide(&mut limited, ErrorKind::Unauthorized);
    assert_eq!(ask, RecoveryDecision::Ask(None), "no attempt is left");
}

#[test]
fn f22_a_session_that_has_not_tried_the_credentials_itself_does_so_when_it_may() {
    let now = Instant::now();
    let denied = classes(ErrorKind::Unauthorized, Some(90 * S)).0;
    let mut recovery = Recovery::new(policy(None));
    recovery.on_end(now);
    let decision = recovery.decide(denied);
    assert_eq!(decision, RecoveryDecision::Ask(Some(90 * S)));
    let mut limited = Recovery::new(policy(Some(0)));
    limited.on_end(now);
    assert_eq!(limited.decide(denied), RecoveryDecision::Ask(None));
    let mut good = played(policy(None));
    good.on_end(now);
    assert_eq!(good.decide(denied), RecoveryDecision::Later(90 * S));
}

#[test]
fn f22_a_session_waits_where_no_answer_has_told_whether_its_credentials_are_right() {
    let on_hold = classes(ErrorKind::CredentialsOnHold, Some(60 * S)).0;
    for mut recovery in [Recovery::new(policy(None)), played(policy(None))] {
        recovery.on_end(Instant::now());
        assert_eq!(recovery.decide(on_hold), RecoveryDecision::OnHold(60 * S));
    }
    let mut limited = Recovery::new(policy(Some(0)));
    limited.on_end(Instant::now());
    assert_eq!(limited.decide(on_hold), RecoveryDecision::GiveUp);
}

#[test]
fn a_session_that_is_to_fail_at_its_start_is_set_up_again_once_it_has_played() {
    let failing = RecoveryPolicy {
        fails_at_start: true,
        ..policy(None)
    };
    for kind in [
        ErrorKind::Connect,
        ErrorKind::TimedOut,
        ErrorKind::Unauthorized,
        ErrorKind::CredentialsOnHold,
        ErrorKind::Status(503),
    ] {
        let at_start = decide(&mut Recovery::new(failing), kind);
        assert_eq!(at_start, RecoveryDecision::GiveUp, "{kind:?}");
        let later = decide(&mut played(failing), kind);
        assert_ne!(later, RecoveryDecision::GiveUp, "{kind:?}");
    }
}

#[test]
fn without_reconnect_nothing_is_tried_again() {
    let off = RecoveryPolicy {
        is_on: false,
        ..policy(None)
    };
    for kind in [ErrorKind::ConnectionLost, ErrorKind::Unauthorized] {
        assert_eq!(decide(&mut played(off), kind), RecoveryDecision::GiveUp);
    }
}

#[test]
fn attempts_are_counted_in_each_outage() {
    let mut recovery = played(policy(Some(2)));
    for _ in 0..2 {
        let now = Instant::now();
        for attempt in 1..=2 {
            assert_eq!(
                decide(&mut recovery, ErrorKind::Connect),
                RecoveryDecision::InTurn,
                "{attempt}"
            );
            assert_eq!(recovery.on_attempt(), attempt);
        }
        let recovered = recovery.on_media(now + S).unwrap();
        assert_eq!(recovered.attempts, 2);
    }
    assert_eq!(recovery.outages(), 2);
    for _ in 0..2 {
        decide(&mut recovery, ErrorKind::Connect);
        recovery.on_attempt();
    }
    assert_eq!(
        decide(&mut recovery, ErrorKind::Connect),
        RecoveryDecision::GiveUp
    );
}

#[test]
fn f23_retry_after_is_kept_and_is_a_reason_to_wait_at_first() {
    let now = Instant::now();
    let mut recovery = Recovery::new(policy(None));
    recovery.on_end(now);
    let busy = classes(ErrorKind::Status(503), Some(40 * S)).0;
    assert_eq!(
        recovery.decide(busy),
        RecoveryDecision::After(40 * S),
        "longer than reconnect-max-delay"
    );
}

#[test]
fn an_outage_lasts_from_the_loss_to_the_first_media() {
    let start = Instant::now();
    let mut recovery = played(policy(None));
    assert!(recovery.on_end(start));
    recovery.on_attempt();
    recovery.on_playing();
    assert!(!recovery.on_end(start + 3 * S), "it played without media");
    assert_eq!(recovery.duration(start + 3 * S), 3 * S);
    recovery.on_attempt();
    assert_eq!(
        recovery.on_media(start + 5 * S),
        Some(Recovered {
            attempts: 2,
            duration: 5 * S,
            outages: 1
        })
    );
    assert_eq!(recovery.on_media(start + 6 * S), None);
}

mod description {
    use super::*;
    use crate::mux::proto::wire::sdp::parse_presentation;

    fn presentation(range: &str) -> Presentation {
        let sdp = format!("v=0\r\n{range}m=video 0 RTP/AVP 96\r\n");
        parse_presentation(sdp.into(), "rtsp://camera/1".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_bye_is_a_loss_where_the_description_announces_no_end() {
        for live in [
            "",
            "a=range:npt=now-\r\n",
            "a=range:npt=0-\r\n",
            "a=range:clock=20260101T000000Z-\r\n",
        ] {
            let live = presentation(live);
            assert_eq!(OnBye::of(&live, &policy(None)), OnBye::Loss, "{live:?}");
            let without_recovery = OnBye::of(&live, &RecoveryPolicy::default());
            assert_eq!(without_recovery, OnBye::End, "{live:?}");
        }
        let length = |range: &str| presentation(&format!("a=range:{range}\r\n")).announced_length();
        for (range, seconds) in [
            ("npt=0-7.5", Some(7.5)),
            ("npt= 0:00:10 - 0:01:10.5 ", Some(60.5)),
            ("npt=-20", Some(20.0)),
            ("clock=20251231T235959Z-20260101T000001.5Z", Some(2.5)),
            ("clock=20240228T120000Z-20240301T120000Z", Some(172_800.0)),
            ("npt=now-", None),
            ("npt=0-", None),
            ("npt=7-3", None),
            ("clock=20260101T000000Z-", None),
            ("clock=2026-99", None),
            ("nonsense", None),
        ] {
            assert_eq!(length(range).map(|it| it.as_secs_f64()), seconds, "{range}");
        }
        for recorded in [
            "a=range:npt=0-7.741\r\n",
            "a=range:clock=20260101T000000Z-20260101T010000Z\r\n",
        ] {
            let recorded = presentation(recorded);
            assert_eq!(
                OnBye::of(&recorded, &policy(None)),
                OnBye::End,
                "{recorded:?}"
            );
        }
    }

    #[test]
    fn the_user_decides_what_a_bye_means() {
        let recorded = presentation("a=range:npt=0-7.7\r\n");
        let live = presentation("a=range:npt=now-\r\n");
        for (on_bye, expected) in [
            (ByePolicy::Auto, [OnBye::End, OnBye::Loss]),
            (ByePolicy::Eos, [OnBye::End, OnBye::End]),
            (ByePolicy::Reconnect, [OnBye::Loss, OnBye::Loss]),
        ] {
            let policy = RecoveryPolicy {
                on_bye,
                ..policy(None)
            };
            let meanings = [&recorded, &live].map(|it| OnBye::of(it, &policy));
            assert_eq!(meanings, expected, "{on_bye:?}");
        }
    }

    #[test]
    fn a_recording_is_over_within_a_second_of_its_length() {
        let seconds = Duration::from_secs_f64;
        for (played, length, is_end) in [
            (2.96, 3.0, true),
            (2.0, 3.0, false),
            (0.5, 0.6, true),
            (0.3, 0.6, false),
            (599.5, 600.0, true),
            (590.0, 600.0, false),
            (700.0, 600.0, true),
        ] {
            let judged = is_end_of_recording(seconds(played), seconds(length));
            assert_eq!(judged, is_end, "{played} of {length}");
        }
    }

    fn kinds(streams: &[(&str, &str)]) -> StreamKinds {
        let kind = |(number, &(media, encoding)): (usize, &(&str, &str))| StreamKind {
            number,
            media: media.to_owned(),
            encoding: encoding.to_owned(),
        };
        StreamKinds(streams.iter().enumerate().map(kind).collect())
    }

    #[test]
    fn what_still_fits_of_a_changed_description_goes_on() {
        const PICTURE: (&str, &str) = ("video", "H264");
        const OTHER: (&str, &str) = ("video", "H265");
        const SOUND: (&str, &str) = ("audio", "PCMU");
        type Case<'a> = (
            &'a [(&'a str, &'a str)],
            &'a [(usize, usize)],
            &'a [usize],
            &'a [usize],
        );
        let before = kinds(&[PICTURE, SOUND]);
        let table: [Case<'_>; 9] = [
            (&[PICTURE, SOUND], &[(0, 0), (1, 1)], &[], &[]),
            (&[PICTURE], &[(0, 0)], &[1], &[]),
            (&[SOUND], &[(0, 1)], &[0], &[]),
            (&[SOUND, PICTURE], &[(1, 0), (0, 1)], &[], &[]),
            (
                &[PICTURE, SOUND, ("application", "X")],
                &[(0, 0), (1, 1)],
                &[],
                &[2],
            ),
            (&[PICTURE, PICTURE, SOUND], &[(0, 0), (2, 1)], &[], &[]),
            (
                &[PICTURE, SOUND, OTHER, OTHER],
                &[(0, 0), (1, 1)],
                &[],
                &[2],
            ),
            (&[OTHER, SOUND], &[(1, 1)], &[0], &[0]),
            (&[OTHER], &[], &[0, 1], &[0]),
        ];
        for (now, kept, gone, new) in table {
            let changes = before.compare(&kinds(now));
            let expected = StreamChanges {
                kept: kept.to_vec(),
                gone: gone.to_vec(),
                new: new.to_vec(),
            };
            assert_eq!(changes, expected, "{now:?}");
        }
        // Two cameras in one: each goes on with its own number.
        let twins = kinds(&[PICTURE, PICTURE]);
        assert_eq!(twins.compare(&twins).kept, [(0, 0), (1, 1)]);
    }
}

mod watchdog {
    use super::*;

    #[test]
    fn f28_silence_is_found_when_the_timeout_is_over() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(20 * S, vec![0], start);
        watchdog.on_packet(0, start + S);
        assert_eq!(watchdog.deadline(), Some(start + 21 * S));
        assert_eq!(watchdog.silence(start + 20 * S), None);
        assert_eq!(watchdog.silence(start + 21 * S), Some(20 * S));
    }

    #[test]
    fn only_the_streams_that_are_watched_count() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(20 * S, vec![0], start);
        watchdog.on_packet(1, start + S);
        assert_eq!(watchdog.deadline(), Some(start + 20 * S));
    }

    #[test]
    fn the_first_packet_may_take_longer_and_that_is_said() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(20 * S, vec![0], start).with_first(40 * S);
        assert_eq!(watchdog.warns_at(), Some(start + 20 * S));
        assert_eq!(watchdog.silence(start + 39 * S), None);
        assert_eq!(watchdog.deadline(), Some(start + 40 * S));
        watchdog.on_packet(0, start + 30 * S);
        assert_eq!(
            (watchdog.warns_at(), watchdog.deadline()),
            (None, Some(start + 50 * S))
        );
        let as_later = Watchdog::new(20 * S, vec![0], start).with_first(20 * S);
        assert_eq!(
            (as_later.warns_at(), as_later.deadline()),
            (None, Some(start + 20 * S))
        );
        let off = Watchdog::new(Duration::ZERO, vec![0], start).with_first(40 * S);
        assert_eq!((off.warns_at(), off.deadline()), (None, None));
    }

    #[test]
    fn each_wait_for_the_first_media_is_longer_until_it_has_come() {
        let mut recovery = Recovery::new(policy(None));
        let mut now = Instant::now();
        let mut wait = |recovery: &mut Recovery, lasts: Duration| {
            let wait = recovery.first_media_wait(now, 20 * S);
            now += lasts;
            (wait, now)
        };
        for expected in [40, 80, 160, 320, 640, 640] {
            assert_eq!(wait(&mut recovery, 700 * S).0, expected * S);
        }
        let (_, came) = wait(&mut recovery, 25 * S);
        recovery.on_media(came);
        recovery.on_end(came);
        assert_eq!(wait(&mut recovery, S).0, 50 * S, "it took 25");
        let mut quick = Recovery::new(policy(None));
        let (_, came) = wait(&mut quick, S);
        quick.on_media(came);
        quick.on_end(came);
        for _ in 0..3 {
            assert_eq!(wait(&mut quick, S).0, 20 * S);
        }
    }

    #[test]
    fn f28_one_of_two_streams_that_is_silent_is_told_once() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(20 * S, vec![0, 1], start);
        assert_eq!(watchdog.deadline(), Some(start + 20 * S));
        watchdog.on_packet(1, start + 19 * S);
        assert_eq!(watchdog.silent_stream(start + 19 * S), None);
        assert_eq!(watchdog.silent_stream(start + 20 * S), Some(0));
        assert_eq!(watchdog.silent_stream(start + 30 * S), None);
        assert_eq!(watchdog.silence(start + 38 * S), None);
        assert_eq!(watchdog.deadline(), Some(start + 39 * S));
        assert_eq!(watchdog.silence(start + 39 * S), Some(20 * S));
    }

    #[test]
    fn it_is_off_by_0_and_without_a_stream_to_watch() {
        let start = Instant::now();
        for watchdog in [
            Watchdog::new(Duration::ZERO, vec![0], start),
            Watchdog::new(20 * S, Vec::new(), start),
        ] {
            assert_eq!(watchdog.deadline(), None);
            assert_eq!(watchdog.silence(start + 3600 * S), None);
        }
    }

    #[test]
    fn a_pause_is_no_silence() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(20 * S, vec![0], start);
        watchdog.restart(start + 60 * S);
        assert_eq!(watchdog.silence(start + 79 * S), None);
    }
}
