//! Effects of properties, as the server sees them, and as pads show them.

use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;

use crate::messages::digest;
use crate::stage::{PATIENCE, Stage, behaviours};
use crate::support::mock_server::{Camera, MockServer};

behaviours! {
    the_user_agent
    the_user_agent_by_default
    credentials_in_the_location
    credentials_in_properties
    credentials_with_special_characters
    no_rtcp_if_it_is_switched_off
    rtcp_goes_to_the_server
    the_transport_that_is_asked_for
    headers_of_describe
    headers_of_play
    the_block_size_that_is_asked_for
    the_uris_of_requests
    a_query_in_the_location_reaches_the_server
    no_tcp_timeout_while_media_comes
    latency_is_kept_by_sinks
    drop_on_latency_plays
    each_buffer_mode_plays
    connection_speed_is_sent
    udp_properties_leave_tcp_alone
    a_timeout_for_udp_leaves_tcp_alone
    ntp_sync_plays
    do_retransmission_off_plays
    sdes_in_reports
    a_debug_property_changes_nothing
    the_teardown_names_the_session
    keep_alive_can_be_switched_off
    location_with_a_trailing_slash
    an_rtspt_location_plays_over_tcp
    port_range_and_multicast_leave_tcp_alone
}

fn header(stage: &Stage, method: &str, name: &str) -> String {
    let request = stage.proxy().request(method);
    let value = request.headers.value(name).unwrap_or("none").to_owned();
    stage.clean(&value)
}

fn the_user_agent(stage: &Stage) {
    let show = stage.play("h264", &[("user-agent", "an agent/1.0")]);
    show.buffers(1, 3);
    for method in ["DESCRIBE", "SETUP", "PLAY"] {
        stage.note(method, header(stage, method, "User-Agent"));
    }
}

fn the_block_size_that_is_asked_for(stage: &Stage) {
    let show = stage.play("h264", &[("rtp-blocksize", "1200")]);
    show.buffers(1, 3);
    for method in ["DESCRIBE", "SETUP", "PLAY"] {
        stage.note(method, header(stage, method, "Blocksize"));
    }
}

fn the_user_agent_by_default(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 3);
    let agent = header(stage, "DESCRIBE", "User-Agent");
    stage.note(
        "agent",
        agent == show.source().property::<String>("user-agent"),
    );
    stage.note("begins", agent.split('/').next().unwrap());
}

fn plays_at(stage: &Stage, server: &MockServer, properties: &[(&str, &str)]) {
    let show = stage.play("", properties);
    let plays = server.wait_until(|view| view.playing() == 1, PATIENCE);
    stage.note("plays", plays);
    server.send_packets("/cam", 10);
    show.buffers(1, 3);
}

fn guarded(user: &str, password: &str) -> MockServer {
    MockServer::builder()
        .camera("/cam", Camera::video())
        .credentials(digest(user, password))
        .start()
}

fn credentials_in_the_location(stage: &Stage) {
    let server = guarded("viewer", "secret");
    let url = server
        .url("/cam")
        .replace("rtsp://", "rtsp://viewer:secret@");
    plays_at(stage, &server, &[("location", &url)]);
    let uris = server
        .requests()
        .into_iter()
        .any(|it| it.uri.contains("secret"));
    stage.note("shown", uris);
}

fn credentials_in_properties(stage: &Stage) {
    let server = guarded("viewer", "secret");
    let url = server.url("/cam");
    plays_at(
        stage,
        &server,
        &[
            ("location", &url),
            ("user-id", "viewer"),
            ("user-pw", "secret"),
        ],
    );
}

fn credentials_with_special_characters(stage: &Stage) {
    let server = guarded("viewer@home", "p:a/s?s#w");
    let user = "viewer%40home:p%3Aa%2Fs%3Fs%23w";
    let url = server
        .url("/cam")
        .replace("rtsp://", &format!("rtsp://{user}@"));
    plays_at(stage, &server, &[("location", &url)]);
}

fn no_rtcp_if_it_is_switched_off(stage: &Stage) {
    let show = stage.play("h264", &[("do-rtcp", "false")]);
    show.buffers(1, 3);
    stage.note("sent", stage.proxy().sees_report(Duration::from_secs(6)));
}

fn rtcp_goes_to_the_server(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 3);
    stage.note("sent", stage.proxy().sees_report(PATIENCE));
}

fn the_transport_that_is_asked_for(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 3);
    let requests = stage.proxy().requests().into_iter();
    for request in requests.filter(|it| it.method == "SETUP") {
        let transport = request.headers.value("Transport").unwrap_or_default();
        let mut parts: Vec<_> = transport.split(';').collect();
        parts.retain(|it| !it.starts_with("interleaved"));
        stage.note("transport", parts.join(";"));
        let channels = transport.split("interleaved=").nth(1);
        stage.note("channels", channels.unwrap_or_default());
    }
}

fn headers_of_describe(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 3);
    stage.note("accept", header(stage, "DESCRIBE", "Accept"));
    for name in ["Authorization", "Session", "Bandwidth", "Require"] {
        stage.note(name, header(stage, "DESCRIBE", name));
    }
}

fn headers_of_play(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 3);
    // With or without decimals.
    let range = header(stage, "PLAY", "Range");
    stage.note("range", range.replace("0.000-", "0-"));
    for name in ["Scale", "Speed", "Rate-Control", "Require", "Seek-Style"] {
        stage.note(name, header(stage, "PLAY", name));
    }
}

