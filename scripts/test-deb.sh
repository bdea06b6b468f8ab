#!/usr/bin/env bash
# Builds the Debian package twice, as an older and as this version, and does with them in a clean Debian
# what operators do: installs, starts, bans, upgrades, removes, purges. Needs root, for chroot.
#
#   scripts/test-deb.sh [PACKAGE]   PACKAGE in place of building this version
#
# The clean Debian comes from debootstrap, once: target/debian/bookworm.tar is used again. There is no
# systemd in it, so the unit's own commands are run as the unit's user.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin
out=$(realpath -m "${CARGO_TARGET_DIR:-target}/debian")
readonly out suite=bookworm circuit=fc00:dead:beef:4dad::19
readonly older=0.0.1-1
work=
gate=

main() {
    ((EUID == 0)) || fail "needs root, for chroot: sudo make test-deb"
    command -v debootstrap >/dev/null || fail "debootstrap is missing: make setup-deb"
    mkdir -p "$out"
    work=$(mktemp -d)
    trap clean_up EXIT
    build "$@"
    step "lintian finds no error"
    lintian --allow-root --fail-on error --suppress-tags bogus-mail-host "$work/new.deb"
    plant
    install_older
    start
    step "keys and a ban are made"
    as_fortify circuits ban "$circuit" --seconds 86000
    has_ban
    keys=$(sha256sum <"$tree/var/lib/fortify/keys.json")
    stop
    upgrade
    remove
    purge
    say "the package installs, starts, upgrades, goes and leaves nothing behind"
}

