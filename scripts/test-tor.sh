#!/usr/bin/env bash
# Tests over an onion service, on a Tor network of its own (make test-tor). All it makes is in one
# folder under the build directory; the network's keys stay there, so that the next run is quicker.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly build=${CARGO_TARGET_DIR:-$PWD/target}
export TORNET_DIR=${TORNET_DIR:-$build/tor-tests}
export TORNET_PORT=${TORNET_PORT:-15000}
ingress=127.0.0.1:$((TORNET_PORT + 201))
export TARGET=$ingress

# Built first: nobody should wait for a compiler with a network running.
${CARGO:-cargo} test --locked -p fortify --test onion --no-run
trap './scripts/tornet.sh down' EXIT
timeout 300 ./scripts/tornet.sh up
FORTIFY_TEST_INGRESS=$ingress \
    FORTIFY_TEST_SOCKS=127.0.0.1:$((TORNET_PORT + 200)) \
    FORTIFY_TEST_ONION=$(cat "$TORNET_DIR/service/site/hostname") \
    timeout 240 "${CARGO:-cargo}" test --locked -p fortify --test onion -- --ignored --test-threads=1
