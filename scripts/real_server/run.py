"""One run of one scenario with one element, and the figures taken of it."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field

from . import scenario, wire_log

PLAYER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "player.py")
# Packets after which a camera counts as playing, and how long the run goes on after the last one plays.
PICTURES = 8
SETTLE = 2.0
PATIENCE = 20.0
# A run that is not over so long after its last planned wait hangs.
HANGS_AFTER = 150.0
# Where the log shows no keep-alive: many servers announce a timeout of 60 s.
USUAL_KEEP_ALIVE = 24.0
# rtspmuxsrc logs the wire at this level.
WIRE_DEBUG = "rtspmux:7"


@dataclass
class Figures:
    """What is judged. Times in seconds; None where it does not apply."""

    cameras: int
    playing: int
    own: int = 0
    other: int = 0
    unknown: int = 0
    # From the start of the first that comes (of all, if none plays before) to the first packet of the last one.
    last_first_packet: float = None
    # The longest time without a packet of a camera that plays while others come.
    gap: float = None
    duplicates: int = None
    connections: int = None
    requests: int = None
    answers: bool = True
    died: bool = False
    errors: list = field(default_factory=list)
    stats: list = field(default_factory=list)
    log: str = None


def python_with_gi():
    """The interpreter that can load GStreamer: this one, or the system's."""
    for python in (sys.executable, "/usr/bin/python3"):
        probe = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst"
        if (
            python
            and subprocess.run([python, "-c", probe], stderr=subprocess.DEVNULL, check=False).returncode == 0
        ):
            return python
    sys.exit("no Python with GStreamer was found: install python3-gi and gir1.2-gstreamer-1.0")


