//! Verdicts as they are kept between runs: one line for each server, no secrets.
//!
//! ```text
//! no nvr:554 1700000000 2 closed - 950 - serial server gortsplib
//! yes nvr:8554 1700000000 0 - in-band 20100 3000 - - -
//! ```
//!
//! Verdict, server, when (seconds since 1970), how often it was No, evidence for a No - for a Yes
//! whether it is known to tell cameras apart that are described alike -, whether its connections
//! stand a DESCRIBE that fails (`in-band`: and anything behind it; of others than gst-rtsp-server this is
//! from before 2026-12, and not believed), round trip and work per session (microseconds), its habits with a `+`
//! between them (it wants one request at a time, the sources of media that it announces do not come),
//! fingerprint.

use std::time::Duration;

use super::{DatedVerdict, Evidence, Fingerprint, Sharing, SingleFlight};
use crate::mux::{
    ids::Moment, policy::server_speed::ServerSpeed, proto::ServerText, server_key::ServerId,
};

/// Of a server of which only its habits are known.
const UNKNOWN: &str = "unknown";
const SERIAL: &str = "serial";
/// It announces sources that do not come.
const DISBELIEVED: &str = "disbelieved";
/// Its DESCRIBEs are what takes so long.
const SLOW_TO_DESCRIBE: &str = "slow-describes";
/// Written for servers that work in order, and for live555 before it was known that it does not.
const IN_BAND: &str = "in-band";
const STANDS: &str = "stands";
const ASIDE: &str = "aside";
const TOLD_APART: &str = "told-apart";

/// The line of one server; none if there is nothing to remember.
pub(crate) fn line(
    server: &ServerId,
    sharing: &Sharing,
    speed: &ServerSpeed,
    now: Moment,
) -> Option<String> {
    let (verdict, since, evidence) = match sharing.verdict {
        DatedVerdict::Unknown if speed.is_serial || sharing.is_ssrc_disproved => {
            (UNKNOWN, now.monotonic, "-".to_owned())
        }
        DatedVerdict::Unknown => return None,
        DatedVerdict::Yes { since } => {
            let word = match sharing.description_check.outcome() {
                Some(true) => TOLD_APART,
                _ => "-",
            };
            ("yes", since, word.to_owned())
        }
        DatedVerdict::No { reason, since } => ("no", since, reason.code()),
    };
    let (kind, text) = sharing
        .fingerprint
        .as_ref()
        .map_or(("-", "-"), Fingerprint::parts);
    // What an earlier version has kept is as it was said.
    let text = ServerText::new(text);
    let (seconds, denials) = (now.seconds_at(since), sharing.denials);
    let describes = match (sharing.is_in_order(), sharing.probe.outcome()) {
        (true, _) => IN_BAND,
        (false, Some(true)) => STANDS,
        (false, Some(false)) => ASIDE,
        (false, None) => "-",
    };
    let micros =
        |time: Option<Duration>| time.map_or("-".to_owned(), |t| t.as_micros().to_string());
    let (round_trip, work) = (micros(speed.round_trip), micros(speed.work_per_session));
    let habits = [
        (SERIAL, speed.is_serial),
        (DISBELIEVED, sharing.is_ssrc_disproved),
        (SLOW_TO_DESCRIBE, speed.is_worth_describe_only()),
    ];
    let habits = habits.iter().filter(|(_, has)| *has);
    let habits: Vec<&str> = habits.map(|(habit, _)| *habit).collect();
    let habits = match habits.as_slice() {
        [] => "-".to_owned(),
        habits => habits.join("+"),
    };
    Some(format!(
        "{verdict} {server} {seconds} {denials} {evidence} {describes} {round_trip} {work} {habits} \
         {kind} {text}"
    ))
}

