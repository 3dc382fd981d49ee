//! SELECT_STREAMS, before SETUP and after it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstreamer as gst;

use crate::player::{PATIENCE, Player, Seen, for_both_managers, init};
use crate::support::mock_server::{Camera, MockServer};
use crate::support::polling::wait_until;

const CAMERA: &str = "/cam";

/// A camera with picture and sound, and what came out of the pads of its element.
struct Selected {
    server: MockServer,
    player: Player,
    pads: Arc<Mutex<Vec<SeenPad>>>,
}

/// A pad that was added.
#[derive(Clone)]
struct SeenPad {
    pad: gst::Pad,
    seen: Arc<Seen>,
    has_ended: Arc<Mutex<bool>>,
}

impl Selected {
    fn new(server: MockServer) -> Self {
        init();
        let player = Player::new(&format!(
            "rtspmuxsrc name=source location={} latency=0 fakesrc is-live=true num-buffers=1 ! fakesink async=false",
            server.url(CAMERA)
        ));
        let pads = Arc::<Mutex<Vec<SeenPad>>>::default();
        let (pipeline, added) = (player.pipeline.downgrade(), Arc::clone(&pads));
        player.element("source").connect_pad_added(move |_, pad| {
            let has_ended = Arc::<Mutex<bool>>::default();
            let ended = Arc::clone(&has_ended);
            pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
                *ended.lock().unwrap() |= info
                    .event()
                    .is_some_and(|it| it.type_() == gst::EventType::Eos);
                gst::PadProbeReturn::Ok
            });
            added.lock().unwrap().push(SeenPad {
                pad: pad.clone(),
                seen: Seen::on(pad),
                has_ended,
            });
            let sink = gst::ElementFactory::make("fakesink").build().unwrap();
            sink.set_property("async", false);
            sink.set_property("sync", false);
            pipeline.upgrade().unwrap().add(&sink).unwrap();
            sink.sync_state_with_parent().unwrap();
            pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        });
        Self {
            server,
            player,
            pads,
        }
    }

    fn source(&self) -> gst::Element {
        self.player.element("source")
    }

    fn play(&self) {
        self.player.set_state(gst::State::Playing).unwrap();
        assert!(self.server.wait_until(|view| view.playing() >= 1, PATIENCE));
    }

    /// The pads that were added so far.
    fn pads(&self) -> Vec<SeenPad> {
        self.pads.lock().unwrap().clone()
    }

    fn names(&self) -> Vec<String> {
        let pads = self.pads();
        pads.iter().map(|it| it.pad.name().to_string()).collect()
    }

    /// Sends packets until it is so.
    fn send_until(&self, is_so: impl Fn(&[SeenPad]) -> bool) {
        let send = || {
            self.server.send_packets(CAMERA, 1);
            is_so(&self.pads())
        };
        wait_until(send, PATIENCE);
    }

    /// The collection that was posted.
    fn collection(&self) -> gst::StreamCollection {
        let message = self.player.message(gst::MessageType::StreamCollection);
        let gst::MessageView::StreamCollection(message) = message.view() else {
            unreachable!()
        };
        message.stream_collection()
    }
}

/// The ids of a collection, by the type of the stream.
fn ids(collection: &gst::StreamCollection) -> BTreeMap<String, String> {
    let streams = collection.iter();
    let named = streams.map(|it| (it.stream_type().to_string(), it.stream_id().unwrap().into()));
    named.collect()
}

fn select<'a>(ids: impl IntoIterator<Item = &'a String>) -> gst::Event {
    gst::event::SelectStreams::new(ids.into_iter().map(String::as_str))
}

fn av() -> MockServer {
    MockServer::builder().camera(CAMERA, Camera::av()).start()
}

