"""Plays cameras in a process of its own, as a job on standard input says; writes what it saw as one line of JSON.

The process is new for each run, so nothing learned about the server in one run helps the next. Lines on standard
output tell the parent how far the run is; for a restart of the server the parent answers with the line "restarted".
Times are those of the monotonic clock, which all processes of a machine share.
"""

import json
import os
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import clip  # noqa: E402

SINK = "fakesink name=end sync=false async=false"
# Each buffer that comes to the end is a NAL unit.
CHAINS = {
    "H264": f"rtph264depay ! video/x-h264,stream-format=byte-stream,alignment=nal ! {SINK}",
    "H265": f"rtph265depay ! video/x-h265,stream-format=byte-stream,alignment=nal ! {SINK}",
}
TICK_MS = 20


def _make_classes():
    """Makes the bindings' classes of all types that streaming threads use.

    The bindings make the class of a type when its first object comes. Two threads that add their first pads at the
    same time broke each other there (PyGObject 3.42: "argument 1: Must be Gst.Pad, not GhostPad", "Expected Gst.Caps,
    but got gi.repository.Gst.Caps"). The same holds for the values of an enumeration ("type object 'PadDirection' has
    no attribute 'SRC'").
    """
    Gst.init(None)
    Gst.Caps.from_string("application/x-rtp,encoding-name=H264").get_structure(0).get_string("encoding-name")
    buffer = Gst.Buffer.new_allocate(None, 1, None)
    buffer.extract_dup(0, buffer.get_size())
    chain = Gst.parse_bin_from_description(SINK, True)
    pad = Gst.GhostPad.new_no_target("source", Gst.PadDirection.SRC)
    if pad.direction == Gst.PadDirection.SRC and pad.get_current_caps() is None:
        pad.query_caps(None)
    pad.link(chain.get_static_pad("sink"))
    end = chain.get_by_name("end").get_static_pad("sink")
    end.add_probe(Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST, lambda _pad, _info: Gst.PadProbeReturn.OK)


class Camera:
    """One source element, what it is linked to, and what came out of it."""

    def __init__(self, number, job):
        self.number = number
        self.pipeline = None
        self.started = None
        self.packets = []
        self.digests = []
        self.has_failed = False
        self.source = Gst.ElementFactory.make(job["element"], f"camera{number}")
        if self.source is None:
            sys.exit(f"there is no element {job['element']}: is GST_PLUGIN_PATH set?")
        for name, value in job["properties"].items():
            Gst.util_set_object_arg(self.source, name, value)
        self.source.set_property("location", job["urls"][number])
        self.source.connect("pad-added", self._on_pad)

    def add_to(self, pipeline):
        self.pipeline = pipeline
        pipeline.add(self.source)

    def start(self):
        """Alone, in a pipeline that may play already."""
        self.started = time.monotonic()
        self.pipeline.set_state(Gst.State.PLAYING)
        self.source.sync_state_with_parent()

    def has_played_since(self, moment, pictures):
        return sum(1 for at in self.packets[-pictures:] if at > moment) >= pictures

    def _on_pad(self, _source, pad):
        if pad.direction != Gst.PadDirection.SRC:
            return
        caps = pad.get_current_caps() or pad.query_caps(None)
        structure = caps.get_structure(0)
        encoding = (structure.get_string("encoding-name") or "").upper()
        chain = Gst.parse_bin_from_description(CHAINS.get(encoding, SINK), True)
        self.pipeline.add(chain)
        chain.sync_state_with_parent()
        pad.link(chain.get_static_pad("sink"))
        if encoding in CHAINS:
            pad.add_probe(Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST, self._on_packet)
            end = chain.get_by_name("end").get_static_pad("sink")
            end.add_probe(Gst.PadProbeType.BUFFER, self._on_nal_unit, encoding == "H265")

    def _on_packet(self, _pad, _info):
        self.packets.append(time.monotonic())
        return Gst.PadProbeReturn.OK

    def _on_nal_unit(self, _pad, info, is_h265):
        buffer = info.get_buffer()
        self.digests += clip.slice_digests(buffer.extract_dup(0, buffer.get_size()), is_h265)
        return Gst.PadProbeReturn.OK

    def report(self):
        return {
            "started": self.started,
            "packets": self.packets,
            "digests": self.digests,
            "stats": self._stats(),
        }

    def _stats(self):
        """Connections to the server and the sharing verdict; nothing for an element without these."""
        if self.source.find_property("stats") is None:
            return {}
        stats = self.source.get_property("stats")
        found = {}
        for name in ("connections-to-server", "sharing", "cannot-share", "last-error"):
            if stats is not None and stats.has_field(name):
                found[name] = stats.get_value(name)
        return found


