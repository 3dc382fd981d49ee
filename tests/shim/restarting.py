"""Records cameras as programs do that know of no reconnect: each is a bin that is taken down and up when its last
buffer is a second old, as with DeepStream's nvurisrcbin, and at each ERROR and EOS. Ends when its input ends."""

import sys
import time

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

Gst.init(None)
SILENCE = 1.0
loop = GLib.MainLoop()
pipeline = Gst.Pipeline.new(None)
restarts = 0


class Camera:
    def __init__(self, number, url):
        self.bin = Gst.Bin.new("camera%d" % number)
        self.source = Gst.ElementFactory.make("rtspsrc", None)
        self.source.set_property("location", url)
        self.source.set_property("latency", 100)
        self.source.set_property("drop-on-latency", True)
        self.source.set_property("protocols", 4)
        self.source.connect("pad-added", self.added)
        self.depay = Gst.ElementFactory.make("rtph264depay", None)
        sink = Gst.ElementFactory.make("fakesink", None)
        sink.set_property("async", False)
        sink.set_property("sync", False)
        for element in (self.source, self.depay, sink):
            self.bin.add(element)
        self.depay.link(sink)
        sink.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, self.seen)
        pipeline.add(self.bin)
        self.last = time.monotonic()
        self.buffers = 0
        self.is_due = False
        GLib.timeout_add(200, self.watch)

    def added(self, _source, pad):
        if "video" in pad.get_current_caps().to_string():
            pad.link(self.depay.get_static_pad("sink"))

    def seen(self, _pad, _info):
        self.last = time.monotonic()
        self.buffers += 1
        return Gst.PadProbeReturn.OK

    def watch(self):
        if self.is_due or self.buffers and time.monotonic() - self.last > SILENCE:
            self.restart()
        return True

    def restart(self):
        global restarts
        restarts += 1
        self.is_due = False
        self.buffers = 0
        self.bin.set_state(Gst.State.NULL)
        self.bin.sync_state_with_parent()
        print("restart", restarts, flush=True)


cameras = [Camera(number, url) for number, url in enumerate(sys.argv[1:])]


def failed(_bus, message):
    for camera in cameras:
        if message.src.has_as_ancestor(camera.bin) or message.src == camera.bin:
            camera.is_due = True


bus = pipeline.get_bus()
bus.add_signal_watch()
bus.connect("message::error", failed)
bus.connect("message::eos", failed)


def ended(_channel, _condition):
    loop.quit()
    return False


GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_HUP | GLib.IO_IN, ended)
pipeline.set_state(Gst.State.PLAYING)
loop.run()
pipeline.set_state(Gst.State.NULL)
print("over", restarts)
