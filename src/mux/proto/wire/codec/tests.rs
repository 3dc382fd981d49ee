use super::*;

const OK: &[u8] = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n";

fn frame(channel: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write_frame(&mut out, channel, payload).unwrap();
    out.to_vec()
}

/// The units, as words, when `pieces` arrive one after the other.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut decoder = Decoder::new(Limits::default());
    let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let on_even = |channel: u8, first: [u8; 2]| channel < 2 && first[0] >> 6 == 2;
            match decoder.decode(&mut buffer, &on_even) {
                Ok(Some(unit)) => seen.push(in_words(&unit)),
                Ok(None) => break,
                Err(why) => {
                    seen.push(format!("error {why}"));
                    return seen;
                }
            }
        }
    }
    seen
}

fn in_words(unit: &Unit) -> String {
    match unit {
        Unit::Frame { channel, payload } => format!("frame {channel} of {}", payload.len()),
        Unit::Message(message) => {
            let defect = if message.defect.is_some() {
                " defect"
            } else {
                ""
            };
            format!("{:?} body {}{defect}", message.status(), message.body.len())
        }
        Unit::FramingLost => "lost".to_owned(),
        Unit::FramingFound => "found".to_owned(),
    }
}

fn response(headers: &str, body: &[u8]) -> Vec<u8> {
    [b"RTSP/1.0 200 OK\r\n", headers.as_bytes(), b"\r\n", body].concat()
}

#[test]
fn frames_of_every_size_around_the_powers_of_two_come_out_whole() {
    for size in [
        0, 1, 11, 12, 4091, 4092, 4096, 8187, 8188, 8189, 8192, 65530, 65535,
    ] {
        let bytes = [frame(0, &vec![0x80; size]), frame(1, b"x")].concat();
        let whole = vec![format!("frame 0 of {size}"), "frame 1 of 1".to_owned()];
        assert_eq!(decode([&bytes[..]]), whole);
        for chunk in [1 + size / 7, 1460, 4096, 8192] {
            assert_eq!(
                decode(bytes.chunks(chunk)),
                whole,
                "{size} in chunks of {chunk}"
            );
        }
    }
}

#[test]
fn a_payload_shares_the_memory_it_was_read_into() {
    let mut decoder = Decoder::new(Limits::default());
    let mut buffer = BytesMut::from(&frame(0, b"payload")[..]);
    let read_into = buffer.as_ptr() as usize;
    let Ok(Some(Unit::Frame { payload, .. })) = decoder.decode(&mut buffer, &|_, _| false) else {
        panic!("a frame");
    };
    assert_eq!(payload.as_ptr() as usize, read_into + FRAME_HEADER);
}

#[test]
fn f17_every_split_gives_the_same_units() {
    let bytes = [
        OK.to_vec(),
        frame(0, b"\x80\x60abc"),
        response("CSeq: 2\r\nContent-Length: 4\r\n", b"v=0\n"),
        frame(1, b"\x80\xc8abc"),
        b"OPTIONS * RTSP/1.0\nCSeq: 9\n\n".to_vec(),
        b"\r\n\0\0".to_vec(),
        OK.to_vec(),
    ]
    .concat();
    let whole = decode([&bytes[..]]);
    assert_eq!(whole.len(), 6, "{whole:?}");
    assert_eq!(decode(bytes.chunks(1)), whole);
    for at in 0..bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(decode([first, second]), whole, "split at {at}");
    }
}

/// A head whose lines end so, a description, a frame, and such a head again.
fn with_line_ends(line: &str, blank: &str) -> Vec<u8> {
    let head = |fields: &str| {
        let lines = format!("RTSP/1.0 200 OK\n{fields}");
        lines.replace('\n', line) + blank
    };
    [
        head("CSeq: 1\nContent-Type: application/sdp\nContent-Length: 4\n").as_bytes(),
        b"v=0.",
        &frame(0, b"\x80\x60abc"),
        head("CSeq: 2\n").as_bytes(),
        head("CSeq: 3\n").as_bytes(),
    ]
    .concat()
}

