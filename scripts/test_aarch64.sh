#!/bin/sh
# Run dist/gpuwatch.pyz on an emulated 64-bit ARM Debian, as a user of such a machine would. Needs root, and the packages
# debootstrap, qemu-user-static and binfmt-support. The first run sets the Debian up in build/aarch64 (about six
# minutes); later runs use it again. Ends with the line "aarch64: passed".
set -eu
cd "$(dirname "$0")/.."
root=$PWD/build/aarch64

fail() {
    echo "scripts/test_aarch64.sh: $*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "must run as root: it makes a system of its own in $root and changes its root folder"
for command in debootstrap qemu-aarch64-static update-binfmts; do
    command -v $command >/dev/null || fail "$command is missing: apt install debootstrap qemu-user-static binfmt-support"
done
[ -e dist/gpuwatch.pyz ] || fail "there is no dist/gpuwatch.pyz: run make pyz"

if [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
    [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc ||
        fail "this kernel cannot run programs of other machines (binfmt_misc)"
    update-binfmts --enable qemu-aarch64
fi

if [ ! -e "$root/ready" ]; then
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --arch=arm64 --variant=minbase --include=python3 bookworm "$root" >"$root.log" 2>&1 ||
        fail "debootstrap failed: see $root.log"
    touch "$root/ready"
fi

mkdir -p "$root/opt"
install -m 755 dist/gpuwatch.pyz "$root/opt/gpuwatch"

# In a mount namespace, so that nothing stays mounted however this ends.
unshare --mount chroot "$root" /bin/sh -eu <<'EMULATED'
mount -t proc proc /proc
export HOME=/home/tester PATH=/opt:/usr/sbin:/usr/bin:/sbin:/bin
rm -rf /home/tester/.cache; mkdir -p /home/tester
trap 'echo "aarch64: FAILED" >&2' EXIT

echo "machine: $(uname -m), $(python3 -V), $(ldd --version | head -n 1)"
gpuwatch --version
gpuwatch --help >/dev/null
echo "unpacked: $(ls /home/tester/.cache/gpuwatch)"

# The compiled psutil is the one for this machine and reads it.
python3 -I - <<'PYTHON'
import glob, sys
sys.path[:0] = glob.glob("/home/tester/.cache/gpuwatch/gpuwatch-*/site-packages/_arch/aarch64-glibc")
import psutil
print("psutil:", psutil.__version__, psutil.cpu_count(), "cores,", psutil.virtual_memory().total, "bytes of memory")
PYTHON

# An unprivileged user without a home.
(
    cd /
    unset HOME
    setpriv --reuid=65534 --regid=65534 --clear-groups gpuwatch --help >/dev/null
)
ls -d /tmp/gpuwatch-65534/gpuwatch-*
rm -rf /tmp/gpuwatch-65534

# A node without driver or GPU is a valid node with an explanation and host readings.
gpuwatch node --host 127.0.0.1 --debug >/tmp/status.json
python3 -I - <<'PYTHON'
import json
status = json.load(open("/tmp/status.json"))
print("node --debug:", json.dumps(status)[:300])
PYTHON
rm -rf /home/tester/.cache; mkdir -p /home/tester
trap - EXIT
EMULATED
echo "aarch64: passed"
