#!/usr/bin/env bash
# The browser suite on a busy machine (make test-busy): RUNS times (5), beside LOOPS busy loops (6), each run
# within LIMIT seconds (1800). All runs are made; the exit status says whether all passed. What failed is in
# target/test-busy.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly runs=${RUNS:-5} loops=${LOOPS:-6} limit=${LIMIT:-1800}
readonly logs=${CARGO_TARGET_DIR:-$PWD/target}/test-busy
busy=()

main() {
    local run status failed=0 started
    mkdir -p "$logs"
    # Built first, on a machine that is not busy yet.
    "${CARGO:-cargo}" test --workspace --locked --test gate --test demo_site --no-run
    trap stop_loops EXIT
    start_loops
    for ((run = 1; run <= runs; run++)); do
        started=$SECONDS status=0
        timeout "$limit" "${CARGO:-cargo}" test --workspace --locked --test gate --test demo_site --no-fail-fast >"$logs/$run.log" 2>&1 || status=$?
        printf 'run %s of %s beside %s busy loops: %s in %s s (%s; load %s)\n' "$run" "$runs" "$loops" \
            "$( ((status == 0)) && echo passed || echo "FAILED ($status)")" "$((SECONDS - started))" \
            "$logs/$run.log" "$(cut -d' ' -f1 /proc/loadavg)"
        if ((status != 0)); then
            failed=$((failed + 1))
            grep -E '^(test .*FAILED|Error:|thread .* panicked)' -A 2 "$logs/$run.log" || true
        fi
    done
    ((failed == 0))
}

# A loop ends with this script too, should that be killed before it stops them.
start_loops() {
    local loop
    for ((loop = 0; loop < loops; loop++)); do
        (while [[ -d /proc/$$ ]]; do for ((i = 0; i < 100000; i++)); do :; done; done) &
        busy+=("$!")
    done
}

stop_loops() {
    kill "${busy[@]}" 2>/dev/null || true
    wait "${busy[@]}" 2>/dev/null || true
}

main