fn the_uris_of_requests(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 3);
    show.pipeline.set_state(gst::State::Paused).unwrap();
    stage.note("pause", stage.proxy().sees("PAUSE", 1));
    show.pipeline.set_state(gst::State::Null).unwrap();
    for method in ["DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN"] {
        stage.note(method, stage.clean(&stage.proxy().request(method).uri));
    }
}

fn a_query_in_the_location_reaches_the_server(stage: &Stage) {
    let server = MockServer::builder()
        .camera("/cam?channel=1&subtype=0", Camera::video())
        .start();
    let url = server.url("/cam?channel=1&subtype=0");
    let show = stage.play("", &[("location", &url)]);
    stage.note(
        "plays",
        server.wait_until(|view| view.playing() == 1, PATIENCE),
    );
    drop(show);
}

fn no_tcp_timeout_while_media_comes(stage: &Stage) {
    let show = stage.play("h264", &[("tcp-timeout", "1000000")]);
    show.buffers(1, 300);
    stage.note("plays", true);
}

fn latency_is_kept_by_sinks(stage: &Stage) {
    let line = format!(
        "SOURCE location={} protocols=tcp latency=400 ! rtph264depay ! fakesink name=sink sync=true",
        stage.url("h264")
    );
    let show = stage.line(&line);
    show.watch("sink");
    let show = show.playing();
    show.buffers(1, 10);
    let pipeline: &gst::Pipeline = &show.pipeline;
    let mut query = gst::query::Latency::new();
    stage.note("answered", pipeline.query(&mut query));
    stage.note("latency", format!("{:?}", query.result().1));
}

fn plays_with(stage: &Stage, properties: &[(&str, &str)]) {
    let show = stage.play("h264", properties);
    let passed = show.buffers(1, 60);
    stage.note("plays", format!("{properties:?}"));
    let times = passed[0].buffers.iter().map(|it| it.pts());
    stage.note("sorted", times.is_sorted());
}

fn drop_on_latency_plays(stage: &Stage) {
    plays_with(stage, &[("drop-on-latency", "true"), ("latency", "100")]);
}

fn each_buffer_mode_plays(stage: &Stage) {
    for mode in ["none", "slave", "buffer", "auto", "synced"] {
        plays_with(stage, &[("buffer-mode", mode)]);
    }
}

fn connection_speed_is_sent(stage: &Stage) {
    let show = stage.play("h264", &[("connection-speed", "2000")]);
    show.buffers(1, 3);
    stage.note("bandwidth", header(stage, "DESCRIBE", "Bandwidth"));
}

fn udp_properties_leave_tcp_alone(stage: &Stage) {
    plays_with(
        stage,
        &[
            ("udp-buffer-size", "1000000"),
            ("udp-reconnect", "false"),
            ("retry", "65000"),
        ],
    );
}

fn a_timeout_for_udp_leaves_tcp_alone(stage: &Stage) {
    plays_with(stage, &[("timeout", "1000")]);
}

fn ntp_sync_plays(stage: &Stage) {
    plays_with(stage, &[("ntp-sync", "true")]);
}

fn do_retransmission_off_plays(stage: &Stage) {
    plays_with(stage, &[("do-retransmission", "false"), ("probation", "1")]);
}

fn sdes_in_reports(stage: &Stage) {
    plays_with(
        stage,
        &[("sdes", "application/x-rtp-source-sdes,cname=(string)nvr")],
    );
    stage.note("sent", stage.proxy().sees_report(PATIENCE));
}

fn a_debug_property_changes_nothing(stage: &Stage) {
    plays_with(stage, &[("debug", "true")]);
}

fn the_teardown_names_the_session(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 3);
    drop(show);
    let session = |method: &str| {
        let value = header(stage, method, "Session");
        value.split(';').next().unwrap_or_default().to_owned()
    };
    stage.note("same", session("PLAY") == session("TEARDOWN"));
    stage.note("given", session("TEARDOWN") != "none");
}

fn keep_alive_can_be_switched_off(stage: &Stage) {
    plays_with(stage, &[("do-rtsp-keep-alive", "false")]);
}

fn location_with_a_trailing_slash(stage: &Stage) {
    let url = format!("{}/", stage.url("h264"));
    let show = stage.show("", &[("location", &url)]);
    stage.final_in_failure(&show.source());
    let show = show.playing();
    stage.note("asked", stage.clean(&stage.proxy().request("DESCRIBE").uri));
    drop(show);
}

fn an_rtspt_location_plays_over_tcp(stage: &Stage) {
    let element = stage.bare();
    element.set_property("location", stage.url("h264").replace("rtsp://", "rtspt://"));
    let show = crate::stage::Show::of(element).playing();
    show.buffers(1, 3);
    stage.note("asked", stage.clean(&stage.proxy().request("DESCRIBE").uri));
    let transport = header(stage, "SETUP", "Transport");
    stage.note("tcp", transport.starts_with("RTP/AVP/TCP"));
}

fn port_range_and_multicast_leave_tcp_alone(stage: &Stage) {
    plays_with(
        stage,
        &[
            ("port-range", "3000-3010"),
            ("nat-method", "none"),
            ("multicast-iface", "lo"),
        ],
    );
}
