"""What a program that plays one camera sees of rtspsrc."""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, GObject, Gst  # noqa: E402

Gst.init(None)
url = sys.argv[1]
pipeline = Gst.Pipeline.new(None)
source = Gst.ElementFactory.make("rtspsrc", "source")
version = Gst.version()[:3]
print("type:", GObject.type_name(source))
print("version:", ".".join(map(str, version)), source.get_factory().check_version(*version))
source.set_property("location", url)
source.set_property("user-pw", "hunter2")
source.set_property("latency", 0)
source.set_property("buffer-mode", "slave")
print("location:", source.get_property("location"))
print("uri:", source.get_uri())
print("user-pw:", source.get_property("user-pw"))
print("protocols:", int(source.get_property("protocols")))
print("multiplex:", source.get_property("multiplex").value_nick)
print("latency:", source.get_property("latency"))
mode = source.get_property("buffer-mode")
print("buffer-mode:", GObject.type_name(source.find_property("buffer-mode").value_type), mode.value_nick)
pipeline.add(source)
loop = GLib.MainLoop()
seen = []


def added(_source, pad):
    seen.append(pad.get_name())
    sink = Gst.ElementFactory.make("fakesink", None)
    pipeline.add(sink)
    sink.sync_state_with_parent()
    pad.link(sink.get_static_pad("sink"))


def complete(_source):
    seen.append("no-more-pads")
    loop.quit()


source.connect("pad-added", added)
source.connect("no-more-pads", complete)
bus = pipeline.get_bus()
bus.add_signal_watch()
bus.connect("message::error", lambda _bus, message: (print(message.parse_error()), loop.quit()))
pipeline.set_state(Gst.State.PLAYING)
loop.run()
print("pads:", *seen)
dump = Gst.debug_bin_to_dot_data(pipeline, Gst.DebugGraphDetails.ALL)
print("dump:", "hunter2" in dump)
pipeline.set_state(Gst.State.NULL)
