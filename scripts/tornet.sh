#!/usr/bin/env bash
# A Tor network of its own on loopback: four authorities, two relays, an onion service in front of the
# stack, and a client. It needs nothing from outside and reaches nothing outside.
#
#   scripts/tornet.sh up       starts it; the last lines say the address and how to reach it (make tor)
#   scripts/tornet.sh down     stops it (make tor-down)
#   scripts/tornet.sh restart  stops the onion service's tor and the client's, and starts them again: circuit
#                              numbers start again
#
# TORNET_DIR is the folder; its keys are kept, so the address stays, and no more.
# TARGET is where the service sends its visitors (127.0.0.1:10000, the stack's HAProxy). TORNET_PORT is
# the first of the ports that are used (15000).
#
# The service's configuration is deploy/torrc, with its places put into TORNET_DIR. A start takes about
# 25 s, because authorities vote, and up to a minute on a busy machine. About 460 MiB.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly run=${TORNET_DIR:-$PWD/target/tornet}
readonly target=${TARGET:-127.0.0.1:${PORT_BASE:-10000}}
readonly port=${TORNET_PORT:-15000}
readonly authorities=(a0 a1 a2 a3) relays=(a0 a1 a2 a3 r0 r1)
readonly socks=127.0.0.1:$((port + 200))
# shellcheck source=scripts/processes.sh
source scripts/processes.sh

main() {
    PATH=$PATH:/usr/sbin:/sbin
    case ${1:-} in
        up) up ;;
        down) down ;;
        restart) restart ;;
        *) fail "usage: scripts/tornet.sh up|down|restart" ;;
    esac
}

up() {
    local name number
    for name in tor tor-gencert curl; do
        command -v "$name" >/dev/null || fail "$name is missing; run: make setup"
    done
    for name in "${relays[@]}" service client; do
        ! runs "$name" || fail "it runs already in $run; stop it with: make tor-down"
    done
    for number in 0 1 2 3 4 5 100 101 102 103 200; do
        ! accepts "127.0.0.1:$((port + number))" ||
            fail "port $((port + number)) is taken; choose others with TORNET_PORT=..."
    done
    umask 077
    mkdir -p "$run"
    trap down EXIT
    forget
    make_keys
    configure
    for name in "${relays[@]}"; do
        start "$name"
    done
    # Who asks before there is a consensus backs off for tens of seconds: the rest starts after it.
    within 120 has_consensus || fail "the authorities did not agree within 120 s; see $run/a0.log"
    start_site
    trap - EXIT
    explain
}

down() {
    trap '' INT TERM
    local name id
    # All are told before the first is waited for.
    for name in client service "${relays[@]}"; do
        if runs "$name"; then
            read -r id _ <"$run/$name.pid"
            kill -TERM "$id" 2>/dev/null || true
        fi
    done
    for name in client service "${relays[@]}"; do
        end "$name"
    done
}

# The client's tor too, and it starts last. One that ran before knows the descriptor of the service's former
# tor: an introduction point takes what the client sends to a circuit that is gone, and the client waits two
# minutes for an answer before it looks for a newer descriptor.
restart() {
    end client
    end service
    start_site
}

# The service, and a client that looks for it once it can be found.
start_site() {
    start service
    within 60 bootstrapped service || fail "the service's tor did not start; see $run/service.log"
    within 60 published || fail "the onion service did not publish where it is; see $run/service.log"
    test -s "$run/service/site/hostname" || fail "there is no onion address"
    start client
    within 60 bootstrapped client || fail "the client's tor did not start; see $run/client.log"
    within 120 reachable || fail "the onion service was not reached within 120 s"
}

# What was known of a former network, of which nobody is where it was if ports are others; keys stay.
forget() {
    local name
    for name in "${relays[@]}" service client; do
        [[ ! -d $run/$name ]] || find "$run/$name" -mindepth 1 -maxdepth 1 ! -name keys ! -name site -exec rm -r {} +
    done
}

