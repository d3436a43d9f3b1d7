#!/bin/sh
# Run dist/gpuwatch.pyz on a CPython that is linked with musl, as on Alpine. There is no such Python among Debian's packages, so the first run builds
# one in build/musl from Debian's sources with Debian's musl-gcc (10 minutes of a processor); later runs use it again. Needs root for nothing but
# apt-get, and the packages musl-tools, gcc, make, tcl, xz-utils, patch and python3.11. Ends with the line "musl: passed".
set -eu
cd "$(dirname "$0")/.."
top=$PWD
root=$top/build/musl
prefix=$root/usr
jobs=${JOBS:-2}

fail() {
    echo "scripts/test_musl.sh: $*" >&2
    exit 1
}

[ "$(uname -m)" = x86_64 ] || fail "only tried on x86_64"
for command in musl-gcc make tclsh xz apt-get /usr/bin/python3.11; do
    command -v $command >/dev/null || fail "$command is missing: apt-get install musl-tools make gcc tcl xz-utils python3.11"
done
[ -e dist/gpuwatch.pyz ] || fail "there is no dist/gpuwatch.pyz: run make pyz"

fetch_sources() {
    # Debian's own list of sources, of the release that this system has (the first entry), beside the system's lists.
    mkdir -p "$root/lists/partial" "$root/sources"
    sed '/^$/,$d; s/^Types: deb$/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >"$root/sources.sources" 2>/dev/null || true
    [ -s "$root/sources.sources" ] || fail "/etc/apt/sources.list.d/debian.sources is not there: this script knows Debian 12 and its kind"
    apt="apt-get -q -o Dir::Etc::sourcelist=$root/sources.sources -o Dir::Etc::sourceparts=- -o Dir::State::lists=$root/lists -o APT::Get::List-Cleanup=0"
    $apt update
    (cd "$root/sources" && $apt source --download-only python3.11 zlib bzip2 sqlite3 libffi)
}

unpack() {
    rm -rf "$root/build/$1"
    mkdir -p "$root/build/$1"
    tar -xf "$root"/sources/$1_*.orig.tar.* -C "$root/build/$1" --strip-components=1
    cd "$root/build/$1"
}

build() {
    export CC=musl-gcc CFLAGS="-O1 -w -fPIC -pipe -I$prefix/include" LDFLAGS="-L$prefix/lib"
    # musl-gcc has no kernel headers: they are copied, since the rest of /usr/include, which is glibc's, must stay out.
    mkdir -p "$prefix/include"
    cp -rL /usr/include/linux /usr/include/asm-generic /usr/include/x86_64-linux-gnu/asm "$prefix/include/"
    unpack zlib
    ./configure --static --prefix="$prefix"
    make -j "$jobs" libz.a
    make install
    unpack bzip2
    make -j "$jobs" CC=musl-gcc CFLAGS="$CFLAGS -D_FILE_OFFSET_BITS=64" libbz2.a
    install -D -m 644 bzlib.h "$prefix/include/bzlib.h"
    install -D -m 644 libbz2.a "$prefix/lib/libbz2.a"
    unpack libffi
    ./configure --prefix="$prefix" --disable-shared --enable-static --disable-docs --disable-multi-os-directory
    make -j "$jobs"
    make install
    unpack sqlite3 # Python's build finds it by its header; one file of C is all of it
    CC=gcc CFLAGS= LDFLAGS= ./configure --disable-tcl --disable-readline --disable-shared
    make sqlite3.c
    $CC $CFLAGS -c sqlite3.c
    ar rcs libsqlite3.a sqlite3.o
    install -D -m 644 sqlite3.h "$prefix/include/sqlite3.h"
    install -D -m 644 libsqlite3.a "$prefix/lib/libsqlite3.a"
    unpack python3.11 # as if for another machine, and not looking into glibc's part of /usr/include
    sed -i 's/^    def add_multiarch_paths(self):$/&\n        return/' setup.py
    printf 'ac_cv_file__dev_ptmx=yes\nac_cv_file__dev_ptc=no\nac_cv_buggy_getaddrinfo=no\n' >config.site
    export READELF=/usr/bin/x86_64-linux-gnu-readelf PKG_CONFIG_LIBDIR="$prefix/lib/pkgconfig" CONFIG_SITE=config.site CPPFLAGS="-I$prefix/include"
    ./configure --prefix="$prefix" --build=x86_64-pc-linux-gnu --host=x86_64-linux-musl --with-build-python=/usr/bin/python3.11 \
        --without-ensurepip --disable-test-modules
    make -j "$jobs"
    make install
}

