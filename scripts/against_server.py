#!/usr/bin/env python3
"""Plays many cameras of a server of yours with rtspmuxsrc, and with rtspsrc for comparison, and says what holds.

    scripts/against_server.py 'rtsp://127.0.0.1:8554/cam{n}' --clip 'clips/cam{n}.264' \\
        --server-command './server --port 8554' --quick

`{n}` counts from 0. docs/real-servers.md says what is measured and what passes.
"""

import argparse
import os
import sys
import tempfile
import time

# No compiled files beside the sources.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from real_server import clip, report, run, scenario, server  # noqa: E402

PLUGIN_PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "target", "release")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="+", help="URLs of the cameras, or one with {n}")
    parser.add_argument(
        "--cameras",
        type=int,
        help="how many cameras a URL with {n} stands for (default: as many as the scenarios need)",
    )
    parser.add_argument(
        "--clip",
        action="append",
        default=[],
        metavar="[URL=]FILE",
        help="byte stream of H.264 or H.265 that a camera plays in a loop; a file with {n}, or one for each URL",
    )
    parser.add_argument(
        "--reference-seconds",
        type=float,
        default=25.0,
        help="without clips: how long each camera is played alone, with the last element, to learn its slices",
    )
    parser.add_argument(
        "--server-command", help="starts the server, afresh for each run; needed for restarts"
    )
    parser.add_argument(
        "--element",
        action="append",
        help="elements that take turns in each round; the first is judged (default: rtspmuxsrc and rtspsrc)",
    )
    parser.add_argument(
        "--property",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the element (default: latency=0, protocols=tcp)",
    )
    parser.add_argument("--runs", type=int, default=1, help="rounds of each scenario")
    parser.add_argument("--quick", action="store_true", help="one scenario of each kind: up to 10 minutes")
    parser.add_argument("--only", action="append", help="scenarios whose name contains this text")
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument(
        "--logs", help="folder for the logs of all runs (default: those of failed runs, in a temporary one)"
    )
    return parser.parse_args()


def chosen(options):
    scenarios = scenario.quick() if options.quick else scenario.every()
    if options.only:
        scenarios = [what for what in scenario.every() if any(text in what.name for text in options.only)]
    if not options.server_command:
        scenarios = [what for what in scenarios if not what.restart]
    if not scenarios:
        sys.exit("no scenario is left: --list names them; restarts need --server-command")
    return scenarios


def camera_urls(options, wanted):
    if len(options.url) > 1 or "{n}" not in options.url[0]:
        return options.url
    return [options.url[0].replace("{n}", str(number)) for number in range(options.cameras or wanted)]


def clip_files(options, urls):
    """The file of each camera; None for one without a clip."""
    named = dict(text.rsplit("=", 1) for text in options.clip if "://" in text)
    plain = [text for text in options.clip if "://" not in text]
    if len(plain) == 1:
        plain = [plain[0].replace("{n}", str(camera)) for camera in range(len(urls))]
    plain += [None] * (len(urls) - len(plain))
    return [named.get(url, file) for url, file in zip(urls, plain)]


def catalogue(options, urls):
    """The slices of the clips; empty without clips."""
    files = clip_files(options, urls)
    slices = clip.Catalogue(is_complete=all(files))
    for camera, file in enumerate(files):
        if file:
            slices.add_file(camera, file)
    return slices


def properties(options):
    given = {"latency": "0", "protocols": "tcp"}
    given.update(text.split("=", 1) for text in options.property)
    return given


def rounds(runner, what, elements, count):
    """The elements take turns, so that what else the machine does hits all of them."""
    figures = {element: [] for element in elements}
    for number in range(count):
        for element in elements:
            # Only those that reconnect can be judged after a restart.
            if what.restart and element == "rtspsrc":
                continue
            name = f"{what.name.replace(' ', '-').replace(',', '')}-{number}-{element}"
            figures[element].append(runner.run(what, element, name))
    return figures


def rows(what, elements, figures, is_complete):
    judged, *peers = elements
    peer = figures[peers[0]] if peers else []
    made = [report.Row(what, judged, figures[judged], peer, is_complete=is_complete)]
    return made + [
        report.Row(what, element, figures[element], is_judged=False, is_complete=is_complete)
        for element in peers
        if figures[element]
    ]


def tell(made):
    """Progress: a line for each element, and what failed."""
    for row in made:
        print("   ".join(row.cells()), flush=True)
        for fault in row.faults() if row.is_judged else ():
            print(f"    {fault}", flush=True)
        for figures in row.runs if row.is_judged and row.faults() else ():
            for error in figures.errors[:1]:
                print(f"    {error}", flush=True)
            if figures.log:
                print(f"    log: {figures.log}", flush=True)


def main():
    options = arguments()
    if options.list:
        print("\n".join(what.name for what in scenario.every()))
        return 0
    os.environ.setdefault("GST_PLUGIN_PATH", PLUGIN_PATH)
    scenarios = chosen(options)
    urls = camera_urls(options, max(what.cameras for what in scenarios))
    elements = options.element or ["rtspmuxsrc", "rtspsrc"]
    logs = options.logs or tempfile.mkdtemp(prefix="against-server-")
    os.makedirs(logs, exist_ok=True)
    slices = catalogue(options, urls)
    runner = run.Runner(
        server.Server(urls[0], options.server_command), urls, slices, properties(options), logs
    )
    if not options.clip:
        runner.learn_slices(elements[-1], options.reference_seconds)
    return judge(runner, scenarios, elements, options.runs)


def judge(runner, scenarios, elements, count):
    began, table = time.monotonic(), []
    for what in scenarios:
        if what.cameras > len(runner.urls):
            print(f"left out, it needs {what.cameras} cameras: {what.name}")
            continue
        made = rows(what, elements, rounds(runner, what, elements, count), runner.catalogue.is_complete)
        tell(made)
        table += made
    failed = sum(bool(row.faults()) for row in table if row.is_judged)
    print(
        f"\n{report.table(table)}\n\n{sum(row.is_judged for row in table)} scenarios, {failed} failed, "
        f"{time.monotonic() - began:.0f} s"
    )
    print("FAIL" if failed or not table else "PASS")
    return 1 if failed or not table else 0


if __name__ == "__main__":
    sys.exit(main())