build() {
    step "the packages are built"
    PROGRAM='' ./scripts/build-deb.sh "$older" "$work/old" >/dev/null
    if (($# > 0)); then
        cp "$1" "$work/new.deb"
    else
        ./scripts/build-deb.sh "" "$work/new" >/dev/null
        mv "$work"/new/*.deb "$work/new.deb"
    fi
    mv "$work"/old/*.deb "$work/old.deb"
    version=$(dpkg-deb -f "$work/new.deb" Version)
    dpkg --compare-versions "$older" lt "$version" || fail "$version is not newer than $older"
}

plant() {
    tree=$work/tree
    mkdir "$tree"
    if [[ ! -e $out/$suite.tar ]]; then
        step "debootstrap: a clean Debian, a minute or two"
        debootstrap --variant=minbase "$suite" "$tree" >"$work/debootstrap.log" 2>&1 ||
            fail "debootstrap: $(tail -n 3 "$work/debootstrap.log")"
        rm -rf "$tree"/var/cache/apt/archives/*.deb
        tar -C "$tree" -cf "$out/$suite.tar.part" .
        mv "$out/$suite.tar.part" "$out/$suite.tar"
    else
        tar -C "$tree" -xf "$out/$suite.tar"
    fi
}

install_older() {
    step "it installs, with what it promises"
    dpkg_in --install "$work/old.deb"
    is_installed "$older"
    in_tree getent passwd fortify | grep -q ':/nonexistent:/usr/sbin/nologin$' || fail "no user fortify"
    has_mode 700 fortify:fortify /var/lib/fortify
    has_mode 755 root:root /usr/bin/fortify
    has_mode 644 root:root /lib/systemd/system/fortify.service
    has_mode 640 root:fortify /etc/fortify/fortify.toml
    local file
    for file in /etc/fortify/static/challenge.html /usr/share/man/man1/fortify.1.gz \
        /usr/share/man/man1/fortify-circuits-ban.1.gz /usr/share/bash-completion/completions/fortify \
        /usr/share/zsh/vendor-completions/_fortify /usr/share/fish/vendor_completions.d/fortify.fish \
        /usr/share/fortify/{torrc,haproxy.cfg,nginx.conf,nginx-places/http.conf} \
        /usr/share/fortify/{prometheus/fortify.rules.yml,grafana/fortify.json} \
        /usr/share/doc/fortify/{copyright,operator-guide.md,install.md,upgrade.md}; do
        [[ -s $tree$file ]] || fail "$file is not in the package"
    done
    [[ -L $tree/etc/systemd/system/multi-user.target.wants/fortify.service ]] || fail "not enabled"
    in_tree dpkg-query --show --showformat='${Conffiles}\n' fortify |
        grep -q /etc/fortify/fortify.toml || fail "fortify.toml is no conffile"
    # As it is in the repository.
    cmp fortify.toml "$tree/etc/fortify/fortify.toml"
}

# Runs what the unit runs, as its user, on a port that the kernel chooses.
start() {
    step "it starts with the configuration that it came with"
    local unit=$tree/lib/systemd/system/fortify.service check command user
    user=$(sed -n 's/^User=//p' "$unit")
    check=$(sed -n 's/^ExecStartPre=//p' "$unit")
    command=$(sed -n 's/^ExecStart=//p' "$unit")
    # shellcheck disable=SC2086  # words on purpose
    chroot --userspec="$user:$user" "$tree" $check >/dev/null
    # shellcheck disable=SC2086
    FORTIFY__SERVER__PORT=0 chroot --userspec="$user:$user" "$tree" $command 2>"$work/log" &
    gate=$!
    local address='' metrics tries
    for ((tries = 0; tries < 300; tries++)); do
        address=$(grep -oE '127\.0\.0\.1:[0-9]+' "$work/log" | head -n 1 || true)
        if [[ -n $address ]] && curl -fs "http://$address/ready" >/dev/null; then
            # Not into a pipe: grep -q ends before curl has written everything.
            metrics=$(curl -fs "http://$address/metrics")
            [[ $metrics == *fortify_build_info* ]] || fail "no metrics"
            return
        fi
        kill -0 "$gate" 2>/dev/null || break
        sleep 0.1
    done
    fail "it does not become ready: $(cat "$work/log")"
}

stop() {
    kill -TERM "$gate"
    wait "$gate" || fail "it did not end well: $(cat "$work/log")"
    gate=
}

upgrade() {
    step "an upgrade keeps keys, bans and what the operator changed"
    printf '# The operator was here.\n' >>"$tree/etc/fortify/fortify.toml"
    dpkg_in --install "$work/new.deb"
    is_installed "$version"
    [[ $(sha256sum <"$tree/var/lib/fortify/keys.json") == "$keys" ]] || fail "other keys"
    [[ $(tail -n 1 "$tree/etc/fortify/fortify.toml") == '# The operator was here.' ]] ||
        fail "the configuration was replaced"
    has_mode 640 root:fortify /etc/fortify/fortify.toml
    start
    has_ban
    stop
}

remove() {
    step "removing keeps keys, bans and configuration"
    dpkg_in --remove fortify
    [[ ! -e $tree/usr/bin/fortify ]] || fail "the program is still there"
    [[ -e $tree/var/lib/fortify/keys.json && -e $tree/etc/fortify/fortify.toml ]] || fail "lost"
    dpkg_in --install "$work/new.deb"
    [[ $(sha256sum <"$tree/var/lib/fortify/keys.json") == "$keys" ]] || fail "other keys"
    has_ban
}

purge() {
    step "purging leaves nothing, and asks nothing"
    dpkg_in --purge fortify
    local left
    left=$(find "$tree/var/lib/fortify" "$tree/etc/fortify" "$tree/usr/share/fortify" \
        "$tree/etc/systemd/system/multi-user.target.wants/fortify.service" 2>/dev/null || true)
    [[ -z $left ]] || fail "left behind: $left"
    ! in_tree getent passwd fortify >/dev/null || fail "the user is still there"
}

in_tree() {
    chroot "$tree" "$@"
}

as_fortify() {
    chroot --userspec=fortify:fortify "$tree" /usr/bin/fortify "$@"
}

# Nobody is there to answer a question: one ends this, after a minute.
dpkg_in() {
    local last=${*: -1}
    if [[ -f $last ]]; then
        cp "$last" "$tree/package.deb"
        set -- "${@:1:$#-1}" /package.deb
    fi
    DEBIAN_FRONTEND=noninteractive LC_ALL=C timeout 60 chroot "$tree" dpkg "$@" \
        </dev/null >"$work/dpkg.log" 2>&1 || fail "dpkg $*: $(cat "$work/dpkg.log")"
}

is_installed() {
    local got
    got=$(in_tree dpkg-query --show --showformat='${Status} ${Version}' fortify)
    [[ $got == "install ok installed $1" ]] || fail "$got"
}

has_mode() {
    local got
    got=$(in_tree stat --format '%a %U:%G' "$3")
    [[ $got == "$1 $2" ]] || fail "$3 is $got, not $1 $2"
}

has_ban() {
    as_fortify circuits list --show-circuits | grep -F "$circuit" | grep -qi ban ||
        fail "the ban is gone: $(as_fortify circuits list --show-circuits)"
}

step() {
    say "- $*"
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'test-deb: %s\n' "$*" >&2
    exit 1
}

clean_up() {
    [[ -z $gate ]] || kill "$gate" 2>/dev/null || true
    rm -rf "$work"
}

main "$@"
