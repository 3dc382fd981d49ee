"""Slices of H.264 and H.265, and which camera each of them belongs to."""

import hashlib

# NAL unit types that hold coded pictures.
H264_SLICES = range(1, 6)
H265_SLICES = range(0, 32)


def nal_units(stream):
    """Cuts a byte stream (Annex B) at its start codes."""
    for part in stream.split(b"\x00\x00\x01"):
        unit = part.rstrip(b"\x00")
        if unit:
            yield unit


def is_slice(unit, is_h265):
    if is_h265:
        return (unit[0] >> 1) & 0x3F in H265_SLICES
    return unit[0] & 0x1F in H264_SLICES


def digest(unit):
    return hashlib.blake2b(unit, digest_size=8).hexdigest()


def slice_digests(stream, is_h265):
    """The digests of all slices in a byte stream, in order."""
    return [digest(unit) for unit in nal_units(stream) if is_slice(unit, is_h265)]


def looks_like_h265(path, stream):
    """By the name of the file, else by its first NAL unit: a video parameter set or a delimiter of H.265."""
    name = path.lower()
    if name.endswith((".h265", ".265", ".hevc")):
        return True
    if name.endswith((".h264", ".264", ".avc")):
        return False
    first = next(nal_units(stream), b"\x00")
    return (first[0] >> 1) & 0x3F in (32, 35) and first[0] & 0x81 == 0


class Catalogue:
    """Knows the slices of each camera. A slice that several cameras send alike proves nothing and is left out."""

    def __init__(self, is_complete):
        self.is_complete = is_complete
        self._cameras = {}

    def add(self, camera, digests):
        for value in digests:
            self._cameras.setdefault(value, set()).add(camera)

    def add_file(self, camera, path):
        with open(path, "rb") as file:
            stream = file.read()
        digests = slice_digests(stream, looks_like_h265(path, stream))
        if not digests:
            raise ValueError(f"{path} has no slices: it must be a byte stream of H.264 or H.265 (Annex B)")
        self.add(camera, digests)

    def judge(self, camera, digests):
        """Counts what a camera's pad delivered as (its own, another camera's, in no clip)."""
        own = other = unknown = 0
        for value in digests:
            cameras = self._cameras.get(value)
            if cameras is None:
                unknown += 1
            elif camera in cameras:
                own += len(cameras) == 1
            else:
                other += 1
        return own, other, unknown