class Runner:
    def __init__(self, server, urls, catalogue, properties, logs):
        self.server = server
        self.urls = urls
        self.catalogue = catalogue
        self.properties = properties
        self.logs = logs
        self.python = python_with_gi()
        self._keep_alive = None

    def run(self, what, element, name):
        """Plays the scenario, on a server started afresh where there is a command for it."""
        if what.around_keep_alive and self._keep_alive is None:
            self._learn_keep_alive(element)
        try:
            self.server.start()
            return self._measure(what, element, name)
        finally:
            self.server.kill()

    def learn_slices(self, element, seconds):
        """Plays each camera alone and adds its slices to the catalogue."""
        try:
            self.server.start()
            for camera, url in enumerate(self.urls):
                result = self._play(self._job(element, [url], settle=seconds), None)
                for played in result["cameras"]:
                    self.catalogue.add(camera, played["digests"])
        finally:
            self.server.kill()

    def _job(self, element, urls, **more):
        job = {
            "element": element,
            "urls": urls,
            "properties": self.properties,
            "first": len(urls),
            "spacing": 0.0,
            "wait": 0.0,
            "separate": False,
            "restart": False,
            "pictures": PICTURES,
            "settle": SETTLE,
            "patience": PATIENCE,
        }
        return {**job, **more}

    def _measure(self, what, element, name):
        job = self._job(
            element,
            self.urls[: what.cameras],
            first=what.first,
            spacing=what.spacing,
            wait=self._wait(what),
            separate=what.separate,
            restart=what.restart,
        )
        log = os.path.join(self.logs, f"{name}.log")
        state = None
        if what.is_second_contact:
            state = os.path.join(self.logs, f"{name}.state")
            self._play(job, None, state)
        result = self._play(job, log, state)
        figures = self._figures(what, result)
        figures.died = self.server.has_died()
        figures.answers = self.server.answers()
        if os.path.exists(log):
            wire = wire_log.read(log)
            figures.log = log
            if wire.messages:
                figures.duplicates, figures.connections = wire.duplicates(), len(wire.connections)
                figures.requests = wire.requests()
        return figures

    def _wait(self, what):
        """Seconds from the first packet of those that play until the others come."""
        if not what.around_keep_alive:
            return 1.0
        return max(0.0, self._keep_alive - scenario.BEFORE_KEEP_ALIVE * what.later * what.spacing)

    def _learn_keep_alive(self, element):
        """Finds out how long after PLAY a session is kept alive: one camera, played for long enough."""
        log = os.path.join(self.logs, f"keep-alive-{element}.log")
        try:
            self.server.start()
            self._play(self._job(element, self.urls[:1], settle=32.0, patience=60.0), log)
        finally:
            self.server.kill()
        due = wire_log.read(log).first_keep_alive() if os.path.exists(log) else None
        self._keep_alive = due or USUAL_KEEP_ALIVE

    def _play(self, job, log, state=None):
        """What the player reports; a report without cameras if it crashes or hangs. `state`: the state file."""
        environment = dict(os.environ, GST_DEBUG_NO_COLOR="1", PYTHONDONTWRITEBYTECODE="1")
        environment.pop("RTSPMUX_STATE", None)
        if state:
            environment["RTSPMUX_STATE"] = state
        if log:
            environment.update(GST_DEBUG=WIRE_DEBUG, GST_DEBUG_FILE=log)
        with subprocess.Popen(
            [self.python, PLAYER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as player:
            watchdog = threading.Timer(job["wait"] + job["settle"] + HANGS_AFTER, player.kill)
            watchdog.start()
            line = self._talk(player, job)
            player.wait()
            watchdog.cancel()
        if player.returncode == 0 and line:
            return json.loads(line)
        crash = f"the process that plays ended with status {player.returncode}"
        return {"cameras": [], "since": 0.0, "errors": [crash]}

    def _talk(self, player, job):
        """Gives the player its job, restarts the server when it asks for that, and returns its last line."""
        _tell(player, json.dumps(job))
        line = player.stdout.readline()
        if line.strip() == "playing":
            # A server that hangs now shows in the figures: the cameras do not play, and it does not answer afterwards.
            self.server.restart(scenario.BACK_AFTER)
            _tell(player, "restarted")
            line = player.stdout.readline()
        return line

    def _figures(self, what, result):
        cameras, since = result["cameras"], result["since"]
        playing = [camera for camera in cameras if sum(at > since for at in camera["packets"]) >= PICTURES]
        figures = Figures(
            cameras=what.cameras,
            playing=len(playing),
            errors=result["errors"],
            stats=[camera["stats"] for camera in cameras],
        )
        for number, camera in enumerate(cameras):
            own, other, unknown = self.catalogue.judge(number, camera["digests"])
            figures.own, figures.other, figures.unknown = (
                figures.own + own,
                figures.other + other,
                figures.unknown + unknown,
            )
        if len(playing) == what.cameras:
            figures.last_first_packet = last_first_packet(what, cameras, since)
        if cameras:
            figures.gap = gap_of_those_that_play(what, cameras, since)
        return figures


def _tell(player, line):
    """Writes a line to the player, which may have ended. Unbuffered: what is left in a buffer would be written, and
    would fail, when the pipe is closed."""
    try:
        os.write(player.stdin.fileno(), f"{line}\n".encode())
    except BrokenPipeError:
        pass


def last_first_packet(what, cameras, since):
    """Counted from the server's return after a restart, else from each camera's own start: the slowest one's."""
    if what.restart:
        return max(next(at for at in camera["packets"] if at > since) for camera in cameras) - since
    return max(
        camera["packets"][0] - camera["started"] for camera in cameras[what.first if what.later else 0 :]
    )


def gap_of_those_that_play(what, cameras, since):
    """The longest gap of a camera while others come; None where all start at once, or come back after a restart."""
    if what.later:
        return max(longest_gap(camera["packets"], since) for camera in cameras[: what.first])
    if what.spacing:
        played = [camera["packets"] for camera in cameras if camera["packets"]]
        return max((longest_gap(packets, packets[0]) for packets in played), default=None)
    return None


def longest_gap(packets, since):
    """The longest time between two packets, from the last one before `since` on."""
    before = [at for at in packets if at <= since][-1:]
    times = before + [at for at in packets if at > since]
    return max((later - earlier for earlier, later in zip(times, times[1:])), default=float("inf"))
