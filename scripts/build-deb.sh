#!/usr/bin/env bash
# Builds the Debian package, and prints where it is.
#
#   scripts/build-deb.sh [VERSION] [FOLDER]
#
# VERSION is the package's (by default the program's, with revision 1), FOLDER where it goes (by default
# target/debian). The program is built first unless PROGRAM names one. With the same commit, toolchain and
# Debian release the package is the same bytes (SOURCE_DATE_EPOCH: by default the commit's time).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PWD/.tools/bin:$PATH
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# Where [package.metadata.deb] looks for what is not in the repository: target/release/package.
readonly target stage=$target/release/package
version=${1:-}
folder=$(realpath -m "${2:-$target/debian}")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

main() {
    command -v cargo-deb >/dev/null || fail "cargo-deb is missing: make setup-deb"
    command -v dpkg-shlibdeps >/dev/null || fail "dpkg-shlibdeps is missing: apt-get install dpkg-dev"
    if [[ -n ${PROGRAM:-} ]]; then
        install -D -m 0755 "$PROGRAM" "$target/release/fortify"
    else
        cargo build --release --locked -p fortify
    fi
    if [[ -z $version ]]; then
        version=$("$target/release/fortify" --version | cut -d ' ' -f 2)-1
    fi
    write_stage
    mkdir -p "$folder"
    # Modes of folders are part of the package.
    umask 022
    cargo deb --quiet --no-build --locked -p fortify --deb-version "$version" --output "$folder"
}

# What is made from other files: the program's own pages, and what differs where it is packaged.
write_stage() {
    rm -rf "$stage"
    mkdir -p "$stage"
    "$target/release/fortify" generate-docs "$stage" >/dev/null
    gzip -9n "$stage"/man/*.1
    # By hand it is installed in /usr/local, packaged not; and who made the user is another.
    sed -e 's|/usr/local/bin/fortify|/usr/bin/fortify|' \
        -e '1,/^$/c\# Fortify as a service. To change it: systemctl edit fortify. /usr/share/doc/fortify/install.md has\n# what HAProxy, nginx, Redis and tor need.\n' \
        deploy/systemd/fortify.service >"$stage/fortify.service"
    {
        printf 'fortify (%s) stable; urgency=medium\n\n' "$version"
        printf '  * /usr/share/doc/fortify/CHANGELOG.md says what is new.\n\n'
        printf ' -- The Fortify developers <maintainers@fortify.invalid>  %s\n' \
            "$(LC_ALL=C date --utc --date "@$SOURCE_DATE_EPOCH" --rfc-email)"
    } | gzip -9n >"$stage/changelog.Debian.gz"
}

fail() {
    printf 'build-deb: %s\n' "$*" >&2
    exit 1
}

main
