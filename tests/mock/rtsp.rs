//! The server-side parser and the builders.

use crate::support::rtsp::{
    Frame, Incoming, Parser, Request, Response, RtpPacket, SenderReport, is_rtcp, rtcp_bye,
};

fn dialogue() -> Vec<u8> {
    let mut bytes = Request::new("SETUP", "rtsp://nvr/1/track1")
        .header("CSeq", "1")
        .header("transport", "RTP/AVP/TCP;unicast;interleaved=0-1")
        .to_bytes();
    let frame = Frame {
        channel: 1,
        payload: b"$ in here".to_vec(),
    };
    bytes.extend(frame.to_bytes());
    bytes.extend(Response::new(200).header("CSeq", "7").to_bytes());
    bytes.extend(b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 3\r\n\r\na\r\n");
    bytes
}

fn drain(parser: &mut Parser) -> Vec<Incoming> {
    std::iter::from_fn(|| parser.next().expect("RTSP")).collect()
}

#[test]
fn every_split_gives_the_same_messages() {
    let bytes = dialogue();
    let mut whole = Parser::default();
    whole.push(&bytes);
    let expected = drain(&mut whole);
    assert_eq!(expected.len(), 4);
    assert_eq!(whole.pending(), 0);
    for at in 0..bytes.len() {
        let mut parser = Parser::default();
        parser.push(&bytes[..at]);
        let mut got = drain(&mut parser);
        parser.push(&bytes[at..]);
        got.extend(drain(&mut parser));
        assert_eq!(got, expected, "split at {at}");
    }
}

#[test]
fn headers_compare_without_case_and_keep_their_order() {
    let mut parser = Parser::default();
    parser.push(&dialogue());
    let Ok(Some(Incoming::Request(request))) = parser.next() else {
        panic!("no request");
    };
    assert_eq!(request.method, "SETUP");
    assert_eq!(
        request.headers.value("Transport"),
        Some("RTP/AVP/TCP;unicast;interleaved=0-1")
    );
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["CSeq", "transport"]);
    assert_eq!(request.headers.cseq(), Some(1));
}

#[test]
fn what_is_no_rtsp_is_refused() {
    for bytes in [
        &b"OPTIONS * HTTP/1.1\r\n\r\n"[..],
        b"OPTIONS  * RTSP/1.0\r\n\r\n",
        b"OPTIONS * RTSP/1.0\r\nno colon\r\n\r\n",
        b"OPTIONS * RTSP/1.0\r\nCSeq: 1\nX: 2\r\n\r\n",
        b"OPTIONS * RTSP/1.0\r\nContent-Length: -1\r\n\r\n",
        b"RTSP/1.0 20 OK\r\n\r\n",
        b"\x80garbage",
    ] {
        let mut parser = Parser::default();
        parser.push(bytes);
        let name = bytes.escape_ascii();
        assert!(parser.next().is_err(), "{name}");
    }
}

#[test]
fn packets_have_the_layout_of_rfc_3550() {
    let packet = RtpPacket {
        payload_type: 96,
        sequence: 0x0102,
        timestamp: 0x0304_0506,
        ssrc: 0x0708_090a,
        marker: true,
        payload: b"x".to_vec(),
    };
    let bytes = packet.to_bytes();
    assert_eq!(bytes, b"\x80\xe0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0ax");
    assert_eq!(RtpPacket::parse(&bytes), Some(packet));
    assert!(!is_rtcp(&bytes));
    let report = SenderReport {
        ssrc: 1,
        ntp: 2,
        timestamp: 3,
        packets: 4,
        octets: 5,
    };
    let bytes = report.to_bytes();
    assert_eq!(bytes.len(), 28);
    assert_eq!(bytes[..8], [0x80, 200, 0, 6, 0, 0, 0, 1]);
    assert!(is_rtcp(&bytes) && is_rtcp(&rtcp_bye(1)));
}