/// Selects the video in the sync handler of the bus, as the collection comes.
fn select_video_at_once(selected: &Selected) {
    let source = selected.source().downgrade();
    let bus = selected.player.pipeline.bus().unwrap();
    bus.set_sync_handler(move |_, message| {
        if let (gst::MessageView::StreamCollection(message), Some(source)) =
            (message.view(), source.upgrade())
        {
            let ids = ids(&message.stream_collection());
            assert!(source.send_event(select([&ids["video"]])));
        }
        gst::BusSyncReply::Pass
    });
}

for_both_managers!(a_stream_that_is_not_selected_is_not_set_up);
fn a_stream_that_is_not_selected_is_not_set_up() {
    let selected = Selected::new(av());
    select_video_at_once(&selected);
    selected.play();
    selected.send_until(|pads| pads.iter().any(|it| it.seen.count() > 3));
    assert_eq!(selected.names(), ["stream_0"]);
    assert_eq!(selected.server.view().count("SETUP"), 1);
    selected.player.assert_no_error();
}

for_both_managers!(a_stream_that_is_deselected_ends_and_comes_back_in_a_new_pad);
fn a_stream_that_is_deselected_ends_and_comes_back_in_a_new_pad() {
    let selected = Selected::new(av());
    selected.play();
    selected.send_until(|pads| pads.len() == 2 && pads.iter().all(|it| it.seen.count() > 3));
    let ids = ids(&selected.collection());
    let of = |name: &str| {
        let mut pads = selected.pads().into_iter();
        pads.find(|it| it.pad.name() == name).unwrap()
    };
    let (video, audio) = (of("stream_0"), of("stream_1"));
    let start = audio
        .pad
        .sticky_event::<gst::event::StreamStart>(0)
        .unwrap();
    assert_eq!(start.stream_id(), ids["audio"]);

    assert!(video.pad.send_event(select([&ids["video"]])));
    wait_until(|| *audio.has_ended.lock().unwrap(), PATIENCE);
    let sound = audio.seen.count();
    let pictures = video.seen.count();
    selected.send_until(|_| video.seen.count() > pictures + 20);
    assert!(audio.seen.count() <= sound + 1);
    assert!(!*video.has_ended.lock().unwrap());

    assert!(selected.source().send_event(select(ids.values())));
    selected.send_until(|pads| pads.len() == 3 && pads[2].seen.count() > 3);
    assert_eq!(selected.names()[2], "stream_1");
    assert_eq!(audio.pad.parent(), None);
    assert_eq!(selected.server.view().count("TEARDOWN"), 0);
    assert_eq!(selected.server.view().count("SETUP"), 2);
    // No picture was lost.
    let pictures = video.seen.wait_for(1);
    assert_consecutive(&pictures);
    selected.player.assert_no_error();
}

fn assert_consecutive(buffers: &[gst::Buffer]) {
    let sequence = |buffer: &gst::Buffer| {
        let data = buffer.map_readable().unwrap();
        u16::from_be_bytes([data[2], data[3]])
    };
    for pair in buffers.windows(2) {
        assert_eq!(sequence(&pair[0]).wrapping_add(1), sequence(&pair[1]));
    }
}

#[test]
fn a_selection_of_other_streams_is_not_for_the_camera() {
    let selected = Selected::new(av());
    let foreign = ["foreign".to_owned()];
    assert!(!selected.source().send_event(select(&foreign)));
    selected.play();
    selected.collection();
    assert!(!selected.source().send_event(select(&foreign)));
    selected.send_until(|pads| pads.len() == 2);
}

#[test]
fn a_camera_with_one_stream_offers_no_selection() {
    let server = MockServer::builder().cameras(1).start();
    let player = Player::playing(&format!(
        "rtspmuxsrc location={} latency=0 ! fakesink name=sink sync=false async=false",
        server.url("/cam/1")
    ));
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    let seen = player.seen_by("sink");
    server.send_packets("/cam/1", 3);
    seen.wait_for(1);
    let bus = player.pipeline.bus().unwrap();
    let offered = bus.pop_filtered(&[gst::MessageType::StreamCollection]);
    assert!(offered.is_none());
}