if [ ! -x "$prefix/bin/python3.11" ]; then
    mkdir -p "$root"
    fetch_sources >"$root/log" 2>&1 || fail "the sources cannot be fetched: see $root/log"
    set +e  # within a condition a failure would end nothing
    (set -e; build) >>"$root/log" 2>&1
    [ $? = 0 ] || fail "a build failed: see $root/log"
    set -e
fi

python=$prefix/bin/python3.11
work=$(mktemp -d)
node= hub=
end() {
    [ -z "$hub$node" ] || kill $hub $node 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
export HOME="$work/home" PATH=/usr/bin:/bin
unset LD_LIBRARY_PATH PYTHONPATH SHIV_ROOT
mkdir -p "$HOME"

# psutil's build for musl asks for Alpine's name of the library, which musl's own loader answers.
loader=$(readelf -l "$python" | sed -n 's/.*interpreter: \(.*\)]/\1/p')
case $loader in */ld-musl-*) ;; *) fail "$python is not linked with musl: $loader" ;; esac
echo "machine: $(uname -m), $("$python" -V), loader $loader ($("$loader" 2>&1 | sed -n 2p))"
gpuwatch() { "$python" "$top/dist/gpuwatch.pyz" "$@"; }
gpuwatch --version
gpuwatch --help >/dev/null
(cd / && HOME=/nowhere "$python" "$top/dist/gpuwatch.pyz" --help >/dev/null)
echo "unpacked: $(ls "$HOME/.cache/gpuwatch")"

# The compiled psutil is the one for musl, and it reads this machine.
"$python" -I - <<'PYTHON'
import glob, os, sys
(folder,) = glob.glob(os.path.expanduser("~/.cache/gpuwatch/gpuwatch-*/site-packages/_arch/x86_64-musl"))
sys.path.insert(0, folder)
import psutil
from psutil import _psutil_linux
assert _psutil_linux.__file__.startswith(folder), _psutil_linux.__file__
assert "eth0" in psutil.net_if_addrs() or "lo" in psutil.net_if_addrs()
print("psutil:", psutil.__version__, psutil.cpu_count(), "cores,", psutil.virtual_memory().total, "bytes of memory,", _psutil_linux.__file__.rsplit("site-packages/")[1])
PYTHON
gpuwatch node --host 127.0.0.1 --debug >"$work/status.json"
"$python" -I - "$work/status.json" <<'PYTHON'
import json, sys
status = json.load(open(sys.argv[1]))
assert status["ips"] is not None and "last_update" in status, sorted(status)
print("node --debug:", json.dumps(status)[:200])
PYTHON

# A node and a hub with SQLite, over loopback.
export GPUWATCH_PASSWORD=musl
# not by the function: its subshell would be killed, and what it started would stay
"$python" "$top/dist/gpuwatch.pyz" node --host 127.0.0.1 --port 0 --interval 1 --no-access-log >"$work/node" 2>&1 &
node=$!
within() { # seconds, command...
    left=$1
    shift
    until "$@" 2>/dev/null; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { cat "$work"/node "$work"/hub >&2; fail "not within its time: $*"; }
        sleep 1
    done
}
port() { sed -n 's|.*http://127.0.0.1:\([0-9]*\)/.*|\1|p' "$work/$1" | head -n 1; }
has_port() { [ -n "$(port "$1")" ]; }
within 90 has_port node
echo "me=127.0.0.1:$(port node)" >"$work/hosts.txt"
"$python" "$top/dist/gpuwatch.pyz" hub --hosts "$work/hosts.txt" --port 0 --interval 1 --database "sqlite:///$work/gpuwatch.db" --no-access-log >"$work/hub" 2>&1 &
hub=$!
within 90 has_port hub
ask() { /usr/bin/python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())' "http://127.0.0.1:$(port hub)$1"; }
is_up() { ask /api/v1/cluster | grep -q '"status":"up"'; }
within 60 is_up
sleep 3
ask '/?term=true'
kill "$hub" && wait "$hub" || true
hub=
gpuwatch db --database "sqlite:///$work/gpuwatch.db" info
gpuwatch db --database "sqlite:///$work/gpuwatch.db" verify
echo "musl: passed"
