//! The mock server, and the one that plays transcripts, asked over TCP.

use std::sync::Arc;
use std::time::Duration;

use crate::client::{Client, LONG, channels, session_id};
use crate::support::mock_server::{
    Behaviour, Camera, ChannelPolicy, Excess, Family, MockServer, Reaction, Rule,
};
use crate::support::rtsp::{Frame, Incoming, Request, Response, RtpPacket};

fn two_cameras() -> MockServer {
    MockServer::builder().cameras(2).start()
}

#[test]
fn sessions_of_one_connection_keep_their_media_apart() {
    let server = MockServer::builder()
        .camera("/cam/1", Camera::av().number(1))
        .camera("/cam?channel=2", Camera::video().number(2))
        .start();
    let mut client = Client::connect(&server);
    let (one, two) = (server.url("/cam/1"), server.url("/cam?channel=2"));
    let described = client.describe(&one);
    assert_eq!(
        described.headers.value("Content-Base"),
        Some(format!("{one}/").as_str())
    );
    assert_eq!(
        String::from_utf8_lossy(&described.body)
            .matches("\r\nm=")
            .count(),
        2
    );
    let first = client.start(&one, "0-1");
    let second = client.start(&two, "2-3");
    assert_ne!(first, second);
    let transport = ("Transport", "RTP/AVP/TCP;unicast;interleaved=4-5");
    let audio = client.ask(
        "SETUP",
        &format!("{one}/stream=1"),
        &[transport, ("Session", &first)],
    );
    assert_eq!(session_id(&audio), first);
    assert_eq!(server.send_packets("/cam/1", 2), 4);
    assert_eq!(server.send_packets("/cam?channel=2", 1), 1);
    let got: Vec<(u8, Option<u32>)> = (0..5)
        .map(|_| client.frame())
        .map(|frame| (frame.channel, Camera::number_of(&frame.payload)))
        .collect();
    let one = Some(1);
    assert_eq!(got, [(0, one), (4, one), (0, one), (4, one), (2, Some(2))]);
    assert_eq!((server.accepted(), server.sessions_alive()), (1, 2));
    assert_eq!(server.view().playing(), 2);
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn teardown_says_close_and_the_connection_stays() {
    let server = two_cameras();
    let mut client = Client::connect(&server);
    let url = server.url("/cam/1");
    let id = client.start(&url, "0-1");
    let answer = client.ask("TEARDOWN", &url, &[("Session", &id)]);
    assert_eq!(answer.headers.value("Connection"), Some("close"));
    assert_eq!(server.sessions_alive(), 0);
    assert_eq!(client.ask("PLAY", &url, &[("Session", &id)]).status, 454);
    assert_eq!(client.ask("OPTIONS", &url, &[]).status, 200);
    assert_eq!(server.view().count("TEARDOWN"), 1);
    drop(client);
    assert!(server.wait_until(|s| s.open_connections == 0, LONG));
}

#[test]
fn colliding_channels_are_reassigned_until_none_is_left() {
    let server = two_cameras();
    let mut client = Client::connect(&server);
    let url = server.url("/cam/1");
    for n in 0..128 {
        let answer = client.setup(&url, "0-1");
        let expected = format!("{}-{}", 2 * n, 2 * n + 1);
        assert_eq!(channels(&answer), Some(expected.as_str()));
    }
    assert_eq!(client.setup(&url, "0-1").status, 461);
}

#[test]
fn channel_policies_answer_as_their_servers_do() {
    for (policy, expected) in [
        (ChannelPolicy::Reassign, Some("0-1")),
        (ChannelPolicy::Verbatim, Some("2-3")),
        (ChannelPolicy::PerTrack, Some("0-1")),
        (ChannelPolicy::Shift(4), Some("6-7")),
        (ChannelPolicy::Omit, None),
        (ChannelPolicy::SingleNumber, Some("2")),
    ] {
        let server = MockServer::builder()
            .cameras(1)
            .behaviour(Behaviour::Channels(policy))
            .start();
        let mut client = Client::connect(&server);
        client.setup(&server.url("/cam/1"), "2-3");
        let second = client.setup(&server.url("/cam/1"), "2-3");
        assert_eq!(channels(&second), expected, "{policy:?}");
    }
}

#[test]
fn rules_count_requests_of_their_camera() {
    let server = MockServer::builder()
        .cameras(2)
        .rule(Rule::new("DESCRIBE", Reaction::status(404)).camera("/cam/2"))
        .rule(Rule::new("OPTIONS", Reaction::status(500)).skip(1).times(1))
        .rule(Rule::new("PAUSE", Reaction::redirect("rtsp://elsewhere/")))
        .start();
    let mut client = Client::connect(&server);
    let (one, two) = (server.url("/cam/1"), server.url("/cam/2"));
    assert_eq!(client.describe(&one).status, 200);
    assert_eq!(client.describe(&two).status, 404);
    let statuses: Vec<u16> = (0..3)
        .map(|_| client.ask("OPTIONS", &one, &[]).status)
        .collect();
    assert_eq!(statuses, [200, 500, 200]);
    let moved = client.ask("PAUSE", &one, &[]);
    assert_eq!(moved.headers.value("Location"), Some("rtsp://elsewhere/"));
    server.clear_rules();
    assert_eq!(client.describe(&two).status, 200);
    server.add_rule(Rule::new("*", Reaction::Close));
    client.send("OPTIONS", &one, &[]);
    assert_eq!(client.next(), None);
}

#[test]
fn answers_wait_are_swapped_and_are_changed() {
    let server = MockServer::builder()
        .cameras(1)
        .rule(Rule::new("DESCRIBE", Reaction::Defer).times(1))
        .rule(Rule::new("DESCRIBE", Reaction::Swap).times(1))
        .rule(Rule::new("DESCRIBE", Reaction::Hold).times(1))
        .rule(Rule::new("DESCRIBE", Reaction::header_flood(3, 10)))
        .start();
    let mut client = Client::connect(&server);
    let url = server.url("/cam/1");
    let accept = [("Accept", "application/sdp")];
    client.send("DESCRIBE", &url, &accept);
    client.send("DESCRIBE", &url, &accept);
    client.send("OPTIONS", &url, &[]);
    let cseqs = [client.response(), client.response()].map(|r| r.headers.cseq());
    assert_eq!(cseqs, [Some(3), Some(2)], "swapped, the first one deferred");
    server.release();
    assert_eq!(client.response().headers.cseq(), Some(1));
    client.send("DESCRIBE", &url, &accept);
    client.send("OPTIONS", &url, &[]);
    assert!(server.wait_until(|s| s.requests.len() == 4, LONG));
    server.release();
    let cseqs = [client.response(), client.response()].map(|r| r.headers.cseq());
    assert_eq!(cseqs, [Some(4), Some(5)], "held: the head of the line");
    assert_eq!(
        client.describe(&url).headers.value("X-Flood-2"),
        Some("xxxxxxxxxx")
    );
}

#[test]
fn media_goes_out_around_the_play_and_teardown_answers() {
    let server = MockServer::builder()
        .cameras(1)
        .behaviour(Behaviour::PacketsBeforePlayAnswer(1))
        .behaviour(Behaviour::PacketsAfterPlay(1))
        .behaviour(Behaviour::StrayPackets {
            channel: 99,
            count: 1,
        })
        .behaviour(Behaviour::PacketsAfterTeardown(1))
        .behaviour(Behaviour::RequestsAfterPlay(vec![Request::new(
            "OPTIONS", "*",
        )]))
        .start();
    let mut client = Client::connect(&server);
    let url = server.url("/cam/1");
    let id = client.start(&url, "8-9");
    assert_eq!(client.frames.len(), 1, "before the answer");
    let sequence = |frame: Frame| RtpPacket::parse(&frame.payload).map(|p| p.sequence);
    assert_eq!(sequence(client.frame()), Some(0));
    assert_eq!(sequence(client.frame()), Some(1));
    assert_eq!(client.frame().channel, 99);
    let Some(Incoming::Request(request)) = client.next() else {
        panic!("no request");
    };
    assert_eq!(
        (request.method.as_str(), request.headers.cseq()),
        ("OPTIONS", Some(1))
    );
    client.write(&Response::new(200).header("CSeq", "1").to_bytes());
    assert!(server.wait_until(|s| s.responses.len() == 1, LONG));
    client.ask("TEARDOWN", &url, &[("Session", &id)]);
    assert_eq!(client.frame().channel, 8);
}

#[test]
fn reports_go_on_the_second_channel_and_frames_come_back() {
    let server = two_cameras();
    let mut client = Client::connect(&server);
    client.start(&server.url("/cam/1"), "4-5");
    assert_eq!(server.send_reports("/cam/1", 1), 1);
    assert_eq!(client.frame().channel, 5);
    for channel in [5, 7] {
        let payload = b"\x80\xc9\0\x01\0\0\0\x01".to_vec();
        client.write(&Frame { channel, payload }.to_bytes());
    }
    assert!(server.wait_until(|s| s.frames.len() == 2, LONG));
    assert_eq!(server.frames_from_client()[0].channel, 5);
    let violations = server.violations();
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert!(violations[0].contains("channel 7"), "{violations:?}");
}

#[test]
fn garbage_stands_before_every_frame() {
    let server = MockServer::builder()
        .cameras(1)
        .behaviour(Behaviour::GarbageBetweenFrames(
            b"OPTIONS * RTSP/1.0\r\n\r\n".to_vec(),
        ))
        .start();
    let mut client = Client::connect(&server);
    client.start(&server.url("/cam/1"), "0-1");
    server.send_packets("/cam/1", 1);
    assert!(matches!(client.next(), Some(Incoming::Request(_))));
    assert_eq!(client.frame().channel, 0);
}

#[test]
fn descriptions_may_be_any_bytes_and_any_size() {
    let server = MockServer::builder()
        .camera("/raw", Camera::video().sdp(*b"\xff\xfe"))
        .camera("/big", Camera::video().sdp_size(300_000))
        .camera("/empty", Camera::without_media())
        .start();
    let mut client = Client::connect(&server);
    assert_eq!(client.describe(&server.url("/raw")).body, b"\xff\xfe");
    assert!(client.describe(&server.url("/big")).body.len() >= 300_000);
    let empty = client.describe(&server.url("/empty")).body;
    assert!(!String::from_utf8_lossy(&empty).contains("\r\nm="));
}

#[test]
fn a_second_session_ends_the_connection_of_gortsplib() {
    let server = MockServer::builder()
        .cameras(2)
        .family(Family::MediaMtx)
        .start();
    let mut client = Client::connect(&server);
    client.setup(&server.url("/cam/1"), "0-1");
    assert_eq!(client.setup(&server.url("/cam/2"), "2-3").status, 400);
    assert_eq!(client.next(), None);
    assert!(server.wait_until(|s| s.open_connections == 0 && s.sessions.is_empty(), LONG));
}

#[test]
fn excess_sessions_are_swallowed_or_refused() {
    let server = MockServer::builder()
        .cameras(1)
        .behaviour(Behaviour::Sessions(2))
        .behaviour(Behaviour::SessionsPerConnection(1, Excess::Swallow))
        .start();
    let url = server.url("/cam/1");
    let mut client = Client::connect(&server);
    client.setup(&url, "0-1");
    client.send(
        "SETUP",
        &format!("{url}/stream=0"),
        &[("Transport", "RTP/AVP/TCP;interleaved=2-3")],
    );
    assert_eq!(client.ask("OPTIONS", &url, &[]).headers.cseq(), Some(3));
    assert_eq!(Client::connect(&server).setup(&url, "0-1").status, 200);
    let mut third = Client::connect(&server);
    // The second client is gone; its session may live a moment longer.
    assert!(server.wait_until(|s| s.sessions.len() == 1, LONG));
    assert_eq!(third.setup(&url, "0-1").status, 200);
    let refused = Client::connect(&server).setup(&url, "0-1");
    assert_eq!(
        (refused.status, refused.headers.value("Retry-After")),
        (503, Some("5"))
    );
}

#[test]
fn zlmediakit_answers_for_the_first_uri_and_forgets_its_session() {
    let server = MockServer::builder()
        .cameras(2)
        .family(Family::ZlMediaKit)
        .start();
    let (one, two) = (server.url("/cam/1"), server.url("/cam/2"));
    let mut client = Client::connect(&server);
    let first = client.start(&one, "0-1");
    assert_eq!(client.describe(&two).body, client.describe(&one).body);
    let second = client.setup(&two, "2-3");
    assert_eq!(channels(&second), Some("0-1"));
    assert_eq!(
        client.ask("PAUSE", &one, &[("Session", &first)]).status,
        454
    );
    assert_eq!(client.next(), None);
}

#[test]
fn go2rtc_is_mute_while_it_plays() {
    let server = MockServer::builder()
        .cameras(2)
        .family(Family::Go2Rtc)
        .start();
    let mut client = Client::connect(&server);
    client.start_go2rtc(&server.url("/cam/1"), "0-1");
    client.send(
        "DESCRIBE",
        &server.url("/cam/2"),
        &[("Accept", "application/sdp")],
    );
    assert_eq!(
        client
            .ask("OPTIONS", &server.url("/cam/1"), &[])
            .headers
            .cseq(),
        Some(4)
    );
}

/// As captured: `batch`, `never_played`.
#[test]
fn go2rtc_describes_the_first_camera_once_more_each_time_and_plays_it_under_any_id() {
    let server = MockServer::builder()
        .cameras(2)
        .family(Family::Go2Rtc)
        .start();
    let mut client = Client::connect(&server);
    let first = client.describe(&server.url("/cam/1"));
    let second = client.describe(&server.url("/cam/2"));
    let media = |response: &Response| {
        let text = String::from_utf8_lossy(&response.body).into_owned();
        let lines = text.lines().filter(|line| line.starts_with("m="));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(first.headers.value("Content-Base"), None);
    assert_eq!(media(&first), ["m=video 0 RTP/AVP 96"]);
    let both = ["m=video 0 RTP/AVP 96", "m=video 0 RTP/AVP 97"];
    assert_eq!(media(&second), both);
    let set_up = |client: &mut Client, camera: &str, channels: &str| {
        let transport = format!("RTP/AVP/TCP;unicast;interleaved={channels}");
        let control = server.url(&format!("{camera}/trackID=0"));
        client.ask("SETUP", &control, &[("Transport", &transport)])
    };
    let one = session_id(&set_up(&mut client, "/cam/1", "0-1"));
    let answer = set_up(&mut client, "/cam/2", "2-3");
    let other = session_id(&answer);
    assert_ne!(one, other);
    assert_eq!(channels(&answer), Some("0-1"));
    let play = client.ask("PLAY", &server.url("/cam/1"), &[("Session", &one)]);
    assert_eq!(session_id(&play), other, "the last one");
    server.send_packets("/cam/1", 1);
    assert_eq!(client.frame().channel, 0);
    // Before it plays, any TEARDOWN ends the connection.
    let mut client = Client::connect(&server);
    let id = session_id(&set_up(&mut client, "/cam/1", "0-1"));
    let url = server.url("/cam/1");
    let teardown = client.ask("TEARDOWN", &url, &[("Session", &id)]);
    assert_eq!(teardown.status, 200);
    assert_eq!(client.next(), None);
}

/// As captured: `late_setup_only`, and `late` for the TEARDOWN.
#[test]
fn aio_rtsp_toolkit_silences_the_first_camera_at_the_second_setup() {
    let server = MockServer::builder()
        .cameras(2)
        .family(Family::AioToolkit)
        .start();
    let mut client = Client::connect(&server);
    let first = client.start(&server.url("/cam/1"), "0-1");
    let second = session_id(&client.setup(&server.url("/cam/2"), "2-3"));
    assert_eq!(first, second);
    assert_eq!(server.send_packets("/cam/1", 1), 0);
    server.send_packets("/cam/2", 1);
    assert_eq!(client.frame().channel, 2);
    let url = server.url("/cam/2");
    let teardown = client.ask("TEARDOWN", &url, &[("Session", &second)]);
    assert_eq!(teardown.status, 200);
    assert_eq!(client.next(), None);
}

#[test]
fn vlc_sees_only_the_first_of_pipelined_requests() {
    let server = MockServer::builder().cameras(1).family(Family::Vlc).start();
    let mut client = Client::connect(&server);
    let one = Request::new("OPTIONS", "rtsp://x/")
        .header("CSeq", "1")
        .to_bytes();
    let two = Request::new("OPTIONS", "rtsp://x/")
        .header("CSeq", "2")
        .to_bytes();
    client.write(&[one, two].concat());
    assert_eq!(client.response().headers.cseq(), Some(1));
    assert_eq!(client.setup(&server.url("/cam/1"), "0-1").status, 461);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn connections_end_as_asked() {
    let server = two_cameras();
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(&server)).collect();
    assert!(server.wait_until(|s| s.open_connections == 2, LONG));
    server.close_connections();
    assert!(clients.iter_mut().all(|c| c.next().is_none()));
    assert!(server.wait_until(|s| s.open_connections == 0, LONG));
    let mut client = Client::connect(&server);
    client.ask("OPTIONS", "rtsp://x/", &[]);
    server.half_close_connections();
    assert_eq!(client.next(), None);
    assert_eq!(server.open_connections(), 1);
    client.send("OPTIONS", "rtsp://x/", &[]);
    assert!(
        server.wait_until(|s| s.requests.len() == 2, LONG),
        "it still reads"
    );
    let mut client = Client::connect(&server);
    client.ask("OPTIONS", "rtsp://x/", &[]);
    server.reset_connections();
    assert_eq!(client.next(), None);
    assert_eq!(server.view().most_open_connections, 2);
    server.stop();
}

#[test]
fn idle_and_new_connections_are_closed_by_servers_that_do() {
    let server = MockServer::builder()
        .cameras(1)
        .behaviour(Behaviour::CloseAfterLastTeardown)
        .start();
    let mut client = Client::connect(&server);
    let url = server.url("/cam/1");
    let id = client.start(&url, "0-1");
    assert_eq!(
        client.ask("TEARDOWN", &url, &[("Session", &id)]).status,
        200
    );
    assert_eq!(client.next(), None);
    let server = MockServer::builder()
        .behaviour(Behaviour::EofOnAccept)
        .start();
    assert_eq!(Client::connect(&server).next(), None);
    let server = MockServer::builder()
        .behaviour(Behaviour::CloseOnAccept)
        .start();
    assert_eq!(Client::connect(&server).next(), None);
}

#[test]
fn a_server_that_stops_reading_reads_again_after_release() {
    let server = MockServer::builder()
        .behaviour(Behaviour::StopReadingAfter(1))
        .start();
    let mut client = Client::connect(&server);
    client.ask("OPTIONS", "rtsp://x/", &[]);
    client.send("OPTIONS", "rtsp://x/", &[]);
    assert!(!server.wait_until(|s| s.requests.len() == 2, Duration::from_millis(20)));
    server.release();
    assert_eq!(client.response().headers.cseq(), Some(2));
}

#[test]
fn many_clients_at_once_are_counted() {
    let server = Arc::new(two_cameras());
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || {
                let mut client = Client::connect(&server);
                client.start(&server.url("/cam/1"), "0-1");
                client
            })
        })
        .collect();
    let clients: Vec<Client> = clients.into_iter().map(|c| c.join().unwrap()).collect();
    assert_eq!(server.send_packets("/cam/1", 1), 8);
    assert_eq!((server.accepted(), server.sessions_alive()), (8, 8));
    let nths: Vec<usize> = server.requests().iter().map(|r| r.at_nth).collect();
    assert_eq!(nths, (0..16).collect::<Vec<_>>());
    drop(clients);
    assert!(server.wait_until(|s| s.open_connections == 0, LONG));
}
