"""Plays a camera with handlers of signals, and writes down what they see.

Arguments: the element, the URL. Ends when there are no more pads and the parameter is answered."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp  # noqa: E402, F401

Gst.init(None)
loop = GLib.MainLoop()
pipeline = Gst.Pipeline()
source = Gst.ElementFactory.make(sys.argv[1])
source.set_property("location", sys.argv[2])
source.set_property("protocols", 4)
source.set_property("latency", 0)
pipeline.add(source)


def on_sdp(_source, sdp):
    print("on-sdp", sdp.medias_len())
    sdp.add_attribute("x-marked", "yes")


def select_stream(_source, number, caps):
    print("select-stream", number, caps.get_structure(0).get_string("x-marked"))
    return number == 0


def new_manager(_source, manager):
    print("new-manager", manager.get_factory().get_name())


def pad_added(_source, pad):
    caps = pad.get_current_caps()
    print("pad", caps.get_structure(0).get_string("x-marked"))
    sink = Gst.ElementFactory.make("fakesink")
    sink.set_property("async", False)
    pipeline.add(sink)
    sink.sync_state_with_parent()
    pad.link(sink.get_static_pad("sink"))


def answered(promise):
    reply = promise.get_reply()
    print(reply.get_name(), reply.get_int("rtsp-code")[1], reply.get_string("body"))
    GLib.idle_add(loop.quit)


def no_more_pads(source):
    print("no-more-pads")
    promise = Gst.Promise.new_with_change_func(answered)
    assert source.emit("get-parameter", "position", None, promise)


def on_message(_bus, message):
    if message.type == Gst.MessageType.ERROR:
        print("error", message.parse_error().gerror.message)
        loop.quit()


source.connect("on-sdp", on_sdp)
source.connect("select-stream", select_stream)
source.connect("new-manager", new_manager)
source.connect("pad-added", pad_added)
source.connect("no-more-pads", no_more_pads)
bus = pipeline.get_bus()
bus.add_signal_watch()
bus.connect("message", on_message)
pipeline.set_state(Gst.State.PLAYING)
GLib.timeout_add_seconds(30, loop.quit)
loop.run()
pipeline.set_state(Gst.State.NULL)
