#!/usr/bin/env bash
# Writes contact sheets for people to look at: 40 pictures of every task, carrier and level (2, 5, 8),
# answers beside them in a file of their own. Of motion, which no still shows, a few animated files.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-target/sheets}
seed=${SEED:-1}
tasks='distorted_text object_recognition pattern_completion arithmetic color_text_mismatch'
# Sums are not shown in swirl.
carried="$(printf '%s:motion ' $tasks)$(printf '%s:swirl ' ${tasks/arithmetic/})"

cargo build --release --locked -q -p fortify-captcha --example sheet -p fortify --bin fortify
target=${CARGO_TARGET_DIR:-target}/release
mkdir -p "$out"
for level in 2 5 8; do
  for task in $tasks; do
    "$target/examples/sheet" "$task" "$level" 40 "$seed" "$out/$task-ink-$level.png" \
      --columns 4 --questions --answers > "$out/$task-ink-$level.answers.txt"
  done
  for pair in $carried; do
    task=${pair%:*} carrier=${pair#*:}
    if [ "$carrier" = motion ]; then
      "$target/fortify" render --variant "$task" --carrier motion --level "$level" --count 6 \
        --seed "$(printf '%x' "$seed")" --out "$out/$task-motion-$level" > /dev/null
    else
      "$target/examples/sheet" "$task" "$level" 40 "$seed" "$out/$task-$carrier-$level.png" \
        --carrier "$carrier" --columns 3 --questions --answers \
        > "$out/$task-$carrier-$level.answers.txt"
    fi
  done
done
echo "$out"
