//! Challenges, realms, nonces, and what a 401 means.
#![expect(clippy::disallowed_methods, reason = "any time will do")]

use super::*;

const URI: &str = "rtsp://nvr/ch/1";
const OTHER: &str = "rtsp://nvr/ch/2";

const REFUSED: Unauthorized = Unauthorized::Refused {
    offers_weaker: false,
};

fn authenticator() -> Authenticator {
    Authenticator::new(Credentials::new("admin", "secret").unwrap(), 7)
}

fn digest(nonce: &str, more: &str) -> String {
    format!(r#"Digest realm="NVR", nonce="{nonce}", qop="auth"{more}"#)
}

fn describe(uri: &str) -> Asked<'_> {
    Asked {
        method: "DESCRIBE",
        uri,
        home: uri,
        is_of_session: true,
    }
}

fn authorize(auth: &mut Authenticator) -> Authorization {
    auth.authorize(describe(URI), None, None).unwrap()
}

fn judge(
    auth: &mut Authenticator,
    challenges: &str,
    uri: &str,
    answered: Option<Answered>,
) -> Unauthorized {
    let trail = AuthTrail::default();
    auth.handle_unauthorized(Instant::now(), challenges, describe(uri), answered, trail)
}

/// A 401 to a request about [`URI`].
fn unauthorized(
    auth: &mut Authenticator,
    challenges: &str,
    answered: Option<Answered>,
) -> Unauthorized {
    judge(auth, challenges, URI, answered)
}

#[test]
fn nothing_is_authorised_before_a_challenge() {
    let mut auth = authenticator();
    assert_eq!(auth.authorize(describe(URI), None, None), None);
}

#[test]
fn nonce_count_rises_by_one_per_nonce_in_call_order() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    for count in ["nc=00000001", "nc=00000002", "nc=00000003"] {
        assert!(authorize(&mut auth).value.contains(count));
    }
    let last = authorize(&mut auth).answered;
    unauthorized(&mut auth, &digest("b", ""), Some(last));
    assert!(authorize(&mut auth).value.contains("nc=00000001"));
}

#[test]
fn f22_a_fresh_answer_that_is_refused_is_a_refusal_whatever_nonce_comes_next() {
    for next in ["a", "b"] {
        let mut auth = authenticator();
        let challenge = digest("a", "");
        assert_eq!(
            unauthorized(&mut auth, &challenge, None),
            Unauthorized::Retry
        );
        let answered = Some(authorize(&mut auth).answered);
        let verdict = unauthorized(&mut auth, &digest(next, ""), answered);
        assert_eq!(verdict, REFUSED, "{next}");
    }
}

#[test]
fn f22_the_same_nonce_again_is_a_refusal_however_often_it_was_used() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    authorize(&mut auth);
    let answered = Some(authorize(&mut auth).answered);
    let verdict = unauthorized(&mut auth, &digest("a", ""), answered);
    assert_eq!(verdict, REFUSED);
}

