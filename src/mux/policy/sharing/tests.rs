use super::*;
use crate::mux::proto::SharingViolation;

const SECOND: Duration = Duration::from_secs(1);
const CHANNELS: Evidence = Evidence::Violation(SharingViolation::SameChannels);
const REFUSED: Evidence = Evidence::Status(400);

fn named(server: &str) -> ServerIdentity<'_> {
    ServerIdentity {
        server: Some(server),
        ..ServerIdentity::default()
    }
}

#[test]
fn a_server_is_unknown_until_it_has_shown_something() {
    let sharing = Sharing::default();
    assert_eq!(sharing.verdict(Instant::now()), DatedVerdict::Unknown);
    assert_eq!(sharing.mode(Instant::now()), SharingMode::Try);
}

#[test]
fn without_a_base_for_control_urls_sessions_gather_only_once_a_canary_has_passed() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_bare();
    assert_eq!(sharing.mode(now), SharingMode::Apart(None));
    assert_eq!(sharing.deciding(now, true), Finder::You);
    assert_eq!(sharing.deciding(now, false), Finder::Known(false));
    assert!(!sharing.wants_canary(), "a session alone needs none");
    sharing.on_canary_passed();
    sharing.on_bare();
    assert_eq!(sharing.mode(now), SharingMode::Try);
}

#[test]
fn two_sessions_on_one_connection_are_a_yes() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_shared(now);
    sharing.on_shared(now + SECOND);
    assert_eq!(
        sharing.verdict(now + LATER_RETRY),
        DatedVerdict::Yes { since: now }
    );
    assert_eq!(sharing.mode(now), SharingMode::Share);
}

#[test]
fn f11_evidence_is_provisional_until_the_session_works_alone() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_suspected(now, CHANNELS);
    assert_eq!(sharing.verdict(now), DatedVerdict::Unknown);
    assert_eq!(
        sharing.mode(now),
        SharingMode::Apart(None),
        "no session is added meanwhile"
    );
    assert!(!sharing.may_send_canary(now), "nothing is left to decide");
    sharing.on_works_alone(now, CHANNELS);
    assert_eq!(sharing.objection(now), Some(CHANNELS));
}

#[test]
fn what_fails_alone_too_was_its_own_error() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_suspected(now, REFUSED);
    sharing.on_own_error();
    assert_eq!(sharing.mode(now), SharingMode::Try);
}

#[test]
fn a_status_counts_when_a_second_session_met_it_too() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_suspected(now, REFUSED);
    sharing.on_works_alone(now, REFUSED);
    assert_eq!(sharing.verdict(now), DatedVerdict::Unknown);
    sharing.on_works_alone(now, REFUSED);
    assert_eq!(sharing.objection(now), Some(REFUSED));
}

#[test]
fn a_status_counts_when_a_canary_met_it_too_and_not_when_it_passed() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_suspected(now, REFUSED);
    sharing.on_works_alone(now, REFUSED);
    assert!(sharing.wants_canary() && sharing.may_send_canary(now));
    let mut flaky = sharing.clone();
    sharing.canary.begin();
    assert!(!sharing.may_send_canary(now), "one at a time");
    sharing.on_canary_failed(now, Some(REFUSED));
    assert_eq!(sharing.objection(now), Some(REFUSED));
    flaky.canary.begin();
    flaky.on_shared(now);
    flaky.canary.give_up();
    assert_eq!(flaky.verdict(now), DatedVerdict::Yes { since: now });
}

#[test]
fn no_is_tried_again_after_ten_minutes_and_then_once_a_day() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_works_alone(now, Evidence::Closed);
    assert!(sharing.objection(now + FIRST_RETRY - SECOND).is_some());
    let again = now + FIRST_RETRY;
    assert_eq!(sharing.verdict(again), DatedVerdict::Unknown);
    sharing.on_works_alone(again, Evidence::Closed);
    assert!(sharing.objection(again + LATER_RETRY - SECOND).is_some());
    assert_eq!(sharing.verdict(again + LATER_RETRY), DatedVerdict::Unknown);
}

