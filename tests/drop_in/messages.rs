//! Messages on the bus.

use gst::{glib, prelude::*};
use gstreamer as gst;

use crate::stage::{Show, Stage, behaviours, kind};
use crate::support::mock_server::{Algorithm, Auth, Camera, MockServer, Reaction, Rule};

behaviours! {
    progress_of_a_start
    progress_of_a_pause
    progress_of_a_stop
    progress_of_a_failure
    no_error_and_no_warning_while_it_plays
    the_stream_start_message_of_a_sink
    a_latency_message_comes
    messages_of_the_source_itself
    an_error_for_a_server_that_is_away
    an_error_for_a_name_that_is_unknown
    an_error_for_a_path_that_is_unknown
    an_error_for_a_mount_that_is_broken
    an_error_for_a_status_of_describe
    an_error_for_a_status_of_setup
    an_error_for_a_status_of_play
    an_error_for_credentials_that_are_missing
    an_error_for_credentials_that_are_wrong
    an_error_for_a_description_that_is_empty
    an_error_for_a_description_without_media
    an_error_for_a_server_that_closes_at_once
    an_error_for_a_server_that_is_no_rtsp_server
    an_end_when_the_connection_is_cut
    an_error_of_downstream_ends_it
    a_server_that_redirects
    eos_message_when_the_server_ends
    an_error_for_protocols_without_tcp_at_a_tcp_server
}

/// The messages of the source up to and including one that is wanted.
fn until(show: &Show, is_last: impl Fn(&gst::Message) -> bool) -> Vec<gst::Message> {
    let mut messages = Vec::new();
    loop {
        let message = show.message(&[
            gst::MessageType::Progress,
            gst::MessageType::Error,
            gst::MessageType::Warning,
            gst::MessageType::Eos,
        ]);
        let last = is_last(&message);
        messages.push(message);
        if last {
            return messages;
        }
    }
}

/// What a PROGRESS message says. The words of the steps between are the client's own.
fn progress(message: &gst::Message) -> Option<String> {
    let gst::MessageView::Progress(progress) = message.view() else {
        return None;
    };
    let (kind, code, text) = progress.get();
    let text = match kind {
        gst::ProgressType::Continue => "",
        _ => text,
    };
    Some(format!("{kind:?} {code} {text}"))
}

fn is_text(message: &gst::Message, wanted: &str) -> bool {
    progress(message).is_some_and(|it| it.ends_with(wanted))
}

/// Without repeated steps: how many requests are told of is the client's own matter.
fn note_progress(stage: &Stage, messages: &[gst::Message]) {
    let mut told: Vec<_> = messages.iter().filter_map(progress).collect();
    told.dedup();
    for told in told {
        stage.note("progress", told);
    }
}

/// Each state waits for the request of the one before: `rtspsrc` cancels a command that its thread has not begun.
fn progress_of_a_start(stage: &Stage) {
    let show = stage.show("h264", &[]);
    show.pipeline.set_state(gst::State::Paused).unwrap();
    note_progress(stage, &until(&show, |it| is_text(it, "Opened Stream")));
    show.pipeline.set_state(gst::State::Playing).unwrap();
    note_progress(stage, &until(&show, |it| is_text(it, "Sent PLAY request")));
}

fn progress_of_a_pause(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    until(&show, |it| is_text(it, "Sent PLAY request"));
    show.pipeline.set_state(gst::State::Paused).unwrap();
    note_progress(stage, &until(&show, |it| is_text(it, "Sent PAUSE request")));
    show.pipeline.set_state(gst::State::Playing).unwrap();
    note_progress(stage, &until(&show, |it| is_text(it, "Sent PLAY request")));
}

fn progress_of_a_stop(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    until(&show, |it| is_text(it, "Sent PLAY request"));
    show.source().set_state(gst::State::Paused).unwrap();
    note_progress(stage, &until(&show, |it| is_text(it, "Sent PAUSE request")));
    show.source().set_state(gst::State::Null).unwrap();
    note_progress(stage, &until(&show, |it| is_text(it, "Closed Stream")));
}

fn is_error(message: &gst::Message) -> bool {
    message.type_() == gst::MessageType::Error
}

fn progress_of_a_failure(stage: &Stage) {
    let show = stage.show("unknown", &[]);
    stage.final_in_failure(&show.source());
    show.pipeline.set_state(gst::State::Paused).unwrap();
    // Whether the ERROR or the failed step comes first is by chance.
    let mut told = until(&show, |it| is_error(it) || is_text(it, "failed"));
    told.extend(until(&show, |it| is_error(it) || is_text(it, "failed")));
    note_progress(stage, &told);
}