# An authority signs with a key that a program of its own makes, and everybody knows it by that key and
# by its relay's.
make_keys() {
    local name i making=()
    for ((i = 0; i < ${#authorities[@]}; i++)); do
        name=${authorities[i]}
        mkdir -p "$run/$name/keys"
        if [[ ! -s $run/$name/keys/authority_certificate ]]; then
            make_authority "$run/$name/keys" "127.0.0.1:$((port + 100 + i))" &
            making+=("$!")
        fi
    done
    for i in "${making[@]}"; do
        wait "$i" || fail "tor-gencert failed; see $run/*/keys/made.log"
    done
    : >"$run/authorities.conf"
    for ((i = 0; i < ${#authorities[@]}; i++)); do
        name=${authorities[i]}
        printf 'DirAuthority %s orport=%s no-v2 v3ident=%s 127.0.0.1:%s %s\n' "$name" "$((port + i))" \
            "$(awk '/^fingerprint/ { print $2 }' "$run/$name/keys/authority_certificate")" \
            "$((port + 100 + i))" "$(fingerprint "$name")" >>"$run/authorities.conf"
    done
}

# make_authority FOLDER ADDRESS
make_authority() {
    cd "$1"
    echo unused | tor-gencert --create-identity-key --passphrase-fd 0 -m 12 -a "$2" \
        -i authority_identity_key -s authority_signing_key -c authority_certificate >made.log 2>&1
}

# fingerprint NAME: of its relay key, which is made by asking. An authority is named to it, whichever,
# because without one tor would name the real ones.
fingerprint() {
    tor --ignore-missing-torrc -f "$run/none" --quiet --list-fingerprint --orport 1 \
        --datadirectory "$run/$1" --nickname "$1" \
        --dirauthority "x 127.0.0.1:1 ffffffffffffffffffffffffffffffffffffffff" |
        tail -n 1 | cut -d ' ' -f 2- | tr -d ' '
}

configure() {
    local i
    for ((i = 0; i < ${#relays[@]}; i++)); do
        write_relay "${relays[i]}" "$i"
    done
    mkdir -p "$run/service" "$run/client"
    {
        common service
        # Says of each descriptor when its upload begins and when a directory has taken it (published).
        printf '%s\n' 'Log [rend]info stdout'
        # The very file that is shipped, in this folder.
        sed -e "s|/var/lib/tor/site|$run/service/site|" \
            -e "s|127\.0\.0\.1:10000|$target|" \
            -e "s|/run/tor/|$run/service/|" \
            -e "s|^DataDirectory .*|DataDirectory $run/service|" \
            -e "/^Log /d" deploy/torrc
    } >"$run/service.conf"
    {
        common client
        cat <<TORRC
DataDirectory $run/client
SocksPort $socks
ControlPort unix:$run/client/control
CookieAuthentication 1
TORRC
    } >"$run/client.conf"
}

# write_relay NAME NUMBER
write_relay() {
    mkdir -p "$run/$1"
    {
        common "$1"
        cat <<TORRC
DataDirectory $run/$1
SocksPort 0
Nickname $1
ContactInfo none@example.invalid
ORPort 127.0.0.1:$((port + $2)) IPv4Only
AssumeReachable 1
ExitRelay 0
TORRC
        if [[ $1 == a* ]]; then
            cat <<TORRC
DirPort 127.0.0.1:$((port + 100 + $2))
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
TestingV3AuthInitialVotingInterval 10
TestingV3AuthInitialVoteDelay 3
TestingV3AuthInitialDistDelay 3
V3AuthVotingInterval 20
V3AuthVoteDelay 4
V3AuthDistDelay 4
TORRC
        fi
    } >"$run/$1.conf"
}

# common NAME: a network of few, who vote often and believe that they can be reached.
common() {
    cat <<TORRC
TestingTorNetwork 1
PathsNeededToBuildCircuits 0.67
TestingDirAuthVoteExit *
TestingDirAuthVoteHSDir *
TestingDirAuthVoteGuard *
TestingMinExitFlagThreshold 0
V3AuthNIntervalsValid 2
Address 127.0.0.1
Log notice stdout
LogTimeGranularity 1
ShutdownWaitLength 1
RunAsDaemon 0
TORRC
    cat "$run/authorities.conf"
}

start() {
    begin "$1" tor --hush --defaults-torrc /dev/null -f "$run/$1.conf"
}

has_consensus() {
    local there
    there=$(curl -s -m 2 "http://127.0.0.1:$((port + 100))/tor/status-vote/current/consensus-microdesc" |
        grep -c '^s .*Running') || true
    [[ $there == "${#relays[@]}" ]]
}

bootstrapped() {
    grep -q 'Bootstrapped 100%' "$run/$1.log"
}

# Whether the directories have every descriptor that this run of the service's tor began to upload: its log
# begins anew with each start.
published() {
    local begun taken
    begun=$(grep -c 'initiated upload request' "$run/service.log") || true
    taken=$(grep -c '): Uploaded hidden service descriptor (status 200' "$run/service.log") || true
    ((begun > 0 && begun == taken))
}

# Any answer will do: the challenge is a 403. Where nothing listens at the target yet, the service is
# there all the same: the client then says 1 or 5 (failed, refused), and not 4 or 6 (unreachable).
reachable() {
    local status=0 error
    error=$(curl -sS -m 15 -o /dev/null --proxy "socks5h://probe:x@$socks" "http://$(onion)/" 2>&1) ||
        status=$?
    [[ $status == 0 || $status == 52 || $status == 97 && $error == *". ("[15]")" ]]
}

onion() {
    cat "$run/service/site/hostname"
}

explain() {
    cat <<TEXT

  onion address  $(onion)
  SOCKS port     $socks
  control port   $run/service/control (the service's tor)

  curl -i --proxy socks5h://$socks http://$(onion)/
  Another visitor, on a circuit of its own: --proxy socks5h://bob:x@$socks
  A browser reaches it with this SOCKS port and remote DNS.

TEXT
}

main "$@"