#[test]
fn a_no_for_mixing_sessions_up_lasts_until_another_server_answers() {
    let now = Instant::now();
    let one_id = Evidence::Violation(SharingViolation::SameSessionId);
    for evidence in [Evidence::SameDescription, CHANNELS, one_id] {
        let mut sharing = Sharing::default();
        sharing.on_introduced(now, named("relay/1"));
        sharing.on_works_alone(now, evidence);
        let later = now + 400 * LATER_RETRY;
        assert_eq!(sharing.objection(later), Some(evidence));
        assert!(!sharing.may_send_canary(later));
        sharing.on_introduced(later, named("relay/1"));
        assert_eq!(sharing.objection(later), Some(evidence), "the same server");
        let mut unnamed = sharing.clone();
        sharing.on_introduced(later, named("relay/2"));
        assert_eq!(sharing.verdict(later), DatedVerdict::Unknown);
        let without_header = ServerIdentity {
            session_name: Some("Camera 1"),
            ..ServerIdentity::default()
        };
        unnamed.on_introduced(later, without_header);
        assert_eq!(unnamed.verdict(later), DatedVerdict::Unknown);
    }
}

#[test]
fn a_no_for_mixing_sessions_up_takes_the_place_of_one_that_passes() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_works_alone(now, Evidence::Closed);
    sharing.on_described_twice(now, false);
    assert_eq!(sharing.objection(now), Some(Evidence::SameDescription));
    sharing.on_works_alone(now, Evidence::Closed);
    assert_eq!(sharing.objection(now), Some(Evidence::SameDescription));
}

#[test]
fn one_check_of_descriptions_decides_for_a_server_and_not_for_the_next_one_there() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_introduced(now, named("recorder/1"));
    assert_eq!(sharing.next_description_check(now), Finder::You);
    sharing.description_check.begin();
    assert_eq!(sharing.next_description_check(now), Finder::Others);
    sharing.on_described_twice(now, true);
    sharing.description_check.give_up();
    assert!(sharing.tells_apart());
    assert_eq!(sharing.next_description_check(now), Finder::Known(true));
    assert_eq!(sharing.mode(now), SharingMode::Try, "that is no Yes");
    sharing.on_introduced(now, named("recorder/2"));
    assert_eq!(sharing.next_description_check(now), Finder::You);
    let mut gst = Sharing::default();
    gst.on_introduced(now, named("GStreamer RTSP server"));
    assert_eq!(gst.next_description_check(now), Finder::Known(true));
}

#[test]
fn a_violation_demotes_a_yes_and_a_death_only_with_a_second_one() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_shared(now);
    let mut dying = sharing.clone();
    sharing.on_works_alone(now, CHANNELS);
    assert_eq!(sharing.objection(now), Some(CHANNELS));
    dying.on_works_alone(now, Evidence::Closed);
    assert_eq!(dying.objection(now), None);
    dying.on_works_alone(now, Evidence::Closed);
    assert_eq!(dying.objection(now), Some(Evidence::Closed));
}

#[test]
fn words_say_no_without_a_trial_and_another_server_is_judged_anew() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_introduced(now, named("gortsplib"));
    let no = Evidence::KnownServer(evidence::KnownServer::Gortsplib);
    assert_eq!(sharing.objection(now), Some(no));
    sharing.on_introduced(now, named("gortsplib"));
    assert_eq!(sharing.objection(now), Some(no));
    sharing.on_introduced(now, named("GStreamer RTSP server"));
    assert_eq!(sharing.mode(now), SharingMode::TryInBand);
}

#[test]
fn after_a_gathering_that_held_up_a_session_a_canary_decides() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    assert!(sharing.on_gathering_lapsed());
    assert!(!sharing.on_gathering_lapsed());
    assert_eq!(sharing.mode(now), SharingMode::Apart(None));
    assert!(sharing.wants_canary() && sharing.may_send_canary(now));
    sharing.on_shared(now);
    assert_eq!(sharing.mode(now), SharingMode::Share);
}

#[test]
fn f23_no_canary_to_a_server_that_said_it_is_full() {
    let now = Instant::now();
    for (code, allowed) in [(453, false), (503, false), (500, true), (461, true)] {
        let mut sharing = Sharing::default();
        sharing.on_full(code);
        assert_eq!(sharing.may_send_canary(now), allowed, "{code}");
    }
}

