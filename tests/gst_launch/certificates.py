"""Plays a camera over TLS whose certificate the application decides about, and writes down what it is asked.

Arguments: the element, the URL, what to do - accept, refuse or database - and the PEM file of the authority. Ends when the first pad comes, or an error."""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gio, GLib, Gst  # noqa: E402

Gst.init(None)
element, url, what, file = sys.argv[1:]
loop = GLib.MainLoop()
pipeline = Gst.Pipeline()
source = Gst.ElementFactory.make(element)
source.set_property("location", url)
source.set_property("protocols", 4)
if element == "rtspmuxsrc":
    source.set_property("connect-failure", "error")
pipeline.add(source)


def accept_certificate(_source, connection, certificate, errors):
    is_client = isinstance(connection, Gio.TlsClientConnection)
    print("accept-certificate", is_client, errors == Gio.TlsCertificateFlags.UNKNOWN_CA)
    shown = connection.get_peer_certificate()
    print("the same", shown is None or shown.is_same(certificate))
    return what != "refuse"


def pad_added(_source, _pad):
    print("pad")
    GLib.idle_add(loop.quit)


def on_message(_bus, message):
    if message.type == Gst.MessageType.ERROR:
        error = message.parse_error().gerror
        print("error", error.matches(Gst.ResourceError.quark(), Gst.ResourceError.OPEN_READ_WRITE))
        loop.quit()


if what in ("accept", "refuse"):
    source.connect("accept-certificate", accept_certificate)
else:
    source.set_property("tls-database", Gio.TlsFileDatabase.new(file))
source.connect("pad-added", pad_added)
bus = pipeline.get_bus()
bus.add_signal_watch()
bus.connect("message", on_message)
pipeline.set_state(Gst.State.PLAYING)
GLib.timeout_add_seconds(30, loop.quit)
loop.run()
pipeline.set_state(Gst.State.NULL)
