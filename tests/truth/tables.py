"""Writes small tables as pyarrow writes them, for the tests of formats: tests/data/tables.

    python tests/truth/tables.py        needs pyarrow
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

OUT = Path(__file__).parent.parent / "data" / "tables"
N = 40


def table(n=N):
    texts = [f"text {i}" for i in range(n)]
    return pa.table(
        {
            "text": pa.array(texts),
            "large": pa.array(texts, pa.large_string()),
            "word": pa.array([f"w{i % 3}" for i in range(n)]).dictionary_encode(),
            "label": pa.array([i % 2 for i in range(n)], pa.int64()),
            "small": pa.array([i % 2 for i in range(n)], pa.uint8()),
            "score": pa.array([i / 4 for i in range(n)], pa.float32()),
            "double": pa.array([None if i == 3 else i * 0.1 for i in range(n)], pa.float64()),
            "ok": pa.array([i % 2 == 1 for i in range(n)]),
            "answer": pa.array([{"text": t, "start": [i]} for i, t in enumerate(texts)]),
            "tags": pa.array([[f"t{j}" for j in range(i % 3)] for i in range(n)]),
            "day": pa.array(list(range(n)), pa.date32()),
        }
    )


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    t = table()
    for codec in ["none", "snappy", "gzip", "lz4", "zstd"]:
        pq.write_table(t.select(["text", "label"]) if codec == "zstd" else t, OUT / f"{codec}.parquet", compression=codec)
    pq.write_table(t.select(["text", "label"]), OUT / "groups.parquet", row_group_size=7)
    feather.write_feather(t, OUT / "lz4.feather", compression="lz4")
    feather.write_feather(t, OUT / "none.feather", compression="uncompressed", chunksize=9)
    feather.write_feather(t.select(["text", "label"]), OUT / "zstd.feather", compression="zstd")
    feather.write_feather(t.select(["text", "label"]), OUT / "one.feather", version=1)
    with pa.ipc.new_stream(OUT / "stream.arrow", t.schema) as out:
        out.write_table(t, max_chunksize=11)
    # A column of one long value, 20 thousand times: some kilobytes that would be 400 MB.
    same = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int8()), ["x" * 20_000])})
    pq.write_table(same, OUT / "bomb.parquet", compression="gzip")


if __name__ == "__main__":
    main()
