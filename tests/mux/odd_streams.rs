//! One stream that cannot be had costs that stream, not the camera, and none of its neighbours on the
//! connection: whichever stream it is, and whatever the server does with its SETUP.

use std::time::{Duration, Instant};

use gstrtspmux::mux::{Mux, Pooling, Session};

use crate::{
    odd_setups::oddities,
    player::{
        PATIENCE, camera_url, mux, next_of_mock, next_rtp, options, play, play_all, set_up, start,
        within_patience,
    },
    support::mock_server::{Behaviour, Camera, Family, MockServer, Reaction, Rule},
};

/// The camera with the odd stream; 1 to 3 have none.
const ODD: u32 = 4;

/// Longer than a silent stream may take: three response deadlines would be 30 s.
const SOON: Duration = Duration::from_secs(28);

fn server(family: Option<Family>) -> MockServer {
    let builder = MockServer::builder().cameras(ODD - 1);
    let builder = builder.camera("/cam/4", Camera::with_two_sounds().number(ODD));
    match family {
        Some(family) => builder.family(family).start(),
        None => builder.start(),
    }
}

/// Plays the odd camera, without stream `odd`, and gives its session.
async fn play_odd(mux: &Mux, server: &MockServer, odd: usize) -> Session {
    let ready = set_up(mux, options(&camera_url(server, ODD)))
        .await
        .unwrap();
    let left_out: Vec<usize> = ready.failed_streams().iter().map(|(it, _)| *it).collect();
    assert_eq!(left_out, [odd]);
    let mut granted: Vec<usize> = ready.streams().iter().map(|grant| grant.stream).collect();
    granted.sort_unstable();
    let others: Vec<usize> = (0..3).filter(|stream| *stream != odd).collect();
    assert_eq!(granted, others);
    let mut session = ready.play().await.unwrap();
    server.send_packets("/cam/4", 2);
    for _ in 0..4 {
        let packet = next_rtp(&mut session).await.unwrap();
        assert_eq!(Camera::number_of(&packet.payload), Some(ODD));
    }
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_setup_fails_is_left_out_whichever_it_is() {
    for (name, reaction) in oddities() {
        for odd in 0..3 {
            println!("{name} {reaction:?} for stream {odd}");
            let (mux, server) = (mux(), server(None));
            let rule = Rule::new("SETUP", reaction.clone());
            server.add_rule(rule.control(&format!("stream={odd}")));
            let began = Instant::now();
            let _session = within_patience(play_odd(&mux, &server, odd)).await;
            assert!(began.elapsed() < SOON);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_at_the_setup_of_a_later_stream_plays_without_it() {
    for odd in 1..3 {
        let (mux, server) = (mux(), server(None));
        server.add_rule(Rule::new("SETUP", Reaction::Close).control(&format!("stream={odd}")));
        let _session = within_patience(play_odd(&mux, &server, odd)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_cameras_of_the_connection_lose_nothing_by_an_odd_stream() {
    for family in [Some(Family::Gst), None] {
        for (name, reaction) in oddities() {
            for odd in [0, 2] {
                println!("{family:?}: {name} {reaction:?} for stream {odd}");
                let (mux, server) = (mux(), server(family));
                let others = play_all(&mux, &server, ODD - 1, &Pooling::default()).await;
                let rule = Rule::new("SETUP", reaction.clone());
                server.add_rule(rule.camera("/cam/4").control(&format!("stream={odd}")));
                let _odd = within_patience(play_odd(&mux, &server, odd)).await;
                server.send_packets_to_all(20);
                for (mut session, camera) in others.into_iter().zip(1..) {
                    for sequence in 0..20 {
                        assert_eq!(next_of_mock(&mut session).await, (camera, sequence));
                    }
                }
                // Sharing goes on: what one stream met says nothing of the server.
                let view = server.view();
                assert!(view.accepted <= 3, "{} connections", view.accepted);
                let more = play_all(&mux, &server, ODD - 1, &Pooling::default()).await;
                assert!(server.accepted() <= view.accepted + 1);
                drop(more);
            }
        }
    }
}

#[tokio::test]
async fn the_first_failure_is_the_sessions_if_no_stream_can_be_had() {
    let (mux, server) = (mux(), server(None));
    server.add_rule(Rule::new("SETUP", Reaction::status(404)));
    server.add_rule(Rule::new("SETUP", Reaction::status(415)).control("stream=0"));
    let failed = set_up(&mux, options(&camera_url(&server, ODD))).await;
    assert_eq!(failed.unwrap_err().status(), Some(415));
    // Each of the three is sent twice.
    assert!(server.wait_until(|view| view.count("SETUP") == 6, PATIENCE));
}

const AVPF: &str = "v=0\r\ns=x\r\nt=0 0\r\na=control:*\r\n\
    m=video 0 RTP/AVPF 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=0\r\n\
    m=audio 0 rtp/avp/tcp 8\r\na=control:stream=1\r\n";

/// The mock server refuses any other profile than AVP.
#[tokio::test]
async fn setup_names_the_profile_of_the_medium_and_the_plain_one_if_that_is_refused() {
    let camera = Camera::av().number(1).sdp(AVPF);
    let server = MockServer::builder().camera("/cam/1", camera).start();
    let ready = set_up(&mux(), options(&camera_url(&server, 1))).await;
    assert_eq!(ready.unwrap().streams().len(), 2);
    let view = server.view();
    let setups = view.requests.iter().filter(|it| it.method == "SETUP");
    let profiles = setups.map(|it| {
        let transport = it.headers.value("Transport").unwrap();
        transport.split(';').next().unwrap().to_owned()
    });
    let expected = ["RTP/AVPF/TCP", "RTP/AVP/TCP", "RTP/AVP/TCP"];
    assert_eq!(profiles.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_camera_that_refuses_the_range_of_play_is_asked_once_without() {
    for (range, expected) in [("npt=now-", "npt=now-"), ("npt=0-10", "npt=0.000-")] {
        let sdp = AVPF.replace("a=control:*", &format!("a=control:*\r\na=range:{range}"));
        let camera = Camera::av().number(1).sdp(sdp);
        let (mux, server) = (
            mux(),
            MockServer::builder().camera("/cam/1", camera).start(),
        );
        server.add_rule(Rule::new("PLAY", Reaction::status(457)).times(1));
        let ready = set_up(&mux, options(&camera_url(&server, 1)))
            .await
            .unwrap();
        let _session = ready.play().await.unwrap();
        let view = server.view();
        let plays = view.requests.iter().filter(|it| it.method == "PLAY");
        let ranges: Vec<_> = plays.map(|it| it.headers.value("Range")).collect();
        assert_eq!(ranges, [Some(expected), None]);
    }
    let server = MockServer::builder().cameras(1).start();
    server.add_rule(Rule::new("PLAY", Reaction::status(457)));
    let ready = set_up(&mux(), options(&camera_url(&server, 1)))
        .await
        .unwrap();
    assert_eq!(ready.play().await.unwrap_err().status(), Some(457));
    assert_eq!(server.view().count("PLAY"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keep_alive_at_which_the_server_closes_is_not_sent_to_it_again() {
    // The session timeout is 1 s, and the interval as long.
    for (kills, public) in [
        (
            "GET_PARAMETER",
            "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER",
        ),
        ("OPTIONS", "OPTIONS, DESCRIBE, SETUP, PLAY"),
    ] {
        let server = MockServer::builder()
            .cameras(1)
            .behaviour(Behaviour::SessionSuffix(";timeout=1".to_owned()))
            .behaviour(Behaviour::Public(public.to_owned()))
            .behaviour(Behaviour::Header("Public".to_owned(), public.to_owned()))
            .rule(Rule::new(kills, Reaction::Close))
            .start();
        let (mux, url) = (mux(), camera_url(&server, 1));
        let playing = tokio::spawn(async move {
            loop {
                let mut session = play(&mux, options(&url)).await.unwrap();
                while session.next().await.is_some() {}
            }
        });
        let other = match kills {
            "OPTIONS" => "GET_PARAMETER",
            _ => "OPTIONS",
        };
        assert!(server.wait_until(|view| view.count(other) >= 3, PATIENCE));
        playing.abort();
        // The second session may have begun before the end of the first was known.
        assert!(server.view().count(kills) <= 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_is_taken_for_the_answer_to_play_beside_three_other_cameras() {
    let (mux, server) = (mux(), server(Some(Family::Gst)));
    let others = play_all(&mux, &server, ODD - 1, &Pooling::default()).await;
    server.add_rule(Rule::new("PLAY", Reaction::Unanswered).camera("/cam/4"));
    let odd = start(&mux, options(&camera_url(&server, ODD)));
    assert!(server.wait_until(|view| view.playing() == ODD as usize, PATIENCE));
    // The cameras send 20 pictures a second.
    let mut pictures = tokio::time::interval(Duration::from_millis(50));
    let mut odd = std::pin::pin!(within_patience(odd));
    let mut odd = loop {
        tokio::select! {
            odd = &mut odd => break odd.unwrap().unwrap(),
            _ = pictures.tick() => {
                server.send_packets_to_all(1);
            }
        }
    };
    assert_eq!(next_of_mock(&mut odd).await, (ODD, 0));
    for (mut session, camera) in others.into_iter().zip(1..) {
        for sequence in 0..5 {
            assert_eq!(next_of_mock(&mut session).await, (camera, sequence));
        }
    }
    assert_eq!(server.accepted(), 1);
}