#[test]
fn lines_of_a_head_end_with_anything_at_every_split() {
    let expected = [
        "Some((200, \"OK\")) body 4",
        "frame 0 of 5",
        "Some((200, \"OK\")) body 0",
        "Some((200, \"OK\")) body 0",
    ];
    let alike = ["\r\n", "\n", "\r", "\n\r", "\r\r\n"].map(|end| (end, end));
    let mixed = [("\n", "\r\n"), ("\r\n", "\n"), ("\r\r\n", "\r\n")];
    for (line, blank) in alike.into_iter().chain(mixed) {
        let bytes = with_line_ends(line, blank);
        let name = format!("{line:?} {blank:?}");
        assert_eq!(decode([&bytes[..]]), expected, "{name}");
        assert_eq!(decode(bytes.chunks(1)), expected, "{name}");
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(decode([first, second]), expected, "{name}, split at {at}");
        }
    }
}

#[test]
fn one_head_may_have_lines_that_end_differently() {
    for head in [
        "RTSP/1.0 200 OK\r\nA: 1\rB: 2\nC: 3\r\n\r\n",
        "RTSP/1.0 200 OK\rA: 1\r\nB: 2\nC: 3\r\n\r\n",
        "RTSP/1.0 200 OK\rA: 1\r\nB: 2\nC: 3\n\n",
        "RTSP/1.0 200 OK\n\rA: 1\rB: 2\n\rC: 3\r\n\r\n",
        "RTSP/1.0 200 OK\nA: 1\r\nB: 2\rC: 3\r\r",
        "RTSP/1.0\t200\tOK\r\nA: 1\r\nB: 2\rC: 3\r\n\r\n",
    ] {
        let mut decoder = Decoder::new(Limits::default());
        let mut buffer = BytesMut::from(&[head.as_bytes(), OK].concat()[..]);
        let Ok(Some(Unit::Message(message))) = decoder.decode(&mut buffer, &|_, _| false) else {
            panic!("{head:?}");
        };
        let headers: Vec<_> = message.headers.iter().take(3).collect();
        assert_eq!(headers, [("A", "1"), ("B", "2"), ("C", "3")], "{head:?}");
    }
}

#[test]
fn f42_what_only_seems_to_be_a_frame_or_head_hides_no_frames_at_any_split() {
    let frames = (0..8).flat_map(|_| frame(0, &[0x80; 50]));
    let frames: Vec<u8> = frames.collect();
    for stray in [
        &b"$$$$$$$$"[..],
        b"$\xaa\x01\x00\xaa\xaa",
        b"$\x07\xff\xff",
        b"$\x01\x00\x50none of ours",
        b"RTSP/1.0 2",
        b"GET ",
    ] {
        let bytes = [&frame(1, &[0x80; 9])[..], stray, &frames, OK].concat();
        let mut expected = vec!["frame 1 of 9", "lost", "found"];
        expected.extend(["frame 0 of 50"; 8]);
        expected.push("Some((200, \"OK\")) body 0");
        let stray = stray.escape_ascii();
        assert_eq!(decode([&bytes[..]]), expected, "{stray}");
        assert_eq!(decode(bytes.chunks(1)), expected, "{stray}");
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(decode([first, second]), expected, "{stray}, split at {at}");
        }
    }
}

/// Frames of no session are passed on whole, unless they hold frames.
#[test]
fn frames_of_no_session_are_no_stray_bytes() {
    let payload = [b"$".repeat(40), frame(9, b"\x80$"), frame(0, &[0x80; 9])].concat();
    let bytes = [frame(9, &payload), frame(0, &[0x80; 9])].concat();
    let whole = [
        format!("frame 9 of {}", payload.len()),
        "frame 0 of 9".to_owned(),
    ];
    assert_eq!(decode([&bytes[..]]), whole);
    assert_eq!(decode(bytes.chunks(1)), whole);
}

#[test]
fn an_oversize_body_is_discarded_and_only_its_answer_suffers() {
    let body = vec![b'x'; Limits::default().body + 1];
    let headers = format!("CSeq: 1\r\nContent-Length: {}\r\n", body.len());
    let bytes = [response(&headers, &body), frame(0, b"\x80")].concat();
    let whole = vec![
        "Some((200, \"OK\")) body 0 defect".to_owned(),
        "frame 0 of 1".to_owned(),
    ];
    assert_eq!(decode([&bytes[..]]), whole);
    assert_eq!(decode(bytes.chunks(1000)), whole);
}

