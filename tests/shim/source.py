"""Plays a URI by the element of the first argument, as players and analytics programs do: they find out which
source it has made, by its factory or by its type, and set properties of that one only."""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, GObject, Gst  # noqa: E402

Gst.init(None)
name, how, url = sys.argv[1:4]
loop = GLib.MainLoop()


def configure(source):
    source.set_property("latency", 100)
    source.set_property("drop-on-latency", True)
    print("configured", source.get_property("location") == url, flush=True)


def by_factory(_bin, source):
    if source.get_factory().get_name() == "rtspsrc":
        configure(source)


def by_type(_bin, source):
    if GObject.type_name(source) == "GstRTSPSrc":
        configure(source)


def by_child(proxy, child, child_name):
    # The Python samples of DeepStream.
    if "decodebin" in child_name:
        child.connect("child-added", by_child)
    if "source" in child_name:
        source = proxy.get_by_name("source")
        if source is not None and source.find_property("drop-on-latency") is not None:
            configure(source)


def first(_sink, _buffer, _pad):
    print("picture", flush=True)
    GLib.idle_add(loop.quit)


element = Gst.ElementFactory.make(name, None)
element.set_property("uri", url)
if how == "child":
    element.connect("child-added", by_child)
else:
    element.connect("source-setup", {"factory": by_factory, "type": by_type}[how])
sink = Gst.ElementFactory.make("fakesink", None)
sink.set_property("signal-handoffs", True)
sink.connect("handoff", first)
if "play" in name:
    element.set_property("video-sink", sink)
    element.set_property("audio-sink", Gst.ElementFactory.make("fakesink", None))
    top = element
else:
    top = Gst.Pipeline.new(None)
    top.add(element)
    top.add(sink)

    def added(_element, pad):
        if pad.query_caps(None).to_string().startswith("video"):
            pad.link(sink.get_static_pad("sink"))

    element.connect("pad-added", added)
bus = top.get_bus()
bus.add_signal_watch()
bus.connect("message::error", lambda _bus, message: (print(message.parse_error()), loop.quit()))
top.set_state(Gst.State.PLAYING)
loop.run()
top.set_state(Gst.State.NULL)
