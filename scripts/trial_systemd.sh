#!/bin/sh
# README's "As a service" under a real systemd: a Debian made by debootstrap boots in systemd-nspawn, with a network of its own, and the units are installed,
# started, killed, given a wrong setting, upgraded and removed there. Needs root and the packages debootstrap and systemd-container. Not part of CI.
# BASE_ROOT=folder: a Debian with systemd and python3 that is there already (it is copied). Ends with the line "systemd: passed".
set -eu
cd "$(dirname "$0")/.."
top=$PWD
root=$top/build/systemd
machine=gpuwatch-trial-$$
fail() {
    echo "scripts/trial_systemd.sh: $*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "must run as root"
for command in debootstrap systemd-nspawn nsenter; do
    command -v $command >/dev/null || fail "$command is missing: apt-get install debootstrap systemd-container"
done
[ -e dist/gpuwatch.pyz ] || fail "there is no dist/gpuwatch.pyz: run make pyz"
mkdir -p "$root"
base=${BASE_ROOT:-$root/base}
[ -e "$base/usr/bin/python3" ] || debootstrap --variant=minbase --include=python3,systemd,systemd-sysv,dbus bookworm "$base" >"$root/log" 2>&1 ||
    fail "debootstrap failed: see $root/log"
rm -rf "$root/machine"
cp -a "$base" "$root/machine"
files=$root/machine/srv/gpuwatch
mkdir -p "$files"
cp -r dist/gpuwatch.pyz gpuwatch.toml.example systemd "$files"

cat >"$files/steps.sh" <<'STEPS'
set -eu
cd /srv/gpuwatch
ask() { python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())' "http://127.0.0.1:7070$1"; }
within() { # seconds, command...: true within that time
    left=$1; shift
    until "$@" >/dev/null 2>&1; do left=$((left - 1)); [ $left -gt 0 ] || { echo "FAILED: $*"; journalctl --no-pager -u 'gpuwatch-*' -n 20; exit 1; }; sleep 1; done
}
is_up() { ask /api/v1/cluster | grep -q '"status":"up"'; }
python3 -c 'import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14s", b"lo", 0x41, b""))' # lo up
# README, by hand and as a service
install -m 755 gpuwatch.pyz /usr/local/bin/gpuwatch
install -d -m 755 /etc/gpuwatch
(umask 077; head -c 18 /dev/urandom | base64 > /etc/gpuwatch/password)
printf 'me=127.0.0.1\n' > /etc/gpuwatch/hosts.txt
install -m 644 gpuwatch.toml.example /etc/gpuwatch/gpuwatch.toml
install -m 644 systemd/gpuwatch-node.service systemd/gpuwatch-hub.service /etc/systemd/system/
systemctl daemon-reload
systemctl enable --now gpuwatch-node gpuwatch-hub
within 60 is_up
for unit in node hub; do
    pid=$(systemctl show -p MainPID --value gpuwatch-$unit)
    echo "$unit: $(grep -E '^(Uid|NoNewPrivs|Seccomp):' /proc/$pid/status | tr -s '\t\n' ' ')"
    [ "$(stat -c %u /proc/$pid)" != 0 ]
    [ "$(stat -c %a /var/lib/private/gpuwatch-$unit)" = 700 ]
done
[ -s /var/lib/private/gpuwatch-hub/gpuwatch.db ]
systemctl kill -s KILL gpuwatch-node gpuwatch-hub
within 60 sh -c '[ "$(systemctl show -p NRestarts --value gpuwatch-node)$(systemctl show -p NRestarts --value gpuwatch-hub)" = 11 ]'
within 60 is_up
echo "killed: both came back"
install -m 755 gpuwatch.pyz /usr/local/bin/gpuwatch
systemctl restart gpuwatch-node gpuwatch-hub
within 60 is_up
echo "upgraded: both came back"
(echo 'nonsense = 1'; cat gpuwatch.toml.example) > /etc/gpuwatch/gpuwatch.toml
systemctl restart gpuwatch-node
within 60 systemctl is-failed gpuwatch-node
sleep 6
[ "$(systemctl show -p ExecMainStatus --value gpuwatch-node)" = 2 ]
[ "$(systemctl show -p NRestarts --value gpuwatch-node)" = 0 ]
journalctl --no-pager -o cat -u gpuwatch-node | grep "there is no setting 'nonsense'"
systemctl disable --now gpuwatch-node gpuwatch-hub
bash -c 'rm -rf /etc/systemd/system/gpuwatch-*.service /usr/local/bin/gpuwatch /etc/gpuwatch /var/lib/{,private/}gpuwatch-* /var/cache/{,private/}gpuwatch-*'
systemctl daemon-reload
[ -z "$(find / -xdev -name '*gpuwatch*' -not -path '/srv/*')" ] || { find / -xdev -name '*gpuwatch*' -not -path '/srv/*'; exit 1; }
echo "removed: nothing is left"
STEPS

systemd-nspawn --quiet --directory "$root/machine" --machine "$machine" --register=no --keep-unit --private-network --link-journal=no --console=pipe --boot \
    >"$root/console" 2>&1 </dev/null &
nspawn=$!
end() {
    kill "$nspawn" 2>/dev/null || true # a clean halt
    wait "$nspawn" 2>/dev/null || true
    rm -rf "$root/machine"
}
trap end EXIT
init=
for _ in $(seq 60); do
    init=$(cat "/proc/$nspawn/task/$nspawn/children" 2>/dev/null | tr -d ' ') || true
    [ -n "$init" ] && nsenter -t "$init" -a systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded' && break
    sleep 1
done
[ -n "$init" ] || fail "the system did not boot: see $root/console"
nsenter -t "$init" -a sh /srv/gpuwatch/steps.sh
echo "systemd: passed"