#[test]
fn f36_an_oversize_head_is_discarded_and_only_its_answer_suffers() {
    for end in ["\r\n", "\n", "\r", "\n\r"] {
        let flood = "X-Flood: yes\n".repeat(10_000);
        let head = format!("RTSP/1.0 200 OK\nCSeq: 1\nContent-Length: 3\n{flood}\n");
        let head = head.replace('\n', end);
        let bytes = [head.as_bytes(), b"v=0", &frame(0, b"\x80")].concat();
        let whole = decode([&bytes[..]]);
        assert_eq!(whole, ["Some((200, \"OK\")) body 0 defect", "frame 0 of 1"]);
        for chunk in [1, 1000, 4096, 65_536, 65_537] {
            let seen = decode(bytes.chunks(chunk));
            assert_eq!(seen, whole, "{end:?} in chunks of {chunk}");
        }
    }
}

#[test]
fn f36_a_head_without_end_is_an_error_wherever_it_is_cut() {
    let bytes = response(&"X-Flood: yes\r\n".repeat(100_000), b"");
    let whole = decode([&bytes[..]]);
    assert_eq!(whole, ["error the head of an answer has no end"]);
    assert_eq!(decode(bytes.chunks(4096)), whole);
}

#[test]
fn f36_hostile_content_lengths_are_typed_and_bounded() {
    for length in [
        "9223372036854775808",
        "99999999999999999999999999",
        "-1",
        "+-5",
        "20000000",
    ] {
        let bytes = [
            response(&format!("Content-Length: {length}\r\n"), b""),
            OK.to_vec(),
        ]
        .concat();
        let seen = decode([&bytes[..]]);
        assert_eq!(
            seen,
            [
                "Some((200, \"OK\")) body 0 defect",
                "Some((200, \"OK\")) body 0"
            ],
            "{length}"
        );
    }
    let words = response("Content-Length: none\r\n", b"");
    assert_eq!(decode([&words[..]]), ["Some((200, \"OK\")) body 0"]);
    let twice = response("Content-Length: 4\r\nContent-Length: 5\r\n", b"");
    assert_eq!(decode([&twice[..]]), ["Some((200, \"OK\")) body 0 defect"]);
    let same = response("Content-Length: 4\r\ncontent-length: 4\r\n", b"abcd");
    assert_eq!(decode([&same[..]]), ["Some((200, \"OK\")) body 4"]);
}

#[test]
fn f16_garbage_between_frames_is_skipped_up_to_the_next_plausible_frame() {
    for garbage in [
        &b"\x01"[..],
        b"$$$",
        b"garbage $\x07\x00\x05 $\x00\x00\x04\x00\x00",
        &[0xff; 5000],
    ] {
        let bytes = [
            &frame(0, b"\x80\x60abc")[..],
            b"~",
            garbage,
            &frame(1, b"\x80\x60abc"),
            OK,
        ]
        .concat();
        let seen = decode([&bytes[..]]);
        let expected = [
            "frame 0 of 5",
            "lost",
            "found",
            "frame 1 of 5",
            "Some((200, \"OK\")) body 0",
        ];
        assert_eq!(seen, expected, "{garbage:?}");
        assert_eq!(
            decode(bytes.chunks(1)),
            expected,
            "byte by byte {garbage:?}"
        );
    }
}

#[test]
fn f16_garbage_without_end_is_an_error() {
    let garbage = vec![0x01; 70 * 1024];
    let seen = decode(garbage.chunks(4096));
    assert_eq!(seen, ["lost", "error framing was lost and not found again"]);
}

#[test]
fn a_web_server_is_called_one() {
    let seen = decode([&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]]);
    assert!(seen[0].contains("web port"), "{seen:?}");
}

#[test]
fn memory_stays_bounded_whatever_arrives() {
    let mut decoder = Decoder::new(Limits::default());
    let mut buffer = BytesMut::new();
    let mut largest = 0;
    buffer.extend_from_slice(b"RTSP/1.0 200 OK\r\n");
    for _ in 0..200 {
        buffer.extend_from_slice(&[b'a'; 4096]);
        largest = largest.max(buffer.len());
        while let Ok(Some(_)) = decoder.decode(&mut buffer, &|_, _| false) {}
    }
    assert!(largest <= Limits::default().headers + 8192, "{largest}");
}
