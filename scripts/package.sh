#!/usr/bin/env bash
# The package: built, then installed, used and removed in bare Debian 12 and 13, and in the image of packaging/Containerfile.
# Run by ./test --full. Needs root, for debootstrap.
set -u
cd "$(dirname "$0")/.." || exit 1
. scripts/setup.sh
. scripts/roots.sh

need_packages
need_cargo
# Before anything is built: a message that says what is missing is to come at once.
make_root bookworm
make_root trixie

need_cargo_deb() {
    cargo deb --version >/dev/null 2>&1 && return
    export PATH="$PWD/target/tools/bin:$PATH"
    cargo deb --version >/dev/null 2>&1 && return
    echo "installing cargo-deb into target/tools"
    cargo install --quiet --locked --root target/tools cargo-deb || give_up "cargo-deb cannot be installed"
}

build() {
    need_cargo_deb
    rm -f target/debian/gstreamer1.0-rtspmux_*.deb
    cargo deb --quiet || give_up "cargo deb failed"
    package=$(echo target/debian/gstreamer1.0-rtspmux_*.deb)
    echo "$package: $(stat -c %s "$package") bytes"
    dpkg-deb --field "$package" Depends Recommends Suggests
}

# Cameras on 127.0.0.1, which is the roots' as well. Ends when its input is closed.
start_server() {
    cargo build --quiet --release --example demo || give_up "the build failed"
    coproc SERVER { exec target/release/examples/demo --serve --cameras 2; }
    # The first one has sound, which no one here plays.
    { read -r -t 60 url && read -r -t 60 url; } <&"${SERVER[0]}" || give_up "the server did not start"
}

# wrong WHAT
wrong() {
    echo "wrong in $where: $1"
    status=1
}

# What the package has to be before it is installed.
check_package() {
    local folder=target/roots/package plugin
    where=$package
    rm -rf $folder
    dpkg-deb --extract "$package" $folder
    plugin=$(find $folder -name libgstrtspmux.so)
    readelf --sections --wide "$plugin" | grep -q '\.debug_' && wrong "the plugin is not stripped"
    [ "$(find $folder -name libgstrtsp.so -exec readlink -e {} \;)" = "$(readlink -e "$plugin")" ] ||
        wrong "the shim is no link to the plugin"
    cmp -s packaging/copyright $folder/usr/share/doc/gstreamer1.0-rtspmux/copyright || wrong "not the copyright of packaging/"
    scripts/symbols.sh check "$plugin" || wrong "it needs too new libraries"
    rm -rf $folder
}

# plays ROOT ELEMENT [NAME=VALUE...]: half a second of a camera, in a process with these variables.
plays() {
    local root=$1 element=$2
    shift 2
    in_root "$root" rm -f /tmp/camera.h264
    in_root "$root" env "$@" timeout 60 gst-launch-1.0 --quiet "$element" location="$url" protocols=tcp \
        ! rtph264depay ! identity eos-after=13 ! filesink location=/tmp/camera.h264 && [ -s "$root/tmp/camera.h264" ]
}

# Installed, used, removed.
check_in() {
    local suite=$1 bare=$PWD/target/roots/$1-installed files left shim
    where="Debian $suite"
    echo "== $where"
    make_root "$suite"
    copy_root "$bare"
    cp "$package" "$bare/tmp/package.deb"
    in_root "$bare" sh -c 'apt-get -qq update && apt-get -qq install -y /tmp/package.deb gstreamer1.0-tools' >"$bare/log" 2>&1 ||
        wrong "it cannot be installed: $(tail -n 1 "$bare/log")"
    in_root "$bare" gst-inspect-1.0 --version | sed -n 2p
    files=$(in_root "$bare" dpkg --listfiles gstreamer1.0-rtspmux | grep rtspmux)
    in_root "$bare" gst-inspect-1.0 rtspmuxsrc >/dev/null || wrong "GStreamer does not find the element"
    in_root "$bare" gst-inspect-1.0 rtspsrc | grep -q 'Filename .*/gstreamer-1.0/libgstrtsp.so' ||
        wrong "rtspsrc is no longer GStreamer's own without the shim's folder"
    plays "$bare" rtspmuxsrc || wrong "it plays nothing"
    shim=$(in_root "$bare" sh -c 'echo /usr/lib/*/rtspmux/shim')
    plays "$bare" rtspsrc GST_PLUGIN_PATH="$shim" GST_REGISTRY=/tmp/shim.registry || wrong "the shim plays nothing"
    in_root "$bare" env GST_PLUGIN_PATH="$shim" GST_REGISTRY=/tmp/shim.registry gst-inspect-1.0 rtspsrc |
        grep -q "Filename .*$shim" || wrong "rtspsrc is not the shim's"
    in_root "$bare" apt-get -qq purge -y gstreamer1.0-rtspmux >"$bare/log" 2>&1 || wrong "it cannot be removed"
    left=$(for file in $files; do in_root "$bare" test -e "$file" && echo "$file"; done)
    [ -z "$left" ] || wrong "left behind: $left"
    in_root "$bare" gst-inspect-1.0 rtspmuxsrc >/dev/null 2>&1 && wrong "the element is still there"
    rm -rf "$bare"
}

# The instructions of the Containerfile, one after the other.
check_container() {
    local bare=$PWD/target/roots/container instruction rest from entry
    where=packaging/Containerfile
    echo "== $where"
    while read -r instruction rest; do
        case $instruction in
            FROM)
                [ "$rest" = docker.io/library/debian:12 ] || wrong "FROM $rest is not known here"
                make_root bookworm
                copy_root "$bare"
                ;;
            COPY)
                from=${rest% *}
                # The pattern is to be expanded.
                cp $from "$bare${rest##* }" || wrong "COPY $rest"
                ;;
            RUN) in_root "$bare" sh -c "cd / && $rest" >"$bare/log" 2>&1 || wrong "RUN $rest: $(tail -n 1 "$bare/log")" ;;
            ENTRYPOINT) entry=$(echo "$rest" | tr -d '[]",') ;;
            *) wrong "$instruction is not known here" ;;
        esac
    done < <(sed -e '/^#/d' -e ':join' -e '/\\$/{N;s/\\\n */ /;b join}' packaging/Containerfile)
    in_root "$bare" timeout 60 $entry --quiet rtspmuxsrc location="$url" ! identity eos-after=50 ! fakesink ||
        wrong "its entry point plays nothing"
    rm -rf "$bare"
}

status=0
build
start_server
check_package
check_in bookworm
check_in trixie
check_container
exec {SERVER[1]}>&-
wait "$SERVER_PID"
exit $status
