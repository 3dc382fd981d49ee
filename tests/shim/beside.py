"""Loads the rtspsrc of GStreamer, then registers the plugin of the file that it is given."""

import ctypes
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

Gst.init(None)
assert Gst.ElementFactory.make("rtspsrc", None) is not None


class Description(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("init", ctypes.c_void_p),
    ]


shim = ctypes.CDLL(sys.argv[1])
shim.gst_plugin_rtsp_get_desc.restype = ctypes.POINTER(Description)
description = shim.gst_plugin_rtsp_get_desc().contents
assert description.name == b"rtsp"
gstreamer = ctypes.CDLL("libgstreamer-1.0.so.0")
text = ctypes.c_char_p
gstreamer.gst_plugin_register_static.argtypes = [
    ctypes.c_int, ctypes.c_int, text, text, ctypes.c_void_p, text, text, text, text, text,
]
registered = gstreamer.gst_plugin_register_static(
    description.major, description.minor, b"shim", b"shim", description.init,
    b"1", b"MPL", b"s", b"p", b"o",
)
print("registered:", registered)
