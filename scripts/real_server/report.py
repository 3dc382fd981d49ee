"""Judges the runs of a scenario, and writes the table."""

from dataclasses import dataclass, field
from statistics import median

# Those that play may miss packets for so long when others come, or twice as long as with the peer.
GAP = 0.3
PEER_FACTOR = 2.0
# The same where the server is known from an earlier process.
KNOWN_PEER_FACTOR = 1.0
# The last first packet is compared with the peer's where so many cameras start together. With fewer, the times are too
# short to be compared.
COMPARED_FROM = 16

COLUMNS = (
    "scenario",
    "element",
    "runs",
    "all play",
    "wrong",
    "damaged",
    "gap s",
    "last first s",
    "ratio",
    "twice",
    "connections",
    "server",
    "verdict",
)


@dataclass
class Row:
    """The runs of one scenario with one element; `peer` are those of the other element in the same rounds."""

    scenario: object
    element: str
    runs: list
    peer: list = field(default_factory=list)
    is_judged: bool = True
    is_complete: bool = True

    def faults(self):
        """What is wrong, in words; empty if all holds."""
        return [text for text, is_bad in self._checks() if is_bad]

    def _checks(self):
        runs = self.runs
        silent = sum(run.playing < run.cameras for run in runs)
        other = sum(run.other for run in runs)
        unknown = sum(run.unknown for run in runs) if self.is_complete else 0
        twice = sum(run.duplicates or 0 for run in runs)
        long_gaps = sum(self._gap_is_too_long(number) for number in range(len(runs)))
        ratio = self.ratio() or 0.0
        yield f"not all cameras play in {silent} of {len(runs)} runs", silent
        yield f"{other} slices of another camera", other
        yield f"{unknown} slices that are in no clip", unknown
        yield "no slice could be compared", not any(run.own for run in runs)
        yield f"too long a gap of a camera that plays while others come in {long_gaps} of {len(runs)} runs", long_gaps
        yield f"the last first packet takes {ratio:.1f} times the peer's", self._is_late(ratio)
        yield f"{twice} answers too many", twice
        yield "the server died", any(run.died for run in runs)
        yield "the server does not answer afterwards", any(not run.answers for run in runs)

    def _gap_is_too_long(self, number):
        gap = self.runs[number].gap
        peer = self.peer[number].gap if number < len(self.peer) else None
        return gap is not None and gap > max(GAP, PEER_FACTOR * (peer or 0.0))

    def _is_late(self, ratio):
        what = self.scenario
        is_cold_start = not (what.later or what.restart or what.spacing)
        limit = KNOWN_PEER_FACTOR if what.is_second_contact else PEER_FACTOR
        return is_cold_start and what.cameras >= COMPARED_FROM and ratio > limit

    def ratio(self):
        """The median of the rounds' ratios to the peer."""
        pairs = [(run.last_first_packet, peer.last_first_packet) for run, peer in zip(self.runs, self.peer)]
        ratios = [ours / theirs for ours, theirs in pairs if ours is not None and theirs]
        return median(ratios) if ratios else None

    def cells(self):
        runs = self.runs
        ratio = self.ratio()
        verdict = ("FAIL" if self.faults() else "PASS") if self.is_judged else "-"
        return (
            self.scenario.name,
            self.element,
            str(len(runs)),
            f"{sum(run.playing == run.cameras for run in runs)}/{len(runs)}",
            str(sum(run.other for run in runs)),
            str(sum(run.unknown for run in runs)) if self.is_complete else "-",
            worst(run.gap for run in runs),
            spread(run.last_first_packet for run in runs),
            "-" if ratio is None else f"{ratio:.2f}",
            total(run.duplicates for run in runs),
            span(run.connections for run in runs),
            "ok" if all(run.answers and not run.died for run in runs) else "hangs or died",
            verdict,
        )


def known(values):
    return [value for value in values if value is not None]


def worst(values):
    values = known(values)
    return f"{max(values):.2f}" if values else "-"


def spread(values):
    """Median and worst."""
    values = known(values)
    return f"{median(values):.2f} ({max(values):.2f})" if values else "-"


def total(values):
    values = known(values)
    return str(sum(values)) if values else "-"


def span(values):
    values = sorted(set(known(values)))
    if not values:
        return "-"
    return str(values[0]) if len(values) == 1 else f"{values[0]}-{values[-1]}"


def table(rows):
    lines = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join(texts)
