"""The server under test: asked over fresh connections, and started and killed where a command for it is given."""

import shlex
import socket
import subprocess
import time
from urllib.parse import urlsplit

DEFAULT_PORT = 554
# A server that takes longer for OPTIONS or DESCRIBE on a fresh connection is taken to hang.
ANSWER_TIMEOUT = 5.0
START_TIMEOUT = 20.0


class Server:
    def __init__(self, url, command):
        parts = urlsplit(url)
        self.url = url
        self.address = (parts.hostname, parts.port or DEFAULT_PORT)
        self._command = shlex.split(command) if command else None
        self._process = None

    @property
    def can_restart(self):
        return self._command is not None

    def start(self):
        """Starts the server and waits until it describes its first camera. Does nothing without a command."""
        if self._command:
            self._launch()
            if not self._wait_for(self._describes):
                raise RuntimeError(
                    f"the server does not answer within {START_TIMEOUT:.0f} s: {self._command}"
                )

    def restart(self, pause):
        """Kills the server and starts it again after a pause, among clients that come back; false if it hangs."""
        self.kill()
        time.sleep(pause)
        self._launch()
        return self._wait_for(self._has_options)

    def _launch(self):
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _wait_for(self, condition):
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def kill(self):
        """Ends the process that was started here, by its id, without giving it time for farewells."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def has_died(self):
        return self._process is not None and self._process.poll() is not None

    def answers(self):
        """Whether OPTIONS and DESCRIBE are answered on a fresh connection. A 401 is an answer, too."""
        return self._has_options() and self._status("DESCRIBE") is not None

    def _has_options(self):
        return self._status("OPTIONS") is not None

    def _describes(self):
        return self._status("DESCRIBE") in (200, 401)

    def _status(self, method):
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        uri = parts._replace(netloc=host).geturl()
        request = f"{method} {uri} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\nUser-Agent: against_server\r\n\r\n"
        try:
            with socket.create_connection(self.address, ANSWER_TIMEOUT) as connection:
                connection.settimeout(ANSWER_TIMEOUT)
                connection.sendall(request.encode())
                words = connection.makefile("rb").readline().split()
                return int(words[1]) if len(words) > 1 else None
        except (OSError, ValueError):
            return None
