#!/usr/bin/env bash
# Builds what is released from a commit: the program, the Debian package, their checksums. Everything is
# built twice, in two folders, and refused unless both are the same bytes.
#
#   scripts/release.sh [COMMIT] [FOLDER]
#
# COMMIT is HEAD by default, FOLDER target/dist. Who has the same commit, Rust toolchain (rust-toolchain or
# rustc --version in the output), C compiler and Debian release gets the same checksums.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
commit=${1:-HEAD}
out=$(realpath -m "${2:-${CARGO_TARGET_DIR:-target}/dist}")
work=

main() {
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct "$commit")
    export SOURCE_DATE_EPOCH CARGO_INCREMENTAL=0
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # Folders whose names differ in length too.
    build "$work/one"
    build "$work/another/place"
    (cd "$work/one/out" && sha256sum -- *) >"$work/SHA256SUMS"
    (cd "$work/another/place/out" && sha256sum --check --strict --quiet "$work/SHA256SUMS") ||
        fail "two builds of one commit differ: look at them with diffoscope"
    rm -rf "$out"
    mkdir -p "$out"
    cp "$work"/one/out/* "$work/SHA256SUMS" "$out"
    {
        printf 'commit %s\n' "$(git rev-parse "$commit")"
        rustc --version
        cc --version | head -n 1
    } | tee "$out/BUILD"
    cat "$out/SHA256SUMS"
    printf 'twice the same; in %s\n' "$out"
}

# build FOLDER: from a copy of the commit alone, so that nothing else can get in.
build() {
    local folder=$1 version name
    mkdir -p "$folder/source" "$folder/out"
    git archive "$commit" | tar -x -C "$folder/source"
    cd "$folder/source"
    # Where things are on this machine is nobody's business, and would make every machine's bytes its own.
    local -a places=(
        "$folder/source=/fortify" "$folder/target=/target"
        "${CARGO_HOME:-$HOME/.cargo}=/cargo" "$(rustc --print sysroot)=/rust"
    )
    export CARGO_TARGET_DIR=$folder/target
    export RUSTFLAGS="${places[*]/#/--remap-path-prefix=}"
    export CFLAGS="${places[*]/#/-ffile-prefix-map=}"
    PATH=$root/.tools/bin:$PATH ./scripts/build-deb.sh "" "$folder/out" >/dev/null
    version=$("$CARGO_TARGET_DIR/release/fortify" --version | cut -d ' ' -f 2)
    name=fortify-$version-$(rustc --print host-tuple 2>/dev/null || uname -m)
    mkdir -p "$folder/$name"
    cp -r README.md CHANGELOG.md SECURITY.md LICENSE-* fortify.toml deploy docs "$folder/$name"
    cp -r "$CARGO_TARGET_DIR/release/fortify" "$CARGO_TARGET_DIR"/release/package/{man,completions} "$folder/$name"
    tar -C "$folder" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --mode=go=rX,u=rwX -cf - "$name" | gzip -9n >"$folder/out/$name.tar.gz"
    cd "$root"
    unset CARGO_TARGET_DIR RUSTFLAGS CFLAGS
}

fail() {
    printf 'release: %s\n' "$*" >&2
    exit 1
}

main
