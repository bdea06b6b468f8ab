#!/usr/bin/env bash
# Installs what `make run`, `make stack`, `make test` or `make lab` needs on a Debian system with a Rust toolchain.
#
#   scripts/setup.sh run    a C linker
#   scripts/setup.sh stack  also the servers around the gate: HAProxy, nginx, Redis, tor; curl, wrk, socat
#   scripts/setup.sh test   also openssl, rustfmt, clippy, Firefox, Chromium and their WebDriver servers, systemd, Prometheus
#   scripts/setup.sh deb    a C linker, cargo-deb, dpkg-dev, debootstrap and lintian
#   scripts/setup.sh lab    a C linker, Python 3.11 or later, Tesseract
#
# What is there is left alone, so a second run takes no time and asks for nothing. Servers that are
# installed here are not left running: everything that needs one starts its own.
set -euo pipefail

readonly GECKODRIVER_VERSION=0.37.1
readonly CARGO_DEB_VERSION=3.8.0

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
missing=()
# Debian installs servers where only root looks.
PATH=$PATH:/usr/sbin
# The servers among them.
unwanted=()

main() {
    local purpose=${1:-}
    case $purpose in
        run | stack | test | deb | lab) ;;
        *) fail "usage: scripts/setup.sh run|stack|test|deb|lab" ;;
    esac
    need_rust
    need_linker
    if [[ $purpose == stack || $purpose == test ]]; then
        need_servers
    fi
    if [[ $purpose == test ]]; then
        need_program openssl openssl
        need_component fmt rustfmt
        need_component clippy clippy
        need_program firefox-esr firefox-esr firefox
        need_program chromium chromium chromium-browser google-chrome
        need_program chromium-driver chromedriver
        # For systemd-analyze, which reads units without a running systemd.
        need_program systemd systemd-analyze
        # With promtool, which tests the rules.
        need_server prometheus prometheus
    fi
    if [[ $purpose == deb ]]; then
        need_program dpkg-dev dpkg-shlibdeps
        need_program debootstrap debootstrap
        need_program lintian lintian
    fi
    if [[ $purpose == lab ]]; then
        need_python
        need_program tesseract-ocr tesseract
    fi
    install_missing
    if [[ $purpose == test ]]; then
        need_geckodriver
    fi
    if [[ $purpose == deb ]]; then
        need_cargo_deb
    fi
}

need_rust() {
    command -v cargo >/dev/null || fail "cargo is missing: install Rust first, see https://rustup.rs"
}

# A compiler without the C library's development files cannot link either, so linking is tried.
need_linker() {
    local out
    out=$(mktemp)
    if ! echo 'int main(void) { return 0; }' | cc -x c -o "$out" - 2>/dev/null; then
        missing+=(gcc libc6-dev)
    fi
    rm -f "$out"
}

# need_component SUBCOMMAND COMPONENT: minimal toolchains come without these.
need_component() {
    if ! (cd "$root" && cargo "$1" --version) >/dev/null 2>&1; then
        command -v rustup >/dev/null || fail "cargo $1 is missing: install the $2 of your Rust toolchain"
        say "installing: $2 (a component of the Rust toolchain)"
        (cd "$root" && rustup component add "$2")
    fi
}

# Environments of one's own are a Debian package apart.
need_python() {
    if ! command -v python3 >/dev/null || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        missing+=(python3 python3-venv)
    elif ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        fail "the lab needs Python 3.11 or later"
    fi
}

# Debian keeps servers where a user's PATH may not look.
need_servers() {
    PATH=$PATH:/usr/sbin:/sbin
    need_server haproxy haproxy
    need_server nginx-light nginx
    need_server redis-server redis-server
    need_server tor tor
    need_program tor tor-gencert
    need_program curl curl
    need_program wrk wrk
    need_program socat socat
}