fn no_error_and_no_warning_while_it_plays(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 100);
    let wanted = [
        gst::MessageType::Error,
        gst::MessageType::Warning,
        gst::MessageType::Info,
        gst::MessageType::Eos,
        gst::MessageType::Buffering,
        gst::MessageType::Qos,
        gst::MessageType::ClockLost,
    ];
    let bus = show.pipeline.bus().unwrap();
    while let Some(message) = bus.pop_filtered(&wanted) {
        stage.note("message", format!("{:?}", message.type_()));
    }
    stage.note("looked", true);
}

fn the_stream_start_message_of_a_sink(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    let message = show.message(&[gst::MessageType::StreamStart]);
    if let gst::MessageView::StreamStart(start) = message.view() {
        stage.note("group", start.group_id().is_some());
    }
}

fn a_latency_message_comes(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    show.message(&[gst::MessageType::Latency]);
    stage.note("came", true);
}

fn messages_of_the_source_itself(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 50);
    let bus = show.pipeline.bus().unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    let source = show.source();
    while let Some(message) = bus.pop() {
        // Any element may ask for a context at any time.
        let is_question = message.type_() == gst::MessageType::NeedContext;
        if message.src() == Some(source.upcast_ref()) && !is_question {
            kinds.insert(format!("{:?}", message.type_()));
        }
    }
    stage.note("kinds", format!("{kinds:?}"));
}

fn note_error(stage: &Stage, message: &gst::Message) {
    let gst::MessageView::Error(error) = message.view() else {
        return stage.note("message", kind(message));
    };
    let gerror = error.error();
    stage.note("domain", gerror.domain().as_str());
    let code = gerror
        .kind::<gst::ResourceError>()
        .map(|it| format!("{it:?}"))
        .or_else(|| Some(format!("{:?}", gerror.kind::<gst::StreamError>()?)))
        .or_else(|| Some(format!("{:?}", gerror.kind::<gst::CoreError>()?)));
    stage.note("code", code.as_deref().unwrap_or_default());
    // Ours say more: the status of each request that was refused.
    let is_known =
        ["NotFound", "NotAuthorized", "Read"].contains(&code.as_deref().unwrap_or_default());
    let details = error.details().filter(|_| is_known);
    for name in ["rtsp-status-code", "rtsp-status-reason"] {
        let value = details.and_then(|it| it.value(name).ok());
        let shown = value.map(|it| format!("{} {:?}", it.type_().name(), it.serialize().ok()));
        stage.note(name, shown.unwrap_or_default());
    }
    stage.note(
        "from the source",
        message
            .src()
            .map(|it| it.is::<gst::Bin>())
            .unwrap_or_default(),
    );
    stage.note("has debug", error.debug().is_some());
}

fn note_failure(stage: &Stage, properties: &[(&str, &str)], mount: &str) {
    let show = stage.show(mount, properties);
    stage.final_in_failure(&show.source());
    let result = show.pipeline.set_state(gst::State::Playing);
    stage.note("playing", format!("{result:?}"));
    let message = show.message(&[gst::MessageType::Error, gst::MessageType::Eos]);
    note_error(stage, &message);
    let stopped = show.pipeline.set_state(gst::State::Null);
    stage.note("null", format!("{stopped:?}"));
}

fn note_failure_at(stage: &Stage, server: &MockServer, more: &[(&str, &str)]) {
    let url = server.url("/cam");
    let mut properties = vec![("location", url.as_str())];
    properties.extend(more);
    note_failure(stage, &properties, "");
}

fn an_error_for_a_server_that_is_away(stage: &Stage) {
    note_failure(stage, &[("location", "rtsp://127.0.0.1:1/x")], "");
}

fn an_error_for_a_name_that_is_unknown(stage: &Stage) {
    note_failure(stage, &[("location", "rtsp://no-such-host.invalid/x")], "");
}

fn an_error_for_a_path_that_is_unknown(stage: &Stage) {
    note_failure(stage, &[], "unknown");
}

fn an_error_for_a_mount_that_is_broken(stage: &Stage) {
    note_failure(stage, &[], "broken");
}

fn note_statuses(stage: &Stage, method: &str, statuses: &[u16]) {
    for status in statuses {
        let rule = Rule::new(method, Reaction::status(*status));
        let server = MockServer::builder()
            .camera("/cam", Camera::video())
            .rule(rule)
            .start();
        stage.note("status", status);
        note_failure_at(stage, &server, &[]);
    }
}

