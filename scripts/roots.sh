# Sourced: roots of Debian releases in target/roots, made with debootstrap, in which something runs that was built here.
# DEBIAN_MIRROR names another archive than debootstrap's own choice.

# make_root SUITE [PACKAGE...]: a root of a release, with packages, in target/roots. It is made once and kept; its name stands for
# what is in it. Sets `root`.
make_root() {
    local suite=$1 log=target/roots/log bare
    shift
    [ "$(id -u)" = 0 ] || give_up "a root of Debian $suite is made with debootstrap, which has to be run as root"
    mkdir -p target/roots
    if [ $# -gt 0 ]; then
        make_root "$suite"
        bare=$root
        root=$bare-$(echo "$*" | cksum | cut -d' ' -f1)
    else
        root=$PWD/target/roots/$suite
    fi
    [ -e "$root/.complete" ] && return
    echo "making a root of Debian $suite${*:+ with $*}"
    rm -rf "$root"
    if [ $# -gt 0 ]; then
        cp -a "$bare" "$root" && rm "$root/.complete" &&
            in_root "$root" apt-get -qq update && in_root "$root" apt-get -qq install -y --no-install-recommends "$@"
    else
        command -v debootstrap >/dev/null || apt-get -qq install -y --no-install-recommends debootstrap
        debootstrap --variant=minbase "$suite" "$root" ${DEBIAN_MIRROR:-}
    fi >"$log" 2>&1 || give_up "no root of Debian $suite: $(grep -v '^$' "$log" | tail -n 1) (all of it: $log)"
    touch "$root/.complete"
}

# copy_root FOLDER: a root like `root`, to be changed and thrown away.
copy_root() {
    rm -rf "$1"
    mkdir -p "$(dirname "$1")"
    cp -a "$root" "$1"
}

# in_root ROOT COMMAND...: in a mount namespace of its own, so that no mount is left behind. The folder of the repository is there
# under its own name, for programs that were built in it. Network and processes are the host's; there is no input.
in_root() {
    local root=$1
    shift
    mkdir -p "$root$PWD"
    cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null
    # Nothing that a package installs is to start a service.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    env ROOT="$root" HERE="$PWD" unshare --mount --propagation private bash -c '
        mount -t proc proc "$ROOT/proc" && mount --rbind /dev "$ROOT/dev" && mount --bind "$HERE" "$ROOT$HERE" || exit 1
        here=$HERE
        exec env -u LD_LIBRARY_PATH -u ROOT -u HERE PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
            chroot "$ROOT" sh -c "cd \"\$0\" && exec \"\$@\"" "$here" "$@"
    ' bash "$@" </dev/null
}
