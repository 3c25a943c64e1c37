#!/usr/bin/env bash
# git-loop.sh FOLDER: commits and collects garbage until standard input is closed; then the repository must be whole and hold every commit.
set -euo pipefail
git init -q "$1"
cd "$1"
git config user.email crash@test
git config user.name crash
git config gc.auto 0
commits=0
while ! read -r -t 0; do
  commits=$((commits + 1))
  folder=d$((commits % 7))
  mkdir -p $folder
  seq $commits $((commits + 300)) > $folder/f$((commits % 23))
  git add -A
  git commit -qm "change $commits"
  if [ $((commits % 15)) -eq 0 ]; then git gc -q; fi
done
git fsck --strict --no-dangling --no-progress
[ "$(git rev-list --count HEAD)" = $commits ]
[ -z "$(git status --porcelain)" ]
echo "{\"commits\": $commits, \"stalls\": []}"