#[test]
fn a_learned_cap_rises_by_one_every_ten_minutes() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_room_elsewhere(now, 2);
    assert_eq!(sharing.session_cap(now), Some(2));
    assert_eq!(sharing.session_cap(now + CAP_RETRY - SECOND), Some(2));
    assert_eq!(sharing.session_cap(now + CAP_RETRY), Some(3));
    assert_eq!(sharing.session_cap(now + 3 * CAP_RETRY), Some(5));
}

#[test]
fn ghosts_of_an_unclean_end_teach_no_cap() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_unclean_end(now, 60 * SECOND);
    sharing.on_room_elsewhere(now + 59 * SECOND, 2);
    assert_eq!(sharing.session_cap(now), None);
    sharing.on_room_elsewhere(now + 60 * SECOND, 2);
    assert!(sharing.session_cap(now + 60 * SECOND).is_some());
}

#[test]
fn it_is_looked_for_room_again_when_a_session_has_left_and_by_one_at_a_time() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_no_room(now, Duration::ZERO);
    assert_eq!(sharing.room.next(now), Finder::Known(false));
    sharing.room.give_up();
    assert_eq!(sharing.room.next(now), Finder::Known(false), "it is known");
    sharing.on_room_freed();
    assert_eq!(sharing.room.next(now), Finder::You);
    sharing.room.begin();
    sharing.on_room_freed();
    assert_eq!(sharing.room.next(now), Finder::Others);
    sharing.on_room_elsewhere(now, 2);
    sharing.on_room_freed();
    assert_eq!(sharing.room.next(now), Finder::Known(true));
    assert_eq!(sharing.room.next(now + ROOM_HOLDS), Finder::You);
}

#[test]
fn f23_the_servers_own_time_is_kept_within_reason() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.on_no_room(now, 30 * SECOND);
    let before = now + 30 * SECOND - ROOM_HOLDS;
    assert_eq!(sharing.room.next(before), Finder::Known(false));
    sharing.on_no_room(now, 60_000 * SECOND);
    assert_eq!(sharing.room.next(now + 60 * SECOND), Finder::You);
}

#[test]
fn a_server_without_room_for_a_check_is_not_asked_by_all_in_turn() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.description_check.begin();
    sharing.on_description_check_failed(now);
    sharing.description_check.give_up();
    let next = |sharing: &Sharing, at| sharing.next_description_check(at);
    assert_eq!(next(&sharing, now), Finder::Known(false));
    assert_eq!(next(&sharing, now + CHECK_RETRY), Finder::You);
    sharing.on_described_apart();
    sharing.on_description_check_failed(now);
    assert!(sharing.tells_apart(), "known is known");
}

#[test]
fn a_canary_without_an_answer_is_not_repeated_soon() {
    let now = Instant::now();
    let mut sharing = Sharing::default();
    sharing.canary.begin();
    sharing.on_canary_failed(now, None);
    assert!(!sharing.may_send_canary(now + SECOND));
    assert!(sharing.may_send_canary(now + CANARY_RETRY));
}

#[test]
fn the_wall_clock_may_step_by_any_amount() {
    use std::time::SystemTime;

    use super::persist::{line, parse_line};
    use crate::mux::{ids::Moment, policy::server_speed::ServerSpeed, server_key::ServerId};

    let start = Instant::now();
    let moment = |wall| Moment {
        monotonic: start + SECOND,
        wall,
    };
    let seconds = |count| SystemTime::UNIX_EPOCH + Duration::from_secs(count);
    let years = |count: u32| SystemTime::UNIX_EPOCH + LATER_RETRY * 365 * count;
    let before_1970 = SystemTime::UNIX_EPOCH - LATER_RETRY;
    let server = ServerId::new("nvr", 554).unwrap();
    let mut sharing = Sharing::default();
    sharing.on_introduced(start, named("gortsplib"));
    for written in [before_1970, seconds(0), seconds(1), years(50), years(5_000)] {
        let text = line(&server, &sharing, &ServerSpeed::default(), moment(written)).unwrap();
        for read in [before_1970, seconds(0), years(50), years(5_000)] {
            let now = moment(read);
            if let Some((_, sharing, _)) = parse_line(&text, now) {
                let tomorrow = now.monotonic + LATER_RETRY;
                assert_eq!(sharing.objection(tomorrow), None, "held for too long");
            }
        }
    }
    let never = format!("no nvr:554 {} 1 closed - - - - - -", u64::MAX);
    assert_eq!(parse_line(&never, moment(years(50))), None);
}
