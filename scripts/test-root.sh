#!/usr/bin/env bash
# The tests that need root (make test-root, also part of make test): those of the modules `as_root`. Where this is
# not root, says how many are left out.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

tests() {
    "${CARGO:-cargo}" test --workspace --locked --lib --bins --tests as_root -- --ignored "$@"
}

if ((EUID == 0)); then
    tests
else
    left_out=$(tests --list --format terse | grep -c ': test$')
    printf 'LEFT OUT: %s tests that need root; as root: make test-root\n' "$left_out"
fi
