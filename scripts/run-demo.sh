#!/usr/bin/env bash
# Runs the demonstration site with Fortify in front of it until Ctrl-C. Use `make run`, which
# builds both first. PORT chooses another port than 10002.
# shellcheck disable=SC2317  # `stop` and what it calls are reached through the trap
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly programs=${CARGO_TARGET_DIR:-target}/release
readonly port=${PORT:-10002}
readonly gate=127.0.0.1:$port
work=$(mktemp -d)
demo_id=
gate_id=

main() {
    trap stop EXIT
    trap 'say ""; say "stopping"; exit 0' INT TERM
    start_demo
    start_gate
    explain
    # Both run until they are told to stop: the first to end by itself is a failure.
    local status=0
    wait -n "$demo_id" "$gate_id" || status=$?
    fail "a program ended by itself with status $status"
}

# The programs get sessions of their own, so that Ctrl-C reaches this script alone and each of
# them is told to stop once, in order.
start_demo() {
    setsid "$programs/demo-site" --listen 127.0.0.1:0 >"$work/demo.out" &
    demo_id=$!
    for ((i = 0; i < 100; i++)); do
        demo_url=$(sed -n 's/^listening on //p' "$work/demo.out")
        if [[ -n $demo_url ]]; then
            return
        fi
        alive "$demo_id" || fail "the demonstration site did not start"
        sleep 0.1
    done
    fail "the demonstration site did not say its address within 10 s"
}

start_gate() {
    write_config
    # If something else has the port, an answer from it must not pass for the gate's.
    local taken=no
    if answers; then
        taken=yes
    fi
    setsid "$programs/fortify" serve --config "$work/fortify.toml" &
    gate_id=$!
    for ((i = 0; i < 300; i++)); do
        if ! alive "$gate_id"; then
            local status=0
            wait "$gate_id" || status=$?
            fail "Fortify did not start (status $status)"
        fi
        if [[ $taken == no ]] && answers /health; then
            return
        fi
        sleep 0.1
    done
    fail "Fortify did not answer at http://$gate/health within 30 s"
}

write_config() {
    cat >"$work/fortify.toml" <<TOML
[server]
host = "127.0.0.1"
port = $port

[captcha]
difficulty = "low"

[security]
identity = "peer"
max_captcha_failures = 5
reputation_decay_seconds = 60

[storage]
backend = "memory"
data_dir = "$work/data"

[upstream]
url = "$demo_url"

# Operators come in over the socket in data_dir: fortify status.
[admin]
listen = ""
TOML
}

# answers [PATH]: whether something listens at the gate's address and, given a path, says 200.
# Without curl, which a small system may not have.
answers() {
    local rest line=
    {
        exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
    } 2>/dev/null
    if [[ $# -eq 0 ]]; then
        exec 3>&-
        return
    fi
    printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$1" "$gate" >&3
    read -r -t 2 line <&3 || true
    # To its end: closing with unread bytes would look like a broken connection to the gate.
    while read -r -t 2 rest <&3; do :; done
    exec 3>&-
    [[ $line == "HTTP/1."?" 200"* ]]
}

explain() {
    cat <<TEXT

Fortify guards a demonstration site:  http://$gate/

  Open it in a browser (scripts may be off) and solve the challenge.
  Give a wrong answer first: the next challenge comes with a message.
  Sign the guestbook, http://$gate/guestbook: a form that passes through the gate.

  Without a browser:
    curl -i http://$gate/                                  the challenge in place of the page
    curl -s -X POST http://$gate/captcha/generate          a challenge as JSON
    curl -o challenge.png 'http://$gate/api/captcha-image?challenge=new'
    curl -s http://$gate/metrics                           counters and latencies

  Ctrl-C stops both programs.

TEXT
}

# Runs on every way out.
stop() {
    trap '' INT TERM
    end "$gate_id"
    end "$demo_id"
    rm -rf "$work"
}

# end ID: asks a child to stop, waits 15 s for it, then insists.
end() {
    local id=$1
    [[ -n $id ]] || return 0
    kill -TERM "$id" 2>/dev/null || true
    for ((i = 0; i < 150; i++)); do
        alive "$id" || break
        sleep 0.1
    done
    kill -KILL "$id" 2>/dev/null || true
    wait "$id" 2>/dev/null || true
}

alive() {
    kill -0 "$1" 2>/dev/null
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'run-demo: %s\n' "$*" >&2
    exit 1
}

main "$@"