# need_server PACKAGE NAME: Debian starts a server when it is installed. None of those is wanted.
need_server() {
    local before=${#missing[@]}
    need_program "$@"
    ((${#missing[@]} == before)) || unwanted+=("$1")
}

# need_program PACKAGE NAME...: any one of the names will do.
need_program() {
    local package=$1 name
    shift
    for name in "$@"; do
        if command -v "$name" >/dev/null; then
            return
        fi
    done
    missing+=("$package")
}

install_missing() {
    if ((${#missing[@]} == 0)); then
        return
    fi
    local by_hand="apt-get install -y ${missing[*]}"
    command -v apt-get >/dev/null ||
        fail "missing: ${missing[*]} (named as in Debian); install them with your system's package manager"
    as_root=()
    if ((EUID == 0)); then
        say "installing: ${missing[*]}"
    elif command -v sudo >/dev/null; then
        say "installing: ${missing[*]} (asking for root through sudo)"
        as_root=(sudo)
    else
        fail "missing: ${missing[*]}; as root, run: apt-get update && $by_hand"
    fi
    apt_get update || fail "apt-get update failed; as root, run: apt-get update && $by_hand"
    keep_tor_from_starting
    apt_get install -y --no-install-recommends "${missing[@]}" || fail "failed: $by_hand"
    leave_none_running
}

# Only what was installed just now: a server that was there before is somebody's.
leave_none_running() {
    local package service
    for package in "${unwanted[@]}"; do
        service=${package%-light}
        say "stopping: $service, which Debian starts when it is installed"
        if [[ -d /run/systemd/system ]]; then
            "${as_root[@]}" systemctl disable --now "$service" || fail "cannot stop $service"
        else
            "${as_root[@]}" service "$service" stop >/dev/null || say "cannot stop $service; perhaps it was not started"
        fi
    done
}

# Debian's package of tor starts a tor of its own at once. The tests start theirs and leave that one
# alone, and a machine that only runs tests should not join the network: masked until this script
# ends, it is not started now. It is enabled, though, and starts with the next boot.
keep_tor_from_starting() {
    if [[ " ${missing[*]} " != *" tor "* || ! -d /run/systemd/system ]]; then
        return
    fi
    trap '"${as_root[@]}" systemctl --runtime --quiet unmask tor.service tor@default.service' EXIT
    "${as_root[@]}" systemctl --runtime --quiet mask tor.service tor@default.service
    say "tor's own service is not started now; it would be at the next boot: systemctl disable tor"
}

# Waits for another apt to finish. The option covers dpkg's lock only; the locks of the package
# lists and of the download folder are refused at once, hence the tries: 5 minutes in all.
apt_get() {
    local log try status
    log=$(mktemp)
    for ((try = 1; try <= 60; try++)); do
        status=0
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C \
            apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" 2>"$log" || status=$?
        cat "$log" >&2
        if ((status == 0)) || ! grep -q 'Could not get lock' "$log"; then
            break
        fi
        say "another program is installing packages; trying again in 5 s"
        sleep 5
    done
    rm -f "$log"
    return "$status"
}

# Debian has no package of it.
need_geckodriver() {
    if [[ -n ${GECKODRIVER:-} || -x $root/.tools/bin/geckodriver ]] || command -v geckodriver >/dev/null; then
        return
    fi
    say "installing: geckodriver $GECKODRIVER_VERSION into .tools (built from source, a few minutes)"
    (cd "$root" && cargo install geckodriver --version "$GECKODRIVER_VERSION" --locked --root .tools)
}

need_cargo_deb() {
    if [[ -x $root/.tools/bin/cargo-deb ]] || command -v cargo-deb >/dev/null; then
        return
    fi
    say "installing: cargo-deb $CARGO_DEB_VERSION into .tools (built from source, a few minutes)"
    (cd "$root" && cargo install cargo-deb --version "$CARGO_DEB_VERSION" --locked --root .tools)
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

main "$@"
