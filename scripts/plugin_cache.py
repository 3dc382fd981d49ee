#!/usr/bin/env python3
"""What GStreamer says of the plugin, as gst-plugins-rs keeps it: packaging/gst_plugins_cache.json.

    scripts/plugin_cache.py PLUGIN.so           writes the file
    scripts/plugin_cache.py --check PLUGIN.so   shows what is no longer as the file says, and fails

A change of the interface - a property, a signal, a default - shows in the diff of that file. The file is made with GStreamer 1.22
or 1.24; some properties have another default with later ones, and are not compared there. Needs python3-gi; says so and passes
without it.
"""

import difflib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "packaging" / "gst_plugins_cache.json"
# Whose defaults follow the GStreamer that runs, from 1.26 on.
FOLLOWS_GSTREAMER = {"max-rtcp-rtp-time-diff"}
DEFAULTS_OF = (1, 25)
# Of the plugin file itself: these change with each commit or are of no interest here.
HIERARCHY_END = "GObject"


def load_gi():
    """Another Python than the first one of PATH may have the bindings: that of the system."""
    try:
        import gi
    except ImportError:
        system = "/usr/bin/python3"
        if os.environ.get("RTSPMUX_PYTHON") or not os.access(system, os.X_OK):
            print("skipped: no Python that can load GStreamer (package python3-gi)")
            sys.exit(0)
        os.environ["RTSPMUX_PYTHON"] = system
        os.execv(system, [system, *sys.argv])
    gi.require_version("Gst", "1.0")
    from gi.repository import GObject, Gst

    return GObject, Gst


GObject, Gst = load_gi()


def hierarchy(gtype):
    names = [gtype.name]
    while gtype.name != HIERARCHY_END:
        gtype = gtype.parent
        names.append(gtype.name)
    return names


def value_of(spec):
    try:
        default = spec.get_default_value()
    except AttributeError:
        default = spec.default_value
    if default is None:
        return "NULL"
    if isinstance(default, bool):
        return str(default).lower()
    if hasattr(default, "value_nick"):
        return f"{default.value_nick} ({int(default)})"
    if hasattr(default, "value_nicks"):
        return "+".join(default.value_nicks) or "none"
    if hasattr(default, "to_string"):
        return default.to_string()
    return str(default)


def property_of(spec, running):
    flags = spec.flags
    entry = {
        "blurb": spec.blurb,
        "construct": bool(flags & GObject.ParamFlags.CONSTRUCT),
        "construct-only": bool(flags & GObject.ParamFlags.CONSTRUCT_ONLY),
        "controllable": bool(int(flags) & Gst.PARAM_CONTROLLABLE),
        "default": value_of(spec),
        "nick": spec.nick,
        "readable": bool(flags & GObject.ParamFlags.READABLE),
        "type": spec.value_type.name,
        "writable": bool(flags & GObject.ParamFlags.WRITABLE),
    }
    for name, flag in (("ready", Gst.PARAM_MUTABLE_READY), ("paused", Gst.PARAM_MUTABLE_PAUSED), ("playing", Gst.PARAM_MUTABLE_PLAYING)):
        if int(flags) & flag:
            entry["mutable"] = name
    for limit in ("minimum", "maximum"):
        if hasattr(spec, limit):
            entry[limit[:3]] = str(getattr(spec, limit))
    if running > DEFAULTS_OF and spec.name in FOLLOWS_GSTREAMER:
        del entry["default"]
    return entry


def signal_of(query):
    return {
        "action": bool(query.signal_flags & GObject.SignalFlags.ACTION),
        "args": [kind.name for kind in query.param_types],
        "return-type": query.return_type.name,
        "when": "first" if query.signal_flags & GObject.SignalFlags.RUN_FIRST else "last" if query.signal_flags & GObject.SignalFlags.RUN_LAST else "none",
    }


def kinds(spec):
    """The values of an enumeration or of flags of our own."""
    kind = spec.value_type
    if "RtspMux" not in kind.name or not (kind.is_a(GObject.TYPE_ENUM) or kind.is_a(GObject.TYPE_FLAGS)):
        return None
    values = getattr(kind.pytype, "__enum_values__", None) or getattr(kind.pytype, "__flags_values__", {})
    return {value.value_nick: {"name": value.value_name, "value": str(int(value))} for value in values.values()}


def element_of(factory, running, types):
    element = factory.create(None)
    own = element.__gtype__
    properties = {}
    for spec in element.list_properties():
        if spec.owner_type == own:
            properties[spec.name] = property_of(spec, running)
            values = kinds(spec)
            if values:
                types[spec.value_type.name] = values
    signals = [GObject.signal_query(number) for number in GObject.signal_list_ids(own)]
    return {
        "author": factory.get_metadata("author"),
        "description": factory.get_metadata("description"),
        "hierarchy": hierarchy(own),
        "interfaces": sorted(kind.name for kind in GObject.type_interfaces(own)),
        "klass": factory.get_metadata("klass"),
        "long-name": factory.get_metadata("long-name"),
        "pad-templates": {
            template.name_template: {
                "caps": template.get_caps().to_string(),
                "direction": template.direction.value_nick,
                "presence": template.presence.value_nick,
            }
            for template in factory.get_static_pad_templates()
        },
        "properties": properties,
        "rank": factory.get_rank(),
        "signals": {query.signal_name: signal_of(query) for query in signals},
        "uri-protocols": factory.get_uri_protocols(),
    }


def describe(file):
    """All that is in a plugin file."""
    running = Gst.version()[:2]
    plugin = Gst.Plugin.load_file(file)
    registry = Gst.Registry.get()
    registry.add_plugin(plugin)
    elements, types = {}, {}
    for feature in registry.get_feature_list_by_plugin(plugin.get_name()):
        registry.add_feature(feature)
        if isinstance(feature, Gst.ElementFactory):
            elements[feature.get_name()] = element_of(feature.load(), running, types)
    description = {
        plugin.get_name(): {
            "description": plugin.get_description(),
            "elements": elements,
            "filename": Path(file).name.removeprefix("lib").removesuffix(".so"),
            "license": plugin.get_license(),
            "other-types": types,
            "package": plugin.get_package(),
            "source": plugin.get_source(),
            "url": plugin.get_origin(),
        }
    }
    return description, running


def text_of(description):
    return json.dumps(description, indent=4, sort_keys=True, ensure_ascii=False) + "\n"


def main():
    arguments = sys.argv[1:]
    check = "--check" in arguments
    files = [argument for argument in arguments if not argument.startswith("--")]
    if len(files) != 1:
        sys.exit(__doc__)
    Gst.init(None)
    description, running = describe(os.path.abspath(files[0]))
    if not check:
        if running > DEFAULTS_OF:
            sys.exit("the file is made with GStreamer 1.22 or 1.24")
        FILE.write_text(text_of(description), encoding="utf-8")
        return
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    if running > DEFAULTS_OF:
        for plugin in recorded.values():
            for element in plugin["elements"].values():
                for name in FOLLOWS_GSTREAMER & set(element["properties"]):
                    del element["properties"][name]["default"]
    before, now = text_of(recorded).splitlines(), text_of(description).splitlines()
    difference = list(difflib.unified_diff(before, now, "packaging/gst_plugins_cache.json", "the plugin", lineterm=""))
    if difference:
        print("\n".join(difference))
        sys.exit("if this is meant: scripts/plugin_cache.py target/release/libgstrtspmux.so")


if __name__ == "__main__":
    main()
