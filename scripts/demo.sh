#!/usr/bin/env bash
# The main job on a real model: a 7.6k-token document and a question, dense and with Skip Softmax.
# Installs what is missing, builds, fetches the model. Arguments go to both runs (e.g. --threads 2).
set -euo pipefail
cd "$(dirname "$0")/.."

document=/usr/share/common-licenses/GPL-3
[ -r $document ] || { echo "demo: got no $document; need the GPL-3 text there" >&2; exit 1; }
scripts/setup.sh
echo "demo: building (a few minutes the first time)"
scripts/build.sh release foveal
model=$(scripts/fetch_model.sh)
stats=$(mktemp -d)
trap 'rm -rf "$stats"' EXIT

question="Under this license, may I sell copies of a program, and what must I give to those who buy them? Answer in three sentences."
ask() {  # name, then extra arguments
  local name=$1; shift
  echo; echo "=== $name"
  build/release/bin/foveal run --model "$model" --chat --file $document --prompt "$question" \
    --max-tokens 96 --stats "$stats/$name.json" "$@"
}
ask dense --config examples/dense.yaml "$@"
ask skip_softmax --config examples/skip_softmax.yaml "$@"
echo
.venv/bin/python scripts/stats_table.py "$stats/dense.json" "$stats/skip_softmax.json"
