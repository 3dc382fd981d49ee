"""What is done to a server: which cameras play first, which come later and how, and whether the server is restarted."""

from dataclasses import dataclass

# A restart: the server comes back so many seconds after it was killed.
BACK_AFTER = 5.0
# The cameras that come around a keep-alive: so many, so close that one of them is being described at any time where a
# DESCRIBE takes 100 ms, and so much of them before it falls due.
AROUND_KEEP_ALIVE = 12
AROUND_KEEP_ALIVE_SPACING = 0.12
BEFORE_KEEP_ALIVE = 0.6


@dataclass(frozen=True)
class Scenario:
    name: str
    # Cameras that play first, and cameras that come once these play.
    first: int
    later: int = 0
    # Seconds between the starts of those that come; without later ones, of all.
    spacing: float = 0.0
    separate: bool = False
    restart: bool = False
    around_keep_alive: bool = False
    # The server has played all of them to an earlier process, which has left its state file.
    is_second_contact: bool = False

    @property
    def cameras(self):
        return self.first + self.later


def together(counts):
    for count in counts:
        yield Scenario(f"{count} together", count)
        if count > 1:
            yield Scenario(f"{count} together, separate pipelines", count, separate=True)


def late(firsts, counts):
    for first in firsts:
        for count in counts:
            yield Scenario(f"{first} plays, {count} more come", first, count)


def staggered(counts, delays_ms):
    for count in counts:
        for delay in delays_ms:
            yield Scenario(f"{count} come {delay} ms apart", count, spacing=delay / 1000)


def restarted(counts):
    for count in counts:
        yield Scenario(f"killed and back under {count}", count, restart=True)


def around_keep_alive():
    yield Scenario(
        "a keep-alive falls due during a DESCRIBE",
        1,
        AROUND_KEEP_ALIVE,
        spacing=AROUND_KEEP_ALIVE_SPACING,
        around_keep_alive=True,
    )


def second_contact(counts):
    for count in counts:
        yield Scenario(f"{count} together, second contact", count, is_second_contact=True)


def every():
    """All scenarios."""
    return [
        *together((1, 2, 4, 16)),
        *second_contact((4, 16)),
        *late((1, 4), (1, 2, 4, 16)),
        *staggered((8, 16), (0, 10, 20, 50, 100, 200)),
        *restarted((8, 16)),
        *around_keep_alive(),
    ]


def quick():
    """One of each kind, those that broke real servers."""
    return [
        *together((2, 4, 16)),
        *second_contact((16,)),
        *late((1,), (1, 4, 16)),
        *staggered((8,), (20, 100)),
        *restarted((8,)),
        *around_keep_alive(),
    ]
