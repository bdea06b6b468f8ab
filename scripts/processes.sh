# shellcheck shell=bash disable=SC2154  # `run` is the sourcing script's
# Starting and ending programs, for scripts that source this. A program is named by a file in the folder
# "$run": NAME.pid holds its process id and when that process began, because ids are used again and
# nothing but what was started here may be ended. NAME.log holds what it says.

# begin NAME PROGRAM [ARGUMENT...]: starts a program that stays in the foreground. In a session of its
# own, so that Ctrl-C in a terminal reaches the script alone and each program is told to stop once.
begin() {
    local name=$1
    shift
    setsid "$@" >"$run/$name.log" 2>&1 </dev/null &
    note "$name" "$!"
}

# note NAME ID: remembers a process.
note() {
    printf '%s %s\n' "$2" "$(began "$2")" >"$run/$1.pid"
}

# began ID: when a process began, in ticks since the machine did; nothing where there is none.
began() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    # Past the name, which may hold anything, a zombie counts as ended; the 20th field is the time.
    read -ra stat <<<"${stat##*) }"
    [[ ${stat[0]} == Z ]] || printf '%s' "${stat[19]}"
}

# runs NAME: whether the process that was noted still runs.
runs() {
    local id since
    [[ -e $run/$1.pid ]] || return 1
    read -r id since <"$run/$1.pid"
    [[ -n $since && $(began "$id") == "$since" ]]
}

# end NAME: asks a program to stop, waits 15 s for it, then insists.
end() {
    local id
    [[ -e $run/$1.pid ]] || return 0
    read -r id _ <"$run/$1.pid"
    if runs "$1"; then
        kill -TERM "$id" 2>/dev/null || true
        within 15 ended "$1" || kill -KILL "$id" 2>/dev/null || true
    fi
    rm -f "$run/$1.pid"
}

ended() {
    ! runs "$1"
}

# within SECONDS COMMAND [ARGUMENT...]: tries every 0.1 s until the command succeeds.
within() {
    local until=$((SECONDS + $1 + 1))
    shift
    until "$@"; do
        ((SECONDS < until)) || return 1
        sleep 0.1
    done
}

# ready NAME SECONDS COMMAND [ARGUMENT...]: waits until a program that was begun does its work.
ready() {
    local name=$1 seconds=$2
    shift 2
    within "$seconds" answers_or_ended "$name" "$@" && runs "$name" && return
    printf '%s\n' "--- $name.log" >&2
    tail -n 20 "$run/$name.log" >&2 || true
    fail "$name did not start within $seconds s"
}

answers_or_ended() {
    local name=$1
    shift
    "$@" || ! runs "$name"
}

# accepts HOST:PORT or accepts /PATH: whether somebody listens there.
accepts() {
    if [[ $1 == /* ]]; then
        [[ -S $1 ]]
    else
        (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null
    fi
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2
    exit 1
}
