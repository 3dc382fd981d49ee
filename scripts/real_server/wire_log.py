"""Reads what rtspmuxsrc logs of the wire (GST_DEBUG=rtspmux:7): requests, answers, connections, keep-alives."""

import re
from dataclasses import dataclass, field

MESSAGE = re.compile(r"^(\d+):(\d\d):(\d\d\.\d+) .* (c\d+)/\S+ ([<>]) (\S+) (\S+)")
CONNECTED = re.compile(r" (c\d+)/\S+ connected to ")
CSEQ = re.compile(r"^cseq\s*:\s*(\S*)", re.IGNORECASE)


@dataclass
class Message:
    time: float
    connection: str
    is_sent: bool
    is_answer: bool
    method: str
    uri: str
    cseq: str = ""
    has_session: bool = False


@dataclass
class Wire:
    """What the log shows."""

    messages: list = field(default_factory=list)
    connections: set = field(default_factory=set)

    def duplicates(self):
        """Answers that no request of ours waits for: the server executed something twice, or what was never sent."""
        waiting, surplus = set(), 0
        for message in self.messages:
            key = (message.connection, message.cseq)
            if message.is_sent and not message.is_answer:
                waiting.add(key)
            elif message.is_answer and not message.is_sent:
                # One request out and another CSeq in its answer: an odd camera, not a second answer.
                if key not in waiting:
                    key = self._only_one(waiting, message.connection)
                surplus += key is None
                waiting.discard(key)
        return surplus

    @staticmethod
    def _only_one(waiting, connection):
        keys = [key for key in waiting if key[0] == connection]
        return keys[0] if len(keys) == 1 else None

    def requests(self):
        return sum(message.is_sent and not message.is_answer for message in self.messages)

    def first_keep_alive(self):
        """Seconds from the first PLAY to the first request after it that keeps a session alive, or None."""
        played = None
        for message in self.messages:
            if not message.is_sent or message.is_answer:
                continue
            if message.method == "PLAY" and played is None:
                played = message.time
            elif (
                played is not None and message.has_session and message.method in ("OPTIONS", "GET_PARAMETER")
            ):
                return message.time - played
        return None


def _message(match):
    hours, minutes, seconds, connection, direction, first, second = match.groups()
    is_answer = first.startswith("RTSP/")
    return Message(
        time=int(hours) * 3600 + int(minutes) * 60 + float(seconds),
        connection=connection,
        is_sent=direction == ">",
        is_answer=is_answer,
        method="" if is_answer else first,
        uri="" if is_answer else second,
    )


def read(path):
    """Reads a log file. Lines that belong to no message are passed over."""
    wire, current = Wire(), None
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            match = MESSAGE.match(line)
            if match:
                current = _message(match)
                wire.messages.append(current)
                continue
            if " rtspmux " in line:
                current = None
                connected = CONNECTED.search(line)
                if connected:
                    wire.connections.add(connected.group(1))
            elif current:
                _header(current, line)
    return wire


def _header(message, line):
    cseq = CSEQ.match(line)
    if cseq and not message.cseq:
        message.cseq = cseq.group(1)
    elif line.lower().startswith("session:"):
        message.has_session = True
