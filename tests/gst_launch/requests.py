"""Plays a camera, sees and changes its requests, and answers those of the server.

Arguments: the element, the URL, and the methods that are held back. Ends with the answer to a request of the
server, or with an error."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
from gi.repository import GLib, Gst, GstRtsp  # noqa: E402

Gst.init(None)
element, url, *held_back = sys.argv[1:]
loop = GLib.MainLoop()
pipeline = Gst.Pipeline()
source = Gst.ElementFactory.make(element)
source.set_property("location", url)
source.set_property("protocols", 4)
source.set_property("latency", 0)
source.set_property("teardown-timeout", 2 * Gst.SECOND)
pipeline.add(source)


def before_send(_source, request):
    _result, method, _uri, _version = request.parse_request()
    name = method.first_value_nick.upper().replace("-", "_")
    print("before-send", name, flush=True)
    request.add_header_by_name("X-Seen", name)
    request.remove_header(GstRtsp.RTSPHeaderField.USER_AGENT, -1)
    return name not in held_back


def handle_request(_source, request, response):
    _result, method, _uri, _version = request.parse_request()
    print("handle-request", method.first_value_nick, flush=True)
    response.add_header_by_name("X-Answered", "yes")
    GLib.timeout_add(200, loop.quit)


def pad_added(_source, pad):
    sink = Gst.ElementFactory.make("fakesink")
    sink.set_property("async", False)
    pipeline.add(sink)
    sink.sync_state_with_parent()
    pad.link(sink.get_static_pad("sink"))


def on_message(_bus, message):
    if message.type == Gst.MessageType.ERROR:
        print("error", flush=True)
        loop.quit()


source.connect("before-send", before_send)
source.connect("handle-request", handle_request)
source.connect("pad-added", pad_added)
bus = pipeline.get_bus()
bus.add_signal_watch()
bus.connect("message", on_message)
pipeline.set_state(Gst.State.PLAYING)
GLib.timeout_add_seconds(30, loop.quit)
loop.run()
pipeline.set_state(Gst.State.NULL)
