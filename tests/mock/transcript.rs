//! The reader of transcripts, and what every transcript under fixtures/ has to keep to.

use std::time::Duration;

use crate::support::rtsp::{Incoming, Parser};
use crate::support::transcript::{
    ExpectedMessage, ExpectedStart, Step, Transcript, glob, word_bytes,
};

fn read(text: &str) -> Transcript {
    Transcript::parse("test", &format!("# a test\n{text}")).unwrap_or_else(|e| panic!("{e}"))
}

fn only_step(text: &str) -> Step {
    let mut steps = read(text).steps;
    assert_eq!(steps.len(), 1, "{steps:?}");
    steps.remove(0)
}

#[test]
fn the_example_of_the_style_guide_is_read() {
    let transcript = read(
        "C> SETUP rtsp://nvr/2/track1 RTSP/1.0 | CSeq: 5 | Transport: RTP/AVP/TCP;unicast;interleaved=2-3\n\
         S> RTSP/1.0 200 OK | CSeq: 5 | Session: B2; timeout=30 | Transport: RTP/AVP/TCP\n\
         S$ 6 rtp pt=96 seq=1 ts=0 ssrc=1 \"x\"        @packet session=2 stream=0\n\
         +15s                                        C> GET_PARAMETER * | Session: B2\n",
    );
    assert_eq!(transcript.intent, "a test");
    let [setup, answer, frame, time, keep_alive] = &transcript.steps[..] else {
        panic!("{:?}", transcript.steps);
    };
    assert!(matches!(setup, Step::Request { line: 2, .. }));
    let Step::ServerBytes { bytes, .. } = answer else {
        panic!("{answer:?}");
    };
    let text =
        "RTSP/1.0 200 OK\r\nCSeq: 5\r\nSession: B2; timeout=30\r\nTransport: RTP/AVP/TCP\r\n\r\n";
    assert_eq!(bytes, text.as_bytes());
    let Step::ServerBytes { bytes, expect, .. } = frame else {
        panic!("{frame:?}");
    };
    assert_eq!(bytes, b"$\x06\x00\x0d\x80\x60\x00\x01\0\0\0\0\0\0\0\x01x");
    let expect = expect.as_ref().unwrap();
    assert_eq!((expect.label, expect.what.as_str()), (Some(2), "packet"));
    assert_eq!(expect.field::<usize>("stream"), Some(0));
    let fifteen = Duration::from_secs(15);
    assert!(matches!(time, Step::Advance { line: 5, time } if *time == fifteen));
    assert!(matches!(keep_alive, Step::Request { line: 5, .. }));
}

#[test]
fn bodies_get_their_length_unless_one_is_given() {
    let Step::ServerBytes { bytes, expect, .. } =
        only_step("S> RTSP/1.0 200 OK | CSeq: 1   @ 1 described streams=2\nS| v=0\nS|\n")
    else {
        panic!("no bytes");
    };
    assert_eq!(
        bytes,
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 7\r\n\r\nv=0\r\n\r\n"
    );
    assert_eq!(expect.unwrap().to_string(), "@ 1 described streams=2");
    let Step::ServerBytes { bytes, .. } =
        only_step("S> RTSP/1.0 200 OK | content-length: 99\nS| v=0")
    else {
        panic!("no bytes");
    };
    assert_eq!(
        bytes,
        b"RTSP/1.0 200 OK\r\ncontent-length: 99\r\n\r\nv=0\r\n"
    );
}

#[test]
fn blanks_in_server_headers_are_kept() {
    let Step::ServerBytes { bytes, .. } = only_step("S> RTSP/1.0 200 OK | Session:   12   | X: y")
    else {
        panic!("no bytes");
    };
    assert_eq!(bytes, b"RTSP/1.0 200 OK\r\nSession:   12  \r\nX: y\r\n\r\n");
}

