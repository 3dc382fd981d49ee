#!/usr/bin/env python3
"""Who holds the copyright of what is linked into the plugin, in Debian's format: packaging/copyright.

    scripts/copyright.py            writes the file
    scripts/copyright.py --check    fails where it is not what this would write

Takes every crate that Cargo.lock has for the plugin on Linux, without those that only tests or the build need, and the licence
files that the crate ships. A text that several crates ship is given once.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "packaging" / "copyright"
TARGET = "x86_64-unknown-linux-gnu"
# Debian ships these texts: the file names the place.
COMMON = {"Apache-2.0": "Apache-2.0", "MPL-2.0": "MPL-2.0"}
LICENCE_FILE = re.compile(r"^(licen[cs]e|copying|copyright|unlicense|notice)", re.IGNORECASE)
NOTICE = re.compile(r"^\s*(copyright\b|\(c\)\s|©)", re.IGNORECASE)

HEADER = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: {name}
Comment: The plugin is linked with the crates below. scripts/copyright.py makes this file from Cargo.lock and from the licence
 files of the crates.

Files: *
Copyright: the contributors of {name}
License: MPL-2.0

Files: rust-std/*
Copyright: The Rust Project Developers (see https://thanks.rust-lang.org)
License: MIT or Apache-2.0
Comment: The standard library of Rust.
"""


def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def linked(data):
    """The crates that end up in the plugin, by name."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    todo, seen = [data["resolve"]["root"]], set()
    while todo:
        identity = todo.pop()
        if identity in seen or is_macro(packages[identity]):
            continue
        seen.add(identity)
        for dependency in nodes[identity]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    seen.remove(data["resolve"]["root"])
    return sorted((packages[identity] for identity in seen), key=lambda package: (package["name"], package["version"]))


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def licence_texts(package):
    """What the licence files of a crate say."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.is_file() and LICENCE_FILE.match(path.name))
    for sub in ("LICENSES", "licenses"):
        if (folder / sub).is_dir():
            files += sorted(path for path in (folder / sub).iterdir() if path.is_file())
    return [path.read_text(encoding="utf-8", errors="replace") for path in files]


def notices(package, texts):
    """The lines that name a holder; the authors of the manifest where a crate has none."""
    lines = []
    for text in texts:
        # The appendix of the Apache licence shows how to write a notice; the licence itself has no other.
        if "APPENDIX: How to apply" in text:
            text = text.split("APPENDIX: How to apply")[0] + text.rsplit("limitations under the License.", 1)[-1]
        if is_common(text):
            text = text.split("TERMS AND CONDITIONS")[0] if "Apache License" in text else ""
        for line in text.splitlines():
            line = " ".join(line.split())
            if NOTICE.match(line) and re.search(r"\d{4}|\(c\)|©|by ", line, re.IGNORECASE) and "{" not in line and "[" not in line:
                lines.append(line.rstrip("."))
    if not lines:
        lines = [re.sub(r"\s*<[^>]*>", "", author) for author in package["authors"]]
    if not lines:
        lines = ["the contributors of " + package["name"]]
    return list(dict.fromkeys(lines))


def is_common(text):
    head = " ".join(text.split())[:400]
    return "Apache License Version 2.0" in head or "Mozilla Public License Version 2.0" in head or "Mozilla Public License, version 2.0" in head


def body(text):
    """A text without its notices, by which equal ones are found."""
    lines = [line.rstrip() for line in text.replace("\r", "").splitlines() if not NOTICE.match(line)]
    return "\n".join(lines).strip("\n")


def indented(text):
    return "\n".join(" " + line if line.strip() else " ." for line in text.split("\n"))


def make():
    data = metadata()
    root = next(package for package in data["packages"] if package["id"] == data["resolve"]["root"])
    parts = [HEADER.format(name=root["name"])]
    bodies, users = {}, {}
    for package in linked(data):
        texts = licence_texts(package)
        holders = notices(package, texts)
        licence = (package["license"] or "see below").replace("/", " OR ").replace("  ", " ")
        licence = re.sub(r"\bOR\b", "or", re.sub(r"\bAND\b", "and", licence))
        name = f"{package['name']} {package['version']}"
        parts.append(
            f"Files: {package['name']}-{package['version']}/*\n"
            f"Copyright: " + "\n ".join(holders) + "\n"
            f"License: {licence}\n"
        )
        for text in texts:
            if not is_common(text):
                key = re.sub(r"\W+", " ", body(text)).lower()
                bodies.setdefault(key, body(text))
                users.setdefault(key, []).append(name)
    for number, key in enumerate(sorted(bodies, key=lambda key: users[key]), 1):
        parts.append(
            f"License: text-{number}\n"
            + indented(bodies[key])
            + "\nComment: Shipped by "
            + ", ".join(dict.fromkeys(users[key]))
            + ".\n"
        )
    for licence, file in COMMON.items():
        parts.append(
            f"License: {licence}\n On Debian systems the text is in /usr/share/common-licenses/{file}.\n"
        )
    return "\n".join(parts)


def main():
    text = make()
    if "--check" in sys.argv[1:]:
        if not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
            sys.exit(f"{FILE.relative_to(ROOT)} is not what Cargo.lock says: run scripts/copyright.py")
        return
    FILE.write_text(text, encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
