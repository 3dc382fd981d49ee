"""Tests of what needs no server: python3 -m unittest real_server.tests, in the folder scripts."""

import os
import subprocess
import sys
import tempfile
import unittest

from . import clip, report, run, scenario, wire_log

LOG_LINE = (
    "0:00:{time:012.9f}  703 0x558e10a11a70 TRACE                rtspmux src/mux/driver.rs:612:rtspmux::wire: "
    "c{connection}/s0: {text}\nCSeq: {cseq}\n"
)


def log(*entries):
    """A log with messages, given as (seconds, connection, "> METHOD URI RTSP/1.0" or "< RTSP/1.0 200 OK", CSeq)."""
    return "".join(
        LOG_LINE.format(time=time, connection=connection, text=text, cseq=cseq)
        for time, connection, text, cseq in entries
    )


def read(text):
    with tempfile.NamedTemporaryFile("w", suffix=".log", delete=False) as file:
        file.write(text)
    try:
        return wire_log.read(file.name)
    finally:
        os.unlink(file.name)


class Duplicates(unittest.TestCase):
    def test_one_answer_each_is_none(self):
        wire = read(
            log(
                (0, 1, "> DESCRIBE rtsp://nvr/1 RTSP/1.0", 1),
                (0.1, 1, "> DESCRIBE rtsp://nvr/2 RTSP/1.0", 2),
                (0.2, 1, "< RTSP/1.0 200 OK", 2),
                (0.3, 1, "< RTSP/1.0 200 OK", 1),
            )
        )
        self.assertEqual(wire.duplicates(), 0)
        self.assertEqual(wire.requests(), 2)

    def test_a_second_answer_to_a_request_is_one(self):
        wire = read(
            log(
                (0, 1, "> DESCRIBE rtsp://nvr/1 RTSP/1.0", 1),
                (0.1, 1, "< RTSP/1.0 200 OK", 1),
                (0.2, 1, "< RTSP/1.0 200 OK", 1),
            )
        )
        self.assertEqual(wire.duplicates(), 1)

    def test_answers_with_a_number_that_was_never_sent_are_counted(self):
        wire = read(
            log(
                (0, 1, "> DESCRIBE rtsp://nvr/1 RTSP/1.0", 1),
                (0.1, 1, "< RTSP/1.0 200 OK", 1),
                *[(0.2, 1, "< RTSP/1.0 200 OK", "\x01")] * 3
            )
        )
        self.assertEqual(wire.duplicates(), 3)

    def test_a_wrong_number_in_the_only_answer_is_none(self):
        wire = read(log((0, 1, "> DESCRIBE rtsp://nvr/1 RTSP/1.0", 5), (0.1, 1, "< RTSP/1.0 200 OK", 0)))
        self.assertEqual(wire.duplicates(), 0)

    def test_connections_count_for_themselves(self):
        wire = read(
            log(
                (0, 1, "> OPTIONS rtsp://nvr/1 RTSP/1.0", 1),
                (0.1, 2, "> OPTIONS rtsp://nvr/1 RTSP/1.0", 1),
                (0.2, 1, "< RTSP/1.0 200 OK", 1),
                (0.3, 2, "< RTSP/1.0 200 OK", 1),
            )
        )
        self.assertEqual(wire.duplicates(), 0)

    def test_requests_of_the_server_are_no_answers(self):
        wire = read(log((0, 1, "< OPTIONS * RTSP/1.0", 1), (0.1, 1, "> RTSP/1.0 200 OK", 1)))
        self.assertEqual((wire.duplicates(), wire.requests()), (0, 0))


class KeepAlive(unittest.TestCase):
    def test_is_the_first_request_with_a_session_after_play(self):
        session = "Session: A1\n"
        wire = read(
            log((1, 1, "> OPTIONS rtsp://nvr/1 RTSP/1.0", 1), (2, 1, "> PLAY rtsp://nvr/1 RTSP/1.0", 2))
            + session
            + log((26, 1, "> GET_PARAMETER rtsp://nvr/1 RTSP/1.0", 3))
            + session
        )
        self.assertAlmostEqual(wire.first_keep_alive(), 24.0)