#[test]
fn strings_know_escapes_and_repetition() {
    let Step::ServerBytes { bytes, expect, .. } =
        only_step(r#"S! raw "\r\n\x00\"  @no\\"*2 "z"  @nothing"#)
    else {
        panic!("no bytes");
    };
    assert_eq!(bytes, b"\r\n\0\"  @no\\\r\n\0\"  @no\\z");
    assert_eq!(expect.unwrap().what, "nothing");
    let Step::Action { words, .. } = only_step(r#"A> 1 rtcp 0 "\x80\xc9""#) else {
        panic!("no action");
    };
    assert_eq!(words[..2], ["rtcp", "0"]);
    assert_eq!(word_bytes(&words[2]), [0x80, 0xc9]);
}

#[test]
fn what_the_client_sends_is_compared() {
    let got = |text: &str| {
        let mut parser = Parser::default();
        parser.push(text.as_bytes());
        parser.next().unwrap().unwrap()
    };
    let request = got("PLAY rtsp://nvr/1/ RTSP/1.0\r\nCSeq: 3\r\nsession: A1\r\n\r\n");
    for (pattern, difference) in [
        ("PLAY rtsp://nvr/1/ RTSP/1.0 | CSeq: 3 | Session: A*", None),
        ("PLAY rtsp://nvr/1/ | !Range", None),
        ("PAUSE rtsp://nvr/1/", Some("method PLAY instead of PAUSE")),
        (
            "PLAY rtsp://nvr/1",
            Some("URI rtsp://nvr/1/ instead of rtsp://nvr/1"),
        ),
        (
            "PLAY rtsp://nvr/1/ | !Session",
            Some("Session: A1 must not be there"),
        ),
        ("PLAY rtsp://nvr/1/ | Range: *", Some("Range: * is missing")),
        ("PLAY rtsp://nvr/1/ | CSeq: 4", Some("CSeq: 3 instead of 4")),
        ("RTSP/1.0 200 OK", Some("not a response")),
    ] {
        let expected = ExpectedMessage::parse(pattern).unwrap();
        assert_eq!(
            expected.mismatch(&request).as_deref(),
            difference,
            "{pattern}"
        );
    }
}

#[test]
fn globs_match_any_run_of_characters() {
    for (pattern, text, is_match) in [
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a*c", "acb", false),
        ("*", "", true),
        ("*b*b*", "abab", true),
        ("ab*b", "ab", false),
        ("a", "ab", false),
    ] {
        assert_eq!(glob(pattern, text), is_match, "{pattern} on {text}");
    }
}

#[test]
fn faults_of_a_transcript_name_file_and_line() {
    for (text, message) in [
        ("X> what", "unknown kind of line \"X>\""),
        ("S| v=0", "S| follows an S> line"),
        ("S! raw \"x", "a string without its closing quote"),
        ("S$ 300 raw \"x\"", "\"300\" is no number of the right size"),
        ("+5", "a time like 15s or 250ms, not \"5\""),
        ("A> play", "\"play\" is no number of the right size"),
    ] {
        let error = Transcript::parse("x.rtsp.txt", &format!("# intent\n\n{text}")).unwrap_err();
        assert_eq!(error.to_string(), format!("x.rtsp.txt:3: {message}"));
    }
    assert!(Transcript::parse("x", "+1s").is_err(), "no intent");
}

#[test]
fn another_authority_goes_into_uris_and_bodies() {
    let transcript =
        read("A> 1 open rtsp://nvr/1\nS> RTSP/1.0 200 OK\nS| a=control:rtsp://nvr/1/x");
    let moved = transcript.with_authority("127.0.0.1:9");
    let Step::ServerBytes { bytes, .. } = &moved.steps[1] else {
        panic!("no bytes");
    };
    let text = "RTSP/1.0 200 OK\r\nContent-Length: 34\r\n\r\na=control:rtsp://127.0.0.1:9/1/x\r\n";
    assert_eq!(String::from_utf8_lossy(bytes), text);
}

/// Every fixture says where it comes from, counts CSeq in wire order, and answers only what was asked.
#[test]
fn fixtures_are_consistent() {
    let transcripts = Transcript::fixtures_in("sessions");
    assert!(transcripts.len() >= 12);
    for transcript in &transcripts {
        let mut asked = Vec::new();
        for step in &transcript.steps {
            let at = transcript.at(step.line());
            match step {
                Step::Request { expected, .. }
                    if matches!(expected.start, ExpectedStart::Request { .. }) =>
                {
                    let cseq = expected.cseq().unwrap_or_else(|| panic!("{at}: no CSeq"));
                    assert_eq!(cseq as usize, asked.len() + 1, "{at}: CSeq");
                    asked.push(cseq);
                }
                Step::ServerBytes { bytes, .. } if bytes.starts_with(b"RTSP/") => {
                    let mut parser = Parser::default();
                    parser.push(bytes);
                    let Ok(Some(Incoming::Response(response))) = parser.next() else {
                        panic!("{at}: not one response");
                    };
                    assert_eq!(parser.pending(), 0, "{at}: more than one response");
                    let cseq = response.headers.cseq().unwrap_or_default();
                    assert!(
                        asked.contains(&cseq),
                        "{at}: answers CSeq {cseq}, which the client did not send"
                    );
                }
                _ => {}
            }
        }
        assert!(!asked.is_empty(), "{}: nothing happens", transcript.name);
    }
}
