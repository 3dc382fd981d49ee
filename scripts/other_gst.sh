#!/usr/bin/env bash
# The tests of the element, built here, run with the GStreamer of another Debian release: ./test --gst 1.26
#
#   scripts/other_gst.sh VERSION [FILTER...]   FILTER: names of tests, as nextest takes them
set -u
cd "$(dirname "$0")/.." || exit 1
. scripts/setup.sh
. scripts/roots.sh

version=${1:-}
[ $# -gt 0 ] && shift
case $version in
    1.22) suite=bookworm ;;
    1.26) suite=trixie ;;
    *) give_up "--gst $version: 1.22 (Debian 12) and 1.26 (Debian 13) are known" ;;
esac

# First of all, since it says so where it cannot be done.
make_root $suite gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
    gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-rtsp libgstrtspserver-1.0-0 glib-networking ca-certificates \
    python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-rtsp-server-1.0 procps gcc libc6-dev pkg-config libgstreamer1.0-dev

need_packages
need_cargo

found=$(in_root "$root" gst-launch-1.0 --version | sed -n 's/^GStreamer //p')
case $found in
    "$version".*) echo "GStreamer $found" ;;
    *) give_up "the root has GStreamer $found" ;;
esac

# The tests that need GStreamer, and so cannot be built without it.
binaries() {
    awk '/^\[/ { test = ($0 == "[[test]]") } test && /^name = / { gsub(/"/, ""); name = $3 }
         test && /^required-features = \["plugin"\]/ { print name }' Cargo.toml
}

folder=target/other_gst
mkdir -p $folder
tests=()
for name in $(binaries); do tests+=(--test "$name"); done
runner=$(command -v cargo-nextest)
cargo build --example demo || give_up "the build failed"
if [ -n "$runner" ]; then
    cargo nextest list --lib "${tests[@]}" --list-type binaries-only --message-format json >$folder/binaries.json || give_up "the build failed"
    cargo metadata --format-version 1 >$folder/metadata.json || exit 1
    cp "$runner" $folder/cargo-nextest
    in_root "$root" $folder/cargo-nextest nextest run --no-fail-fast --binaries-metadata $folder/binaries.json \
        --cargo-metadata $folder/metadata.json --workspace-remap "$PWD" "$@"
else
    cargo test --no-run --message-format json --lib "${tests[@]}" >$folder/build.json || give_up "the build failed"
    status=0
    for program in $(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' $folder/build.json); do
        in_root "$root" env CARGO_MANIFEST_DIR="$PWD" "$program" "$@" || status=1
    done
    exit $status
fi
