#!/usr/bin/env bash
# HAProxy, nginx, Redis, Fortify and the demonstration site on loopback, in one folder.
#
#   scripts/stack.sh run    until Ctrl-C (make stack)
#   scripts/stack.sh up     starts them and comes back
#   scripts/stack.sh down   stops them (make stack-down)
#   scripts/stack.sh running   whether all of them run
#
# PORT_BASE (10000) is HAProxy's port; nginx has the next, Fortify the one after, then the site, and
# HAProxy's peers 100 above. STACK_DIR is the folder. STORE is "redis" or "memory". DIFFICULTY is
# captcha.difficulty. The configurations are the ones in deploy/; only places differ.
#
# Fortify watches the tor that `make tor` starts in TORNET_DIR, before and after: it need not be there.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
readonly programs=${CARGO_TARGET_DIR:-target}/release
readonly run=${STACK_DIR:-$root/target/stack}
readonly tor=${TORNET_DIR:-$root/target/tornet}/service/control
readonly base=${PORT_BASE:-10000}
readonly haproxy=127.0.0.1:$base nginx=127.0.0.1:$((base + 1)) gate=127.0.0.1:$((base + 2))
readonly site=127.0.0.1:$((base + 3)) peers=127.0.0.1:$((base + 100))
# In the order in which they start; they stop the other way round.
readonly names=(site redis fortify nginx haproxy)
# shellcheck source=scripts/processes.sh
source scripts/processes.sh

main() {
    # nginx and haproxy are where a user's PATH may not look.
    PATH=$PATH:/usr/sbin:/sbin
    case ${1:-} in
        run) run_until_stopped ;;
        up) up && explain ;;
        down) down ;;
        running) all_run ;;
        *) fail "usage: scripts/stack.sh run|up|down|running" ;;
    esac
}

run_until_stopped() {
    up
    trap 'say ""; say "stopping"; exit 0' INT TERM
    explain
    say "  Ctrl-C stops all of them."
    say ""
    while all_run; do
        sleep 0.5
    done
    # `make stack-down`, from elsewhere.
    [[ ! -e $run/stopping ]] || exit 0
    local name
    for name in "${names[@]}"; do
        runs "$name" || fail "$name ended by itself; see $run/$name.log"
    done
}

all_run() {
    local name
    for name in "${names[@]}"; do
        runs "$name" || return 1
    done
}

up() {
    local name address
    for name in "${names[@]}"; do
        ! runs "$name" || fail "it runs already in $run; stop it with: make stack-down"
    done
    for address in "$haproxy" "$nginx" "$gate" "$site" "$peers"; do
        ! accepts "$address" || fail "$address is taken; choose others with PORT_BASE=..."
    done
    for name in haproxy nginx redis-server "$programs/fortify" "$programs/demo-site"; do
        command -v "$name" >/dev/null || fail "$name is missing; run: make stack"
    done
    mkdir -p "$run"
    chmod 700 "$run"
    rm -f "$run/stopping"
    # Whatever happens from here on, nothing is left behind half started.
    trap down EXIT
    start_site
    start_redis
    start_fortify
    start_nginx
    start_haproxy
    [[ ${mode:-} == run ]] || trap - EXIT
}

start_site() {
    begin site "$programs/demo-site" --listen "$site"
    ready site 10 accepts "$site"
}

# Without a port: only who may enter the folder reaches it.
start_redis() {
    cat >"$run/redis.conf" <<CONF
port 0
unixsocket $run/redis.sock
unixsocketperm 700
dir $run
daemonize no
save ""
appendonly no
maxmemory 512mb
maxmemory-policy noeviction
CONF
    begin redis redis-server "$run/redis.conf"
    ready redis 10 accepts "$run/redis.sock"
}

start_fortify() {
    local store=${STORE:-redis}
    {
        cat <<TOML
[server]
host = "${gate%:*}"
port = ${gate##*:}
[captcha]
difficulty = "${DIFFICULTY:-low}"
[session]
secure = "auto"
[haproxy]
socket_path = "$run/haproxy.sock"
[tor]
control = "unix:$tor"
[storage]
data_dir = "$run/data"
backend = "$store"
TOML
        if [[ $store == redis ]]; then
            say "url = \"unix://$run/redis.sock\""
        fi
    } >"$run/fortify.toml"
    "$programs/fortify" check-config --config "$run/fortify.toml" >/dev/null
    begin fortify "$programs/fortify" serve --config "$run/fortify.toml"
    ready fortify 30 accepts "$gate"
}

start_nginx() {
    local places=$run/nginx/nginx-places
    mkdir -p "$places" "$run/nginx/tmp"
    ln -sfn "$root/deploy/nginx.conf" "$run/nginx/nginx.conf"
    {
        say "pid $run/nginx/nginx.pid;"
        # The folder is nobody's but ours. As root, workers would become somebody else.
        ((EUID != 0)) || say "user root;"
    } >"$places/main.conf"
    {
        say "upstream fortify { server $gate; keepalive 32; }"
        say "upstream service { server $site; keepalive 32; }"
        local kind
        for kind in client_body proxy fastcgi uwsgi scgi; do
            say "${kind}_temp_path $run/nginx/tmp/$kind;"
        done
    } >"$places/http.conf"
    {
        say "listen $nginx backlog=1024;"
        say "set \$static_pages $root/deploy/static;"
    } >"$places/server.conf"
    begin nginx nginx -e stderr -p "$run/nginx" -c "$run/nginx/nginx.conf" -g 'daemon off;'
    ready nginx 10 accepts "$nginx"
}

start_haproxy() {
    begin haproxy env FORTIFY_INGRESS="$haproxy" FORTIFY_BACKEND="$nginx" \
        FORTIFY_STATS_SOCKET="$run/haproxy.sock" FORTIFY_PEERS_BIND="$peers" \
        haproxy -db -f deploy/haproxy.cfg
    ready haproxy 10 accepts "$haproxy"
}

# Runs on every way out of `run`, and of an `up` that failed.
down() {
    trap '' INT TERM
    local i
    [[ ! -d $run ]] || : >"$run/stopping"
    for ((i = ${#names[@]} - 1; i >= 0; i--)); do
        end "${names[i]}"
    done
}

explain() {
    cat <<TEXT

  tor  -> HAProxy  $haproxy   reads PROXY lines; a plain browser is refused here
       -> nginx    $nginx   asks Fortify about every request
       -> Fortify  $gate   challenges; sessions; /ready and /metrics for you
       -> site     $site   what is protected
  logs, sockets, keys:  $run

  As tor's circuit 25, through HAProxy and nginx (the first is a challenge in place of the page):
    printf 'PROXY TCP6 fc00:dead:beef:4dad::0:19 ::1 25 80\r\nGET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' | socat -t 5 - TCP:$haproxy
    curl -i --haproxy-protocol http://$haproxy/                     refused: not from tor
    curl -i -H 'X-Circuit-ID: fc00:dead:beef:4dad::19' http://$nginx/   what HAProxy sends
    curl -i -H 'X-Circuit-ID: fc00:dead:beef:4dad::19' http://$nginx/_fortify/challenge.html

  A real onion service in front, on a Tor network of its own:  make tor
  Fortify watches its tor, and says "tor":"degraded" in /ready until it runs:
    $programs/fortify tor status --config $run/fortify.toml

TEXT
}

readonly mode=${1:-}
main "$@"