fn an_error_for_a_status_of_describe(stage: &Stage) {
    note_statuses(stage, "DESCRIBE", &[400, 403, 404, 410, 454, 500, 503]);
}

fn an_error_for_a_status_of_setup(stage: &Stage) {
    note_statuses(stage, "SETUP", &[400, 403, 404, 453, 461, 500, 503]);
}

fn an_error_for_a_status_of_play(stage: &Stage) {
    note_statuses(stage, "PLAY", &[400, 403, 404, 454, 500]);
}

pub(crate) fn digest(user: &str, password: &str) -> Auth {
    Auth::Digest {
        user: user.to_owned(),
        password: password.to_owned(),
        algorithm: Algorithm::LegacyMd5,
    }
}

fn with_password() -> MockServer {
    MockServer::builder()
        .camera("/cam", Camera::video())
        .credentials(digest("viewer", "right"))
        .start()
}

fn an_error_for_credentials_that_are_missing(stage: &Stage) {
    note_failure_at(stage, &with_password(), &[]);
}

fn an_error_for_credentials_that_are_wrong(stage: &Stage) {
    note_failure_at(
        stage,
        &with_password(),
        &[("user-id", "viewer"), ("user-pw", "wrong")],
    );
}

fn an_error_for_a_description_that_is_empty(stage: &Stage) {
    let server = MockServer::builder()
        .camera("/cam", Camera::video().sdp(""))
        .start();
    note_failure_at(stage, &server, &[]);
}

fn an_error_for_a_description_without_media(stage: &Stage) {
    let server = MockServer::builder()
        .camera("/cam", Camera::without_media())
        .start();
    note_failure_at(stage, &server, &[]);
}

/// A server that says this to each client and closes.
fn says(text: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}/x", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            use std::io::{Read, Write};
            let mut client = client;
            if text.is_empty() {
                continue;
            }
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(text.as_bytes());
        }
    });
    url
}

fn an_error_for_a_server_that_closes_at_once(stage: &Stage) {
    note_failure(stage, &[("location", &says(""))], "");
}

fn an_error_for_a_server_that_is_no_rtsp_server(stage: &Stage) {
    let url = says("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    note_failure(stage, &[("location", &url)], "");
}

fn an_end_when_the_connection_is_cut(stage: &Stage) {
    let show = stage.show("h264", &[]);
    stage.final_in_failure(&show.source());
    let show = show.playing();
    show.buffers(1, 10);
    stage.proxy().cut();
    let message = show.message(&[gst::MessageType::Error, gst::MessageType::Eos]);
    note_error(stage, &message);
}

fn an_error_of_downstream_ends_it(stage: &Stage) {
    let show = stage.show("h264", &[]);
    show.source().connect_pad_added(|_, pad| {
        pad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
            info.flow_res = Err(gst::FlowError::Error);
            gst::PadProbeReturn::Handled
        });
    });
    let show = show.playing();
    let message = show.message(&[gst::MessageType::Error, gst::MessageType::Eos]);
    note_error(stage, &message);
    if let gst::MessageView::Error(error) = message.view() {
        let flow = error
            .details()
            .and_then(|it| it.get::<i32>("flow-return").ok());
        stage.note("flow", format!("{flow:?}"));
    }
    let _: Option<glib::Error> = None;
}

fn a_server_that_redirects(stage: &Stage) {
    let rule = Rule::new("DESCRIBE", Reaction::redirect(&stage.url("h264")));
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .rule(rule)
        .start();
    let show = stage.play("", &[("location", &server.url("/cam"))]);
    show.buffers(1, 5);
    stage.note("followed", stage.proxy().sees("PLAY", 1));
}

fn eos_message_when_the_server_ends(stage: &Stage) {
    let show = stage.show("ends", &[]);
    stage.final_in_failure(&show.source());
    let show = show.playing();
    let message = show.message(&[gst::MessageType::Error, gst::MessageType::Eos]);
    note_error(stage, &message);
    stage.note(
        "null",
        format!("{:?}", show.pipeline.set_state(gst::State::Null)),
    );
    stage.note(
        "left",
        stage.proxy().is_left() || stage.proxy().count("TEARDOWN") > 0,
    );
}

fn an_error_for_protocols_without_tcp_at_a_tcp_server(stage: &Stage) {
    let rule = Rule::new("SETUP", Reaction::status(461));
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .rule(rule)
        .start();
    note_failure_at(stage, &server, &[("protocols", "udp")]);
}
