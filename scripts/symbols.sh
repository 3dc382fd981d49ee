#!/usr/bin/env bash
# The oldest libraries that the plugin is to run with: GStreamer 1.20, GLib 2.72, glibc 2.35 (Ubuntu 22.04).
#
#   scripts/symbols.sh check FILE...   fails where a library needs a symbol that these do not have
#   scripts/symbols.sh update          writes packaging/symbols.txt again
#
# symbols.txt is made from the symbols files of Debian's library packages. Such a file names every symbol that a library
# exports, with the version in which it appeared. What appeared later than the versions above is left out. The packages may be
# of any release that has these versions or later ones, since no symbol of these libraries is ever taken away. Symbols of glibc
# carry their version in the binary itself, and need no list.
set -u
cd "$(dirname "$0")/.." || exit 1

list=packaging/symbols.txt
glibc=2.35
# package, the newest version that counts, and of its libraries those that the plugin or its tests may be linked with
sources=(
    "libgstreamer1.0-0 1.20.99 libgstreamer-1.0 libgstbase-1.0 libgstnet-1.0"
    "libgstreamer-plugins-base1.0-0 1.20.99 libgstrtp-1.0 libgstrtsp-1.0 libgstsdp-1.0"
    "libglib2.0-0 2.72.99 libglib-2.0 libgobject-2.0 libgio-2.0"
)

update() {
    local source package newest library file symbol version
    declare -A counts
    for source in "${sources[@]}"; do
        read -r package newest source <<<"$source"
        file=$(dpkg-query --control-path "$package" symbols 2>/dev/null)
        # Releases from 2024 on call it so.
        [ -n "$file" ] || file=$(dpkg-query --control-path "${package}t64" symbols 2>/dev/null)
        [ -n "$file" ] || {
            echo "$0: $package is not installed" >&2
            return 1
        }
        for library in $source; do
            awk -v library="$library.so.0" '
                /^[^ |*]/ { wanted = $1 == library; next }
                wanted && /^ / { split($1, name, "@"); print name[1], $2 }
            ' "$file" | while read -r symbol version; do
                [ -n "${counts[$version]:-}" ] || {
                    older "$version" "$newest"
                    counts[$version]=$?
                }
                [ "${counts[$version]}" = 0 ] && echo "$symbol"
            done
        done
    done | LC_ALL=C sort -u >"$list.new" && mv "$list.new" "$list"
    wc -l "$list"
}

older() {
    [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

# What a file needs and must not: a symbol without a version that is not in the list, or one of a later glibc.
unknown() {
    nm --dynamic --undefined-only "$1" | awk '$1 == "U" { print $2 }' | LC_ALL=C sort -u |
        awk -v list="$list" -v glibc="$glibc" '
            BEGIN {
                while ((getline name < list) > 0) known[name] = 1
                split(glibc, most, ".")
            }
            /@GLIBC_/ {
                split($1, parts, "@GLIBC_")
                split(parts[2], version, ".")
                if (version[1] + 0 != most[1] + 0 || version[2] + 0 > most[2] + 0) print
                next
            }
            # The unwinder of GCC, whose last addition is of GCC 14.
            /@GCC_/ { if ($1 !~ /@GCC_[34]\./) print; next }
            !($1 in known)
        '
}

check() {
    local file status=0 found
    for file in "$@"; do
        [ -r "$file" ] || {
            echo "$file is missing" >&2
            status=1
            continue
        }
        found=$(unknown "$file")
        [ -z "$found" ] && continue
        echo "$file needs what GStreamer 1.20, GLib 2.72 and glibc $glibc do not have:"
        printf '%s\n' "$found"
        status=1
    done
    return $status
}

case ${1:-} in
    update) update ;;
    check)
        shift
        check "$@"
        ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 1
        ;;
esac
