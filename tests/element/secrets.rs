//! Keys in a URL, and a server's texts, in everything that the element says (F54): in a process of its
//! own with `GST_DEBUG=9`, for what GStreamer logs is fixed when it starts.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use gst::prelude::*;
use gstreamer as gst;

use crate::player::{PATIENCE, Seen, init};
use crate::support::mock_server::{Behaviour, Camera, MockServer, Reaction, Rule};
use crate::support::rtsp::Response;

const KEY: &str = "hunter2key";
/// Says to a process that it is the one that speaks, and of what.
const URLS: &str = "RTSPMUX_TEST_URLS";

/// A directory of its own, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let name = format!("rtspmux-element-secrets-{}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn f54_nothing_that_the_element_says_holds_a_key_or_harms_a_terminal() {
    if let Ok(urls) = env::var(URLS) {
        return urls.split('\n').for_each(speak);
    }
    let hostile = format!(
        "x /q?z={KEY} \x1b[2J\u{9b}1m\u{202e}\u{2066}\u{2028}{}",
        "0123456789".repeat(50)
    );
    let paths = [
        format!("/cam?any={KEY}&channel=1"),
        format!("/user={KEY}&password={KEY}&channel=1&stream=0.sdp"),
        format!("/gone;{KEY}"),
        format!("/moved?{KEY}=1"),
    ];
    let [playing, also_playing, gone, moved] = &paths;
    let mut response = Response::new(404);
    response.reason = hostile.clone();
    let lines = ["s=", "i=", "a=tool:", "a=x-url:", "a=x-other:"];
    let builder = MockServer::builder()
        .camera(playing, Camera::video())
        .camera(also_playing, Camera::av())
        .camera(gone, Camera::video())
        .camera(moved, Camera::video())
        .behaviour(Behaviour::PacketsAfterPlay(200))
        .behaviour(Behaviour::Header("Server".to_owned(), hostile.clone()))
        .rule(Rule::new("DESCRIBE", Reaction::Answer(response)).camera(gone))
        .rule(
            Rule::new(
                "DESCRIBE",
                Reaction::redirect(&format!("rtsp://127.0.0.1:1/x={KEY}?{hostile}")),
            )
            .camera(moved),
        );
    let builder = lines.iter().fold(builder, |builder, line| {
        builder.behaviour(Behaviour::SdpLine(format!("{line}{hostile}")))
    });
    let server = builder.start();
    let place = Place::new();
    let state = place.0.join("state");
    let key = "key 000102030405060708090a0b0c0d0e0f";
    fs::write(&state, format!("rtspmux-state 4\n{key}\n")).unwrap();
    let urls = paths.iter().map(|path| {
        server
            .url(path)
            .replacen("rtsp://", &format!("rtsp://{KEY}:{KEY}@"), 1)
    });
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("secrets::f54_nothing_that_the_element_says_holds_a_key_or_harms_a_terminal")
        .env(URLS, urls.collect::<Vec<_>>().join("\n"))
        .env("RTSPMUX_STATE", &state)
        .env("GST_DEBUG", "9")
        .env("GST_DEBUG_NO_COLOR", "1")
        .env("GST_DEBUG_FILE", place.0.join("log"))
        .env("GST_DEBUG_DUMP_DOT_DIR", &place.0)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said} {printed}");
    assert_harmless(&said, "bus, getters and statistics");
    assert_harmless(&printed, "standard error");
    assert!(said.contains("rtsp-status-reason"), "{said}");
    let mut kinds = 0;
    for file in fs::read_dir(&place.0).unwrap() {
        let path = file.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        kinds += usize::from(says_what_it_should(&path, &text));
        assert_harmless(&text, &path.display().to_string());
    }
    assert_eq!(kinds, 3, "log, dot file, state file");
}

/// Whether it is a file that shows what it was made for.
fn says_what_it_should(path: &Path, text: &str) -> bool {
    match path.file_name().unwrap().to_str().unwrap() {
        // The hash of that key, in the first URL.
        "log" => {
            text.contains("> DESCRIBE rtsp://127.0.0.1:")
                && text.contains("/cam?~")
                && text.contains("< RTSP/1.0 404")
        }
        "state" => text.contains("key 000102030405060708090a0b0c0d0e0f"),
        name => name.ends_with("playing.dot") && text.contains("location"),
    }
}

fn assert_harmless(text: &str, of: &str) {
    let around = |at: usize| {
        let from = text.floor_char_boundary(at.saturating_sub(200));
        format!(
            "{of}: {:?}",
            &text[from..text.ceil_char_boundary((at + 80).min(text.len()))]
        )
    };
    let key = text.find(KEY).map(around);
    assert_eq!(key, None);
    let is_harmful = |c: char| {
        let is_mark = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        !matches!(c, '\n' | '\t' | '\r') && (c.is_control() || is_mark)
    };
    assert_eq!(text.find(is_harmful).map(around), None);
    assert_eq!(text.find(&"0123456789".repeat(20)).map(around), None);
}

/// Plays a URL for a moment and prints everything that an application could.
fn speak(url: &str) {
    init();
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("rtspmuxsrc").build().unwrap();
    source.set_property("location", url);
    source.set_property("reconnect", false);
    let sink = gst::ElementFactory::make("fakesink").build().unwrap();
    sink.set_property("sync", false);
    pipeline.add_many([&source, &sink]).unwrap();
    let weak = sink.downgrade();
    source.connect_pad_added(move |_, pad| {
        let sink = weak.upgrade().and_then(|sink| sink.static_pad("sink"));
        if let Some(sink) = sink.filter(|sink| !sink.is_linked()) {
            pad.link(&sink).unwrap();
        }
    });
    let seen = Seen::on(&sink.static_pad("sink").unwrap());
    let uri = source.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    println!(
        "{:?} {:?}",
        source.property::<Option<String>>("location"),
        uri.uri()
    );
    pipeline.set_state(gst::State::Playing).unwrap();
    let is_played = !url.contains("/gone") && !url.contains("/moved");
    let bus = pipeline.bus().unwrap();
    if is_played {
        seen.wait_for(1);
    } else {
        let patience = gst::ClockTime::try_from(PATIENCE).unwrap();
        let error = bus
            .timed_pop_filtered(patience, &[gst::MessageType::Error])
            .unwrap();
        println!("{error:?} {:?}", error.structure());
    }
    println!("{:?}", source.property::<gst::Structure>("stats"));
    for message in bus.iter() {
        println!("{message:?} {:?}", message.structure());
    }
    pipeline.debug_to_dot_file(
        gst::DebugGraphDetails::all(),
        if is_played { "playing" } else { "failed" },
    );
    pipeline.set_state(gst::State::Null).unwrap();
}