#[test]
fn f46_a_challenge_of_another_realm_is_no_refusal() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    let answered = Some(authorize(&mut auth).answered);
    let other_realm = digest("b", "").replace("NVR", "camera 2");
    let verdict = judge(&mut auth, &other_realm, OTHER, answered);
    assert_eq!(verdict, Unauthorized::Retry);
    let value = |auth: &mut Authenticator, uri| {
        let authorization = auth.authorize(describe(uri), None, None);
        authorization.unwrap().value
    };
    assert!(value(&mut auth, OTHER).contains(r#"realm="camera 2""#));
    assert!(value(&mut auth, URI).contains(r#"realm="NVR""#));
}

#[test]
fn f46_where_there_are_several_realms_a_new_presentation_is_asked_for_its_own() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    let third = describe("rtsp://nvr/ch/3");
    assert_eq!(auth.authorize(third, None, None), None);
    let other_realm = digest("b", "").replace("NVR", "camera 2");
    judge(&mut auth, &other_realm, OTHER, None);
    assert_eq!(auth.authorize(third, None, None), None);
    let track = Asked {
        method: "SETUP",
        uri: "rtsp://nvr/ch/2/track1",
        home: OTHER,
        is_of_session: true,
    };
    let value = auth.authorize(track, None, None).unwrap().value;
    assert!(value.contains(r#"realm="camera 2""#), "{value}");
    let ping = Asked {
        method: "OPTIONS",
        uri: "rtsp://nvr/ch/2/",
        home: "rtsp://nvr/ch/2/",
        is_of_session: false,
    };
    let value = auth.authorize(ping, None, None).unwrap().value;
    assert!(value.contains(r#"realm="camera 2""#), "{value}");
}

/// `count` presentations of one realm were challenged; returns a presentation that was not.
fn challenged(count: usize) -> (Authenticator, Asked<'static>) {
    const OTHERS: [&str; 2] = [URI, OTHER];
    let mut auth = authenticator();
    for uri in &OTHERS[..count] {
        judge(&mut auth, &digest("a", ""), uri, None);
    }
    (auth, describe("rtsp://nvr/ch/9"))
}

#[test]
fn f46_a_realm_that_two_presentations_have_is_the_servers() {
    let (mut auth, ninth) = challenged(1);
    assert!(auth.lacks_realm(ninth));
    assert_eq!(auth.authorize(ninth, None, None), None);
    let (mut auth, ninth) = challenged(2);
    assert!(!auth.lacks_realm(ninth));
    assert!(auth.authorize(ninth, None, None).is_some());
    let other_realm = digest("b", "").replace("NVR", "camera 8");
    judge(&mut auth, &other_realm, "rtsp://nvr/ch/8", None);
    assert!(auth.lacks_realm(describe("rtsp://nvr/ch/7")));
    assert!(!auth.lacks_realm(ninth), "its own was found out");
    let value = auth.authorize(ninth, None, None).unwrap().value;
    assert!(value.contains(r#"realm="NVR""#), "{value}");
}

#[test]
fn a_request_of_the_connection_and_one_whose_401_costs_the_connection_take_the_only_realm() {
    let (mut auth, ninth) = challenged(1);
    let own = Asked {
        is_of_session: false,
        ..ninth
    };
    assert!(auth.authorize(own, None, None).is_some());
    auth.is_bare_costly = true;
    assert!(auth.authorize(ninth, None, None).is_some());
}

#[test]
fn stale_excuses_a_request_once() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    let answered = Some(authorize(&mut auth).answered);
    let stale = digest("b", ", stale=TRUE");
    assert_eq!(
        unauthorized(&mut auth, &stale, answered),
        Unauthorized::RetryStale
    );
    let answered = Some(authorize(&mut auth).answered);
    let trail = AuthTrail {
        is_stale_excused: true,
        ..AuthTrail::default()
    };
    let stale = digest("c", ", stale=true");
    let (now, asked) = (Instant::now(), describe(URI));
    assert_eq!(
        auth.handle_unauthorized(now, &stale, asked, answered, trail),
        REFUSED
    );
}

#[test]
fn f21_a_new_nonce_in_mid_stream_is_answered() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    authorize(&mut auth);
    let used = Some(authorize(&mut auth).answered);
    assert_eq!(
        unauthorized(&mut auth, &digest("b", ""), used),
        Unauthorized::Retry
    );
    assert!(authorize(&mut auth).value.contains(r#"nonce="b""#));
}

#[test]
fn f46_a_401_behind_another_one_of_the_realm_is_no_refusal() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    let old = Some(authorize(&mut auth).answered);
    unauthorized(&mut auth, &digest("b", ""), None);
    for challenge in [digest("c", ""), String::new()] {
        assert_eq!(
            unauthorized(&mut auth, &challenge, old),
            Unauthorized::Retry
        );
    }
    assert!(authorize(&mut auth).value.contains(r#"nonce="c""#));
}

/// Of sixteen concurrent requests one is accepted; the next 401 counts as stale.
#[test]
fn f21_nonces_that_are_stale_at_their_second_use_send_requests_one_at_a_time() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    authorize(&mut auth);
    let second = Some(authorize(&mut auth).answered);
    let verdict = unauthorized(&mut auth, &digest("b", ", stale=true"), second);
    assert_eq!(verdict, Unauthorized::RetryStale);
    assert!(auth.is_serial());
}

/// Axis makes a new nonce after 150 s.
#[test]
fn f21_a_nonce_that_grows_stale_after_many_uses_sends_requests_together_all_the_same() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    authorize(&mut auth);
    let second = authorize(&mut auth).answered;
    auth.handle_accepted(Instant::now(), second, None);
    let third = Some(authorize(&mut auth).answered);
    unauthorized(&mut auth, &digest("b", ", stale=true"), third);
    assert!(!auth.is_serial());
}

/// Otherwise the answers and challenges of two concurrent requests would cross for ever.
#[test]
fn f46_a_nonce_that_is_refused_behind_the_next_one_sends_requests_one_at_a_time() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    let first = Some(authorize(&mut auth).answered);
    unauthorized(&mut auth, &digest("b", ""), None);
    assert!(!auth.is_serial());
    unauthorized(&mut auth, &digest("c", ""), first);
    assert!(auth.is_serial());
    authorize(&mut auth);
    let again = authorize(&mut auth).answered;
    auth.handle_accepted(Instant::now(), again, None);
    assert!(!auth.is_serial(), "it is good for more than one request");
}

#[test]
fn pipelined_requests_without_authorisation_share_one_challenge() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    let first = authorize(&mut auth);
    unauthorized(&mut auth, &digest("a", ""), None);
    let second = authorize(&mut auth);
    assert_eq!(first.answered.nonce, second.answered.nonce);
    assert!(second.value.contains("nc=00000002"));
    let refused = unauthorized(&mut auth, &digest("a", ""), Some(first.answered));
    assert_eq!(refused, REFUSED, "it was no other challenge");
}

#[test]
fn the_latest_of_several_nonces_is_used() {
    let mut auth = authenticator();
    for nonce in ["a", "b", "c"] {
        unauthorized(&mut auth, &digest(nonce, ""), None);
    }
    assert!(authorize(&mut auth).value.contains(r#"nonce="c""#));
}

#[test]
fn a_nonce_that_comes_back_is_counted_on() {
    let mut auth = authenticator();
    for nonce in ["a", "b", "a"] {
        unauthorized(&mut auth, &digest(nonce, ""), None);
        authorize(&mut auth);
    }
    let value = authorize(&mut auth).value;
    assert!(
        value.contains(r#"nonce="a""#) && value.contains("nc=00000003"),
        "{value}"
    );
}

#[test]
fn f46_nonces_that_are_good_for_one_request_are_found_out() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("n0", ""), None);
    authorize(&mut auth);
    assert!(!auth.is_serial());
    for number in 1..=2 {
        let used = Some(authorize(&mut auth).answered);
        let next = digest(&format!("n{number}"), "");
        assert_eq!(unauthorized(&mut auth, &next, used), Unauthorized::Retry);
        assert!(auth.is_serial(), "what goes together fails together");
        authorize(&mut auth);
    }
    let none = auth.authorize(describe(URI), None, None);
    assert_eq!(none, None, "each request gets a nonce of its own");
    unauthorized(&mut auth, &digest("n3", ""), None);
    assert!(authorize(&mut auth).value.contains(r#"nonce="n3""#));
}

#[test]
fn a_nonce_that_had_merely_grown_old_ends_no_pipelining() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    authorize(&mut auth);
    let used = authorize(&mut auth).answered;
    unauthorized(&mut auth, &digest("b", ""), Some(used));
    assert!(auth.is_serial());
    authorize(&mut auth);
    let used = authorize(&mut auth).answered;
    auth.handle_accepted(Instant::now(), used, None);
    assert!(!auth.is_serial());
    unauthorized(&mut auth, &digest("c", ""), Some(used));
    assert!(!auth.is_serial());
}

#[test]
fn the_nonce_that_an_answer_announces_is_used_next() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    let first = authorize(&mut auth).answered;
    auth.handle_accepted(Instant::now(), first, Some("b"));
    let value = authorize(&mut auth).value;
    assert!(
        value.contains(r#"nonce="b""#) && value.contains("nc=00000001"),
        "{value}"
    );
}

#[test]
fn f46_the_weaker_algorithm_of_the_same_answer_is_told_and_taken() {
    let both = |nonce: &str| {
        let (sha, md5) = (
            digest(nonce, ", algorithm=SHA-256"),
            digest(nonce, ", algorithm=MD5"),
        );
        format!("{sha}, {md5}, Basic realm=\"NVR\"")
    };
    let mut auth = authenticator();
    unauthorized(&mut auth, &both("a"), None);
    let strong = authorize(&mut auth).answered;
    assert_eq!(strong.strength, Strength::Sha256);
    let refused = unauthorized(&mut auth, &both("b"), Some(strong));
    assert_eq!(
        refused,
        Unauthorized::Refused {
            offers_weaker: true
        }
    );
    let weak = auth.authorize(describe(URI), Some(Strength::Sha256), None);
    let weak = weak.unwrap().answered;
    assert_eq!(weak.strength, Strength::Md5);
    let refused = unauthorized(&mut auth, &both("c"), Some(weak));
    assert_eq!(refused, REFUSED, "Basic never follows Digest");
    let known = auth.authorize(describe(URI), None, Some(Strength::Md5));
    assert_eq!(known.unwrap().answered.strength, Strength::Md5);
    unauthorized(&mut auth, &digest("d", ", algorithm=SHA-256"), None);
    let only = auth.authorize(describe(URI), None, Some(Strength::Md5));
    assert_eq!(only.unwrap().answered.strength, Strength::Sha256);
}

#[test]
fn f46_a_challenge_is_answered_on_the_next_connection() {
    let mut first = authenticator();
    unauthorized(&mut first, &digest("a", ""), None);
    let left = first.leave();
    let mut next = authenticator();
    left.iter().for_each(|challenge| next.adopt(challenge));
    assert!(next.challenged.contains(&describe(URI).tag()) && next.is_unanswered(describe(URI)));
    assert!(!next.challenged.contains(&describe(OTHER).tag()));
    let answered = authorize(&mut next);
    assert!(answered.value.contains(r#"nonce="a""#));
    assert!(next.leave().is_empty(), "it is answered");
    next.take_back(answered.answered);
    assert_eq!(next.leave().len(), 1, "no server has seen the answer");
    let refused = unauthorized(&mut next, &digest("b", ""), Some(answered.answered));
    assert_eq!(refused, REFUSED);
    let text = format!("{left:?}");
    assert!(!text.contains("nonce") && !text.contains('"'), "{text}");
}

#[test]
fn basic_is_never_taken_once_digest_was_seen() {
    let mut auth = authenticator();
    unauthorized(&mut auth, &digest("a", ""), None);
    let answered = authorize(&mut auth).answered;
    let verdict = unauthorized(&mut auth, r#"Basic realm="NVR""#, Some(answered));
    assert!(matches!(verdict, Unauthorized::Unsupported(why) if why.contains("downgrade")));
    assert!(auth.basic_forbidden);

    let mut next_connection = authenticator();
    next_connection.basic_forbidden = true;
    let verdict = unauthorized(&mut next_connection, r#"Basic realm="NVR""#, None);
    assert!(matches!(verdict, Unauthorized::Unsupported(_)));
    assert_eq!(next_connection.authorize(describe(URI), None, None), None);
}

#[test]
fn basic_alone_is_taken_and_refused_the_second_time() {
    let mut auth = authenticator();
    let basic = r#"Basic realm="NVR""#;
    assert_eq!(unauthorized(&mut auth, basic, None), Unauthorized::Retry);
    let authorization = authorize(&mut auth);
    assert_eq!(authorization.value, "Basic YWRtaW46c2VjcmV0");
    let verdict = unauthorized(&mut auth, basic, Some(authorization.answered));
    assert_eq!(verdict, REFUSED);
}

#[test]
fn basic_cannot_carry_a_user_with_a_colon() {
    let mut auth = Authenticator::new(Credentials::new("a:b", "c").unwrap(), 0);
    let verdict = unauthorized(&mut auth, "Basic realm=x", None);
    assert!(matches!(verdict, Unauthorized::Unsupported(why) if why.contains("colon")));
    assert_eq!(
        unauthorized(&mut auth, &digest("a", ""), None),
        Unauthorized::Retry
    );
}

#[test]
fn a_401_without_a_challenge_refuses_what_was_answered() {
    let mut auth = authenticator();
    assert!(matches!(
        unauthorized(&mut auth, "", None),
        Unauthorized::Unsupported(_)
    ));
    unauthorized(&mut auth, &digest("a", ""), None);
    let answered = authorize(&mut auth).answered;
    assert_eq!(unauthorized(&mut auth, "", Some(answered)), REFUSED);
}

#[test]
fn debug_output_holds_no_secret() {
    let mut auth = authenticator();
    unauthorized(&mut auth, "Basic realm=x", None);
    let text = format!("{:?} {auth:?}", authorize(&mut auth));
    assert!(
        !text.contains("secret") && !text.contains("YWRtaW46"),
        "{text}"
    );
}
