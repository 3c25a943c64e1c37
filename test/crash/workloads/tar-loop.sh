#!/usr/bin/env bash
# tar-loop.sh FOLDER ARCHIVE: unpacks the archive, compares, removes, until standard input is closed.
set -euo pipefail
mkdir "$1"
cd "$1"
trees=0
while ! read -r -t 0; do
  rm -rf tree
  mkdir tree
  tar -C tree -xpf "$2"
  tar -C tree --compare -f "$2"
  trees=$((trees + 1))
done
echo "{\"trees\": $trees, \"stalls\": []}"