class Slices(unittest.TestCase):
    # A delimiter, two parameter sets, a key picture and another picture.
    PICTURE = b"\0\0\0\x01\x09\x10\0\0\0\x01\x67\x42\0\0\x01\x68\xce\0\0\x01\x65\x88{}\0\0\x01\x41\x9a{}"

    def stream(self, mark):
        return self.PICTURE.replace(b"{}", mark)

    def test_only_coded_pictures_are_slices(self):
        self.assertEqual(len(clip.slice_digests(self.stream(b"a"), False)), 2)

    def test_zeros_behind_a_unit_are_none_of_it(self):
        self.assertEqual(
            clip.slice_digests(self.stream(b"a") + b"\x00\x00", False),
            clip.slice_digests(self.stream(b"a"), False),
        )

    def test_another_cameras_slices_are_told(self):
        catalogue = clip.Catalogue(is_complete=True)
        first, second = (clip.slice_digests(self.stream(mark), False) for mark in (b"a", b"b"))
        catalogue.add(0, first)
        catalogue.add(1, second)
        self.assertEqual(catalogue.judge(0, first), (2, 0, 0))
        self.assertEqual(catalogue.judge(0, second), (0, 2, 0))
        self.assertEqual(catalogue.judge(0, clip.slice_digests(self.stream(b"c"), False)), (0, 0, 2))

    def test_a_slice_that_two_cameras_send_proves_nothing(self):
        catalogue = clip.Catalogue(is_complete=True)
        digests = clip.slice_digests(self.stream(b"a"), False)
        catalogue.add(0, digests)
        catalogue.add(1, digests)
        self.assertEqual(catalogue.judge(0, digests), (0, 0, 0))


def figures(**more):
    return run.Figures(**{"cameras": 2, "playing": 2, "own": 100, **more})


def faults(what, runs, peer=()):
    return report.Row(what, "rtspmuxsrc", runs, list(peer)).faults()


class Restart(unittest.TestCase):
    # It gives up while the server is away, and reports before it is told that the server is back.
    PLAYER = """
import json, sys
sys.stdin.readline()
print("playing", flush=True)
print(json.dumps({"cameras": [], "since": 0.0, "errors": ["gave up"]}), flush=True)
"""

    class Server:
        """It comes back once the player has ended."""

        def __init__(self, ended):
            self.restart = lambda _pause: ended.wait()

    def test_a_player_that_gives_up_before_the_server_is_back_reports(self):
        with tempfile.NamedTemporaryFile("w", suffix=".py") as player:
            player.write(self.PLAYER)
            player.flush()
            runner = run.Runner.__new__(run.Runner)
            with subprocess.Popen(
                [sys.executable, player.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as process:
                runner.server = self.Server(process)
                line = runner._talk(process, {"urls": []})
        self.assertIn("gave up", line)


class Verdict(unittest.TestCase):
    TOGETHER = scenario.Scenario("16 together", 16)
    LATE = scenario.Scenario("1 plays, 1 more come", 1, 1)

    def test_each_fault_fails_alone(self):
        for fault in (
            {"playing": 1},
            {"other": 1},
            {"unknown": 1},
            {"own": 0},
            {"duplicates": 1},
            {"died": True},
            {"answers": False},
        ):
            self.assertEqual(
                len(
                    faults(
                        self.TOGETHER,
                        [figures(), figures(**fault)] if "own" not in fault else [figures(**fault)],
                    )
                ),
                1,
                fault,
            )
        self.assertEqual(faults(self.TOGETHER, [figures()]), [])

    def test_a_gap_is_compared_with_the_peers(self):
        self.assertEqual(faults(self.LATE, [figures(gap=0.29)]), [])
        self.assertEqual(len(faults(self.LATE, [figures(gap=0.31)])), 1)
        self.assertEqual(faults(self.LATE, [figures(gap=0.9)], [figures(gap=0.5)]), [])

    def test_sixteen_cold_cameras_take_at_most_twice_the_peers_time(self):
        peer = [figures(last_first_packet=0.1)] * 3
        self.assertEqual(faults(self.TOGETHER, [figures(last_first_packet=0.19)] * 3, peer), [])
        self.assertEqual(len(faults(self.TOGETHER, [figures(last_first_packet=0.21)] * 3, peer)), 1)


class Gap(unittest.TestCase):
    CAMERAS = [{"packets": [1.0, 1.1, 2.0]}, {"packets": [1.5, 1.6, 2.1]}]

    def gap(self, what, since=0.0):
        return run.gap_of_those_that_play(what, self.CAMERAS, since)

    def test_is_that_of_the_first_ones_once_the_others_come(self):
        self.assertAlmostEqual(self.gap(scenario.Scenario("late", 1, 1), since=1.05), 0.9)

    def test_is_that_of_each_one_from_its_first_packet_where_they_come_one_by_one(self):
        self.assertAlmostEqual(self.gap(scenario.Scenario("staggered", 2, spacing=0.5)), 0.9)

    def test_is_none_where_all_start_at_once(self):
        self.assertIsNone(self.gap(scenario.Scenario("together", 2)))


if __name__ == "__main__":
    unittest.main()
