//! The server that plays a transcript.

use std::time::Duration;

use crate::client::Client;
use crate::support::mock_server::MockServer;
use crate::support::rtsp::{Incoming, Response};
use crate::support::transcript::{ExpectedFrame, ExpectedMessage, ExpectedStart, Step, Transcript};

/// What a client sends that does exactly what the transcript asks for.
fn ideal(expected: &ExpectedMessage) -> Vec<u8> {
    let (start, mut headers) = match &expected.start {
        ExpectedStart::Request { method, uri } => {
            (format!("{method} {uri} RTSP/1.0"), String::new())
        }
        ExpectedStart::Response { status } => (format!("RTSP/1.0 {status} OK"), String::new()),
    };
    for header in &expected.headers {
        if let Some(value) = &header.value {
            headers.push_str(&format!("{}: {}\r\n", header.name, value.replace('*', "x")));
        }
    }
    format!("{start}\r\n{headers}\r\n").into_bytes()
}

fn rtcp_or(expected: &ExpectedFrame) -> Vec<u8> {
    let payload = match expected {
        ExpectedFrame::Exact { payload, .. } => payload.clone(),
        _ => b"\x80\xc9\0\x01\0\0\0\x01".to_vec(),
    };
    let channel = expected.channel();
    crate::support::rtsp::Frame { channel, payload }.to_bytes()
}

#[test]
fn an_ideal_client_passes_every_fixture() {
    for transcript in Transcript::fixtures_in("sessions") {
        let server = MockServer::play(&transcript);
        let authority = server.url("").replace("rtsp://", "");
        let mut client = Client::to(&authority);
        for step in &server.transcript().steps {
            match step {
                Step::Request { expected, .. } => client.write(&ideal(expected)),
                Step::ClientFrame { expected, .. } => client.write(&rtcp_or(expected)),
                _ => {}
            }
        }
        server.finish();
    }
}

#[test]
fn bytes_and_the_end_arrive_as_written() {
    let text = "# ends\nC> OPTIONS rtsp://nvr/ | CSeq: 1\nS> RTSP/1.0 200 OK | CSeq: 1\nS$ 3 raw \"x\"\nS! reset";
    let server = MockServer::play(&Transcript::parse("ends", text).unwrap());
    let mut client = Client::to(&server.url("").replace("rtsp://", ""));
    client.send("OPTIONS", &server.url("/"), &[]);
    assert_eq!(
        client.next(),
        Some(Incoming::Response(Response::new(200).header("CSeq", "1")))
    );
    assert_eq!(client.frame().payload, b"x");
    assert_eq!(client.next(), None);
    assert!(server.wait_past(99, Duration::from_secs(10)));
    server.finish();
}

#[test]
fn what_goes_otherwise_is_told_with_its_line() {
    let text = "# one request\n\nC> OPTIONS rtsp://nvr/ | CSeq: 1\nS> RTSP/1.0 200 OK | CSeq: 1";
    let transcript = Transcript::parse("x.rtsp.txt", text).unwrap();
    let failures = |act: &dyn Fn(&mut Client, &str)| {
        let server = MockServer::play(&transcript);
        let mut client = Client::to(&server.url("").replace("rtsp://", ""));
        act(&mut client, &server.url("/"));
        drop(client);
        server.failures(Duration::from_secs(10)).join("\n")
    };
    let good = failures(&|client, url| client.send("OPTIONS", url, &[]));
    assert_eq!(good, "");
    let wrong = failures(&|client, url| client.send("DESCRIBE", url, &[]));
    assert!(
        wrong.starts_with("x.rtsp.txt:3: method DESCRIBE instead of OPTIONS"),
        "{wrong}"
    );
    let silent = failures(&|_, _| {});
    assert!(
        silent.starts_with("x.rtsp.txt:3: the connection ended"),
        "{silent}"
    );
    let talkative = failures(&|client, url| {
        client.send("OPTIONS", url, &[]);
        client.send("DESCRIBE", url, &[]);
    });
    assert!(
        talkative.contains("after the end of the transcript came DESCRIBE"),
        "{talkative}"
    );
    let unused = MockServer::play(&transcript).failures(Duration::ZERO);
    assert_eq!(unused, ["x.rtsp.txt: no client connected"]);
}
