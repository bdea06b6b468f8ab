#!/usr/bin/env bash
# Writes contact sheets for people to look at: 40 pictures of every task, carrier and level (2, 5, 8).
# TASK-CARRIER-LEVEL.png, and beside it .questions.txt and .answers.txt, numbered alike: write your
# readings down before you open the answers. A sheet of motion is animated and plays all 40 at once
# (open it in a browser); .strip.png has the frames of the first second of four of them, for stills.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-target/sheets}
seed=${SEED:-1}
tasks='distorted_text object_recognition pattern_completion arithmetic color_text_mismatch'

cargo build --release --locked -q -p fortify-captcha --example sheet
sheet=${CARGO_TARGET_DIR:-target}/release/examples/sheet
mkdir -p "$out"
for level in 2 5 8; do
  for task in $tasks; do
    for carrier in ink swirl motion; do
      name=$out/$task-$carrier-$level
      # Columns and scale fit a screen; px of motion are a third of the size that pages show them at.
      case $carrier-$task in
        swirl-arithmetic) continue ;; # sums are not shown in swirl
        ink-*) look='--columns 4' ;;
        swirl-*) look='--columns 3' ;;
        motion-pattern_completion) look="--columns 4 --scale 2 --strip $name.strip.png" ;;
        motion-*) look="--columns 5 --scale 2 --strip $name.strip.png" ;;
      esac
      # shellcheck disable=SC2086
      "$sheet" "$task" "$level" 40 "$seed" "$name.png" --carrier "$carrier" $look \
        --questions "$name.questions.txt" --answers "$name.answers.txt"
    done
  done
done
echo "$out"
