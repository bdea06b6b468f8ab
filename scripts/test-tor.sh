#!/usr/bin/env bash
# Tests over an onion service, on a Tor network of its own (make test-tor): less than a minute. All it
# makes is in one folder under the build directory. Its ports are free ones, from TORNET_PORT on where
# that is set.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly build=${CARGO_TARGET_DIR:-$PWD/target}
export TORNET_DIR=${TORNET_DIR:-$build/tor-tests}
readonly run=$TORNET_DIR
# shellcheck source=scripts/processes.sh
source scripts/processes.sh

main() {
    # Built first: nobody should wait for a compiler with a network running. As a part of the workspace, so that it
    # is what make test has built: the features of dependencies are those of all that is built together.
    "${CARGO:-cargo}" test --workspace --locked --test it --no-run
    export TORNET_PORT=${TORNET_PORT:-$(free_ports)}
    export TARGET=127.0.0.1:$((TORNET_PORT + 201))
    trap './scripts/tornet.sh down' EXIT
    timeout 300 ./scripts/tornet.sh up
    FORTIFY_TEST_INGRESS=$TARGET \
        FORTIFY_TEST_SOCKS=127.0.0.1:$((TORNET_PORT + 200)) \
        FORTIFY_TEST_CONTROL=$TORNET_DIR/service/control \
        FORTIFY_TEST_ONION=$(cat "$TORNET_DIR/service/site/hostname") \
        timeout 240 "${CARGO:-cargo}" test --workspace --locked --test it onion:: -- --ignored --test-threads=1
}

# The first of ports that nobody listens on, below those that the system gives away by itself.
free_ports() {
    local try base number
    for ((try = 0; try < 50; try++)); do
        base=$((15000 + RANDOM % 58 * 300))
        for number in 0 1 2 3 4 5 100 101 102 103 200 201; do
            ! accepts "127.0.0.1:$((base + number))" || continue 2
        done
        say "$base"
        return
    done
    fail "no free ports from 15000 to 32400; choose some with TORNET_PORT=..."
}

main "$@"