/// None for what cannot be read.
pub(crate) fn parse_line(line: &str, now: Moment) -> Option<(ServerId, Sharing, ServerSpeed)> {
    let mut words = line.splitn(11, ' ');
    let verdict = words.next()?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    let server = ServerId::new(host, port.parse().ok()?).ok()?;
    let seconds = words.next()?.parse().ok()?;
    let denials = words.next()?.parse().ok()?;
    let word = words.next()?;
    let evidence = Evidence::from_code(word);
    let since = match now.instant_of(seconds) {
        Some(since) => since,
        // What holds for ever may be older than this machine's uptime.
        None if verdict == UNKNOWN || evidence.is_some_and(Evidence::mixes_sessions) => {
            now.monotonic
        }
        None => return None,
    };
    let (mut description_check, mut probe) = (SingleFlight::Open, SingleFlight::Open);
    let verdict = match verdict {
        "yes" => {
            if word == TOLD_APART {
                description_check.settle(true, None);
            }
            DatedVerdict::Yes { since }
        }
        "no" => DatedVerdict::No {
            reason: evidence?,
            since,
        },
        UNKNOWN => DatedVerdict::Unknown,
        _ => return None,
    };
    match words.next()? {
        STANDS => probe.settle(true, None),
        ASIDE => probe.settle(false, None),
        _ => {}
    }
    // What is no number was not measured.
    let time = |word: &str| word.parse().ok().map(Duration::from_micros);
    let (round_trip, work_per_session) = (time(words.next()?), time(words.next()?));
    let habits = words.next()?;
    let has_habit = |habit| habits.split('+').any(|it| it == habit);
    let speed = ServerSpeed {
        round_trip,
        work_per_session,
        is_serial: has_habit(SERIAL),
        describe: work_per_session.filter(|_| has_habit(SLOW_TO_DESCRIBE)),
        ..ServerSpeed::default()
    };
    let fingerprint = Fingerprint::from_parts(words.next()?, words.next()?);
    let is_safe_in_band = fingerprint.as_ref().is_some_and(Fingerprint::is_in_order);
    let sharing = Sharing {
        verdict,
        denials,
        fingerprint,
        probe,
        description_check,
        is_safe_in_band,
        is_ssrc_disproved: has_habit(DISBELIEVED),
        ..Sharing::default()
    };
    Some((server, sharing, speed))
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;

    fn now() -> Moment {
        Moment {
            monotonic: Instant::now() + Duration::from_secs(1_000_000),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let now = now();
        let since = now.monotonic - Duration::from_secs(100);
        let no = Sharing {
            verdict: DatedVerdict::No {
                reason: Evidence::Closed,
                since,
            },
            denials: 2,
            fingerprint: Some(Fingerprint::Server("a b/1".to_owned())),
            ..Sharing::default()
        };
        let yes = Sharing {
            verdict: DatedVerdict::Yes { since },
            probe: SingleFlight::Known {
                is_so: true,
                until: None,
            },
            ..Sharing::default()
        };
        let slow = ServerSpeed {
            round_trip: Some(Duration::from_micros(20_100)),
            work_per_session: Some(Duration::from_millis(30)),
            is_serial: true,
            ..ServerSpeed::default()
        };
        let known = [
            (ServerId::new("nvr", 554).unwrap(), no, slow),
            (
                ServerId::new("fe80::1%eth0", 8554).unwrap(),
                yes,
                ServerSpeed::default(),
            ),
        ];
        let lines = known
            .iter()
            .filter_map(|(id, sharing, speed)| line(id, sharing, speed, now))
            .filter_map(|line| parse_line(&line, now));
        assert!(lines.eq(known.clone()));
        let nothing = ServerId::new("nvr", 554).unwrap();
        let quick = ServerSpeed::default();
        assert_eq!(line(&nothing, &Sharing::default(), &quick, now), None);
    }

    #[test]
    fn habits_are_remembered_without_a_verdict() {
        for (is_serial, is_ssrc_disproved) in [(true, false), (false, true), (true, true)] {
            let speed = ServerSpeed {
                is_serial,
                ..ServerSpeed::default()
            };
            let sharing = Sharing {
                is_ssrc_disproved,
                ..Sharing::default()
            };
            let camera = ServerId::new("camera", 554).unwrap();
            let line = line(&camera, &sharing, &speed, now()).unwrap();
            let read = parse_line(&line, now());
            assert_eq!(read, Some((camera, sharing, speed)), "{line}");
        }
    }

    #[test]
    fn that_it_is_the_describes_that_take_long_is_remembered_with_a_yes() {
        let mut yes = Sharing::default();
        yes.on_shared(now().monotonic);
        let server = ServerId::new("nvr", 554).unwrap();
        for took in [30, 101].map(Duration::from_millis) {
            let mut speed = ServerSpeed::default();
            speed.on_described(took);
            let line = line(&server, &yes, &speed, now()).unwrap();
            let (.., read) = parse_line(&line, now()).unwrap();
            let pays = speed.is_worth_describe_only();
            assert_eq!(read.is_worth_describe_only(), pays, "{line}");
        }
    }

    #[test]
    fn what_lasts_is_remembered_however_old_it_is() {
        let young = Moment {
            monotonic: Instant::now(),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        };
        for (code, lasts) in [
            ("same-description", true),
            ("same-session-id", true),
            ("same-channels", true),
            ("closed", false),
        ] {
            let old = format!("no nvr:554 100000000 1 {code} - - - - - -");
            let objection = parse_line(&old, young)
                .and_then(|(_, sharing, _)| sharing.objection(young.monotonic));
            assert_eq!(objection.is_some(), lasts, "{code}");
        }
    }

    #[test]
    fn that_cameras_are_told_apart_is_remembered_with_a_yes() {
        let now = now();
        let server = ServerId::new("nvr", 554).unwrap();
        let mut yes = Sharing::default();
        yes.on_shared(now.monotonic);
        for is_known in [false, true] {
            if is_known {
                yes.on_described_twice(now.monotonic, true);
            }
            let line = line(&server, &yes, &ServerSpeed::default(), now).unwrap();
            let (_, read, _) = parse_line(&line, now).unwrap();
            assert_eq!(read.tells_apart(), is_known, "{line}");
        }
        let before_this_version = "yes nvr:554 1600000000 0 - in-band - - - - -";
        let (_, read, _) = parse_line(before_this_version, now).unwrap();
        assert!(!read.tells_apart());
    }

    #[test]
    fn in_band_is_believed_of_servers_that_work_in_order() {
        let line = |words: &str| format!("yes nvr:554 1699999999 0 - in-band - - - {words}");
        let read = |words: &str| parse_line(&line(words), now()).unwrap().1;
        assert!(read("server GStreamer RTSP server").is_in_order());
        let live555 = read("tool LIVE555 Streaming Media v2026.06.24");
        assert!(!live555.is_in_order() && !live555.describes_in_band());
        assert!(
            matches!(live555.verdict, DatedVerdict::Yes { .. }),
            "it shares"
        );
    }

    #[test]
    fn a_broken_line_says_nothing() {
        let now = now();
        let broken = [
            "no nvr:554 1700000000 1 nonsense - - - - - -",
            "no nvr:0 1700000000 1 closed - - - - - -",
            "maybe nvr:554 1700000000 1 closed - - - - - -",
            "no nvr:554 x 1 closed - - - - - -",
            "no nvr:554 1700000001 1 closed - - - - - -",
            "no",
            "",
        ];
        assert!(broken.iter().all(|line| parse_line(line, now).is_none()));
        // Once said of servers that had been restarted.
        let old = "no nvr:554 1699999999 1 broke-off - - - - - -";
        assert!(parse_line(old, now).is_none());
        let good = "yes good:554 1699999999 0 - - - - - - -";
        let (server, _, speed) = parse_line(good, now).unwrap();
        assert_eq!((server.host(), speed), ("good", ServerSpeed::default()));
    }
}
