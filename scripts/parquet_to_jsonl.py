#!/usr/bin/env python3
"""Turns a data set in Parquet into the JSON lines that foveal eval and bench read. Needs pyarrow.

    parquet_to_jsonl.py IN.parquet [MORE.parquet ...] OUT.jsonl"""

import json
import sys

import pyarrow.parquet


def main():
    if len(sys.argv) < 3 or not sys.argv[-1].endswith(".jsonl"):
        sys.exit(f"[parquet_to_jsonl] got {sys.argv[1:]}; need .parquet files and a .jsonl file to write")
    count = 0
    with open(sys.argv[-1], "w", encoding="utf-8") as out:
        for name in sys.argv[1:-1]:
            for batch in pyarrow.parquet.ParquetFile(name).iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
    print(f"{count} rows")


if __name__ == "__main__":
    main()
