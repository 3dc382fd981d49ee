# Sourced by ./bench, ./demo and ./test: gets what the machine lacks, or says in one line what it is.

packages=(
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstrtspserver-1.0-dev
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-rtsp
    glib-networking build-essential pkg-config curl ca-certificates python3
)

# Programs that some tests or measures run and are left out without. Not every release has them.
optional_packages=(livemedia-utils valgrind python3-gi gir1.2-gstreamer-1.0 python3-venv)

give_up() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

have_gstreamer() {
    command -v pkg-config >/dev/null &&
        pkg-config --atleast-version=1.22 gstreamer-1.0 gstreamer-rtsp-1.0 gstreamer-rtsp-server-1.0
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        is_installed "$package" || echo "$package"
    done
}

# As root only, as in CI; the script asks for no password for them, and nothing fails without them.
want_packages() {
    local package
    [ "$(id -u)" = 0 ] || return 0
    for package in "${optional_packages[@]}"; do
        is_installed "$package" ||
            ! apt-cache policy "$package" 2>/dev/null | grep -q '^  Candidate: [^(]' ||
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >/dev/null 2>&1 ||
            echo "not installed: $package"
    done
}

# A server in Python, for a test that is left out without it.
want_python_server() {
    local folder=target/python-servers
    [ -x $folder/bin/rtsp-server ] && return
    python3 -m venv $folder >/dev/null 2>&1 &&
        $folder/bin/pip install --quiet --disable-pip-version-check aio-rtsp-toolkit==0.1.4 av >/dev/null 2>&1 && return
    rm -rf $folder
    echo "not installed: aio-rtsp-toolkit (no python3-venv, or PyPI cannot be reached); its test says that it is skipped"
}

need_packages() {
    if ! command -v apt-get >/dev/null; then
        have_gstreamer || give_up "GStreamer 1.22 or later with gst-rtsp-server (development files) is missing, and there is no apt-get to install it with"
        return
    fi
    local missing root=() log
    mapfile -t missing < <(missing_packages)
    if [ ${#missing[@]} -gt 0 ]; then
        if [ "$(id -u)" != 0 ]; then
            root=(sudo)
            [ -t 0 ] || root=(sudo -n)
            command -v sudo >/dev/null || give_up "as root, run: apt-get install ${missing[*]}"
        fi
        echo "installing ${missing[*]}"
        log=$(mktemp)
        {
            "${root[@]}" apt-get update &&
                "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
                    apt-get install -y --no-install-recommends "${missing[@]}"
        } >"$log" 2>&1 || give_up "cannot install ${missing[*]}: $(grep -v '^$' "$log" | tail -n 1)"
        rm -f "$log"
    fi
    want_packages
    have_gstreamer || give_up "GStreamer 1.22 or later is needed, this system has $(pkg-config --modversion gstreamer-1.0 2>/dev/null || echo none)"
}

rust_version() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

have_cargo() {
    local version
    version=$(cargo --version 2>/dev/null | cut -d' ' -f2) || return
    [ -n "$version" ] &&
        [ "$(printf '%s\n' "$(rust_version)" "$version" | sort -V | head -n 1)" = "$(rust_version)" ]
}

need_cargo() {
    export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    have_cargo && return
    local log
    log=$(mktemp)
    echo "installing Rust"
    if command -v rustup >/dev/null; then
        rustup toolchain install stable --profile minimal >"$log" 2>&1
    else
        curl --proto '=https' --tlsv1.2 -sSf -o "$log.sh" https://sh.rustup.rs 2>"$log" &&
            sh "$log.sh" -y --profile minimal --no-modify-path >"$log" 2>&1
    fi || give_up "cargo $(rust_version) or later is missing, and rustup does not give it: $(grep -v '^$' "$log" | tail -n 1)"
    rm -f "$log" "$log.sh"
    # An older cargo elsewhere in PATH must not win.
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH" RUSTUP_TOOLCHAIN=stable
    have_cargo || give_up "cargo $(rust_version) or later is missing"
}

# need_component COMMAND COMPONENT
need_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    rustup component add "$2" >/dev/null 2>&1
    cargo "$1" --version >/dev/null 2>&1 || give_up "cargo $1 is missing (rustup component add $2)"
}