class Run:
    """Starts the cameras of a job: those that play first, then those that come; and ends when all play."""

    def __init__(self, job):
        self.job = job
        self.loop = GLib.MainLoop()
        self.errors = []
        self.pipelines = []
        self.common = None
        self.cameras = [Camera(number, job) for number in range(len(job["urls"]))]
        self.first = self.cameras[: job["first"]]
        self.later = self.cameras[job["first"] :]
        # What came before this moment does not count as playing.
        self.since = time.monotonic()
        self.deadline = None
        self.is_told = False
        self.is_restarted = not job["restart"]

    def play(self):
        self.common = None if self.job["separate"] else self._pipeline()
        self._start(self.first, 0 if self.later else self.job["spacing"])
        GLib.timeout_add(TICK_MS, self._tick)
        self.loop.run()
        reports = [camera.report() for camera in self.cameras]
        stopping = time.monotonic()
        for pipeline in self.pipelines:
            pipeline.set_state(Gst.State.NULL)
        return {
            "cameras": reports,
            "since": self.since,
            "errors": self.errors,
            "stopping": time.monotonic() - stopping,
        }

    def _pipeline(self):
        pipeline = Gst.Pipeline.new(f"pipeline{len(self.pipelines)}")
        bus = pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self._on_error)
        self.pipelines.append(pipeline)
        return pipeline

    def _on_error(self, _bus, message):
        error, _debug = message.parse_error()
        self.errors.append(f"{message.src.get_name()}: {error.message}")
        for camera in self.cameras:
            # rtspsrc lets elements inside it post.
            camera.has_failed |= message.src == camera.source or message.src.has_as_ancestor(camera.source)

    def _start(self, cameras, spacing, wait=0.0):
        """Those that start together in one pipeline change state with it, as in an application."""
        for number, camera in enumerate(cameras):
            if spacing or wait:
                GLib.timeout_add(int((wait + number * spacing) * 1000), self._start_one, camera)
            else:
                camera.add_to(self.common or self._pipeline())
        if not spacing and not wait:
            self._start_all(cameras)

    def _start_one(self, camera):
        camera.add_to(self.common or self._pipeline())
        camera.start()
        return False

    @staticmethod
    def _start_all(cameras):
        began = time.monotonic()
        for camera in cameras:
            camera.started = began
            camera.pipeline.set_state(Gst.State.PLAYING)
        for camera in cameras:
            camera.source.sync_state_with_parent()

    def _tick(self):
        now = time.monotonic()
        started = [camera for camera in self.cameras if camera.started]
        if self.later and not self.later[0].started:
            self._start_later(now)
        elif len(started) == len(self.cameras):
            self.deadline = self.deadline or max(camera.started for camera in started) + self.job["patience"]
            self._end_if_done(now)
        return True

    def _start_later(self, now):
        """Once the first ones play, and the time to wait after that is over."""
        if self.is_told:
            return
        if not all(camera.has_played_since(self.since, self.job["pictures"]) for camera in self.first):
            if now > max(camera.started or now for camera in self.first) + self.job["patience"]:
                self.loop.quit()
            return
        self.is_told = True
        played = max(camera.packets[0] for camera in self.first)
        wait = max(0.0, played + self.job["wait"] - now)
        self._start(self.later, self.job["spacing"], wait)
        self.since = now + wait

    def _end_if_done(self, now):
        left = [
            camera for camera in self.cameras if not camera.has_played_since(self.since, self.job["pictures"])
        ]
        play = not left
        if self.job["restart"] and not self.is_told and play:
            self.is_told = True
            self.since = now
            self.deadline = now + self.job["patience"]
            self._ask_for_restart()
        elif (play and self.is_restarted and self._have_settled(now)) or now > self.deadline:
            self.loop.quit()
        elif left and all(camera.has_failed for camera in left):
            self.loop.quit()

    def _have_settled(self, now):
        """The last camera has played for a while: what it may have done to the others shows by then."""
        begun = [next(at for at in camera.packets if at > self.since) for camera in self.cameras]
        return now > max(begun) + self.job["settle"]

    def _ask_for_restart(self):
        def ask():
            print("playing", flush=True)
            sys.stdin.readline()
            GLib.idle_add(self._on_restarted)

        threading.Thread(target=ask, daemon=True).start()

    def _on_restarted(self):
        self.is_restarted = True
        self.since = time.monotonic()
        self.deadline = self.since + self.job["patience"]
        return False


def main():
    job = json.loads(sys.stdin.readline())
    _make_classes()
    result = Run(job).play()
    print(json.dumps(result), flush=True)
    # Threads of other plugins must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
