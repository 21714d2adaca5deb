import os
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

import skcsflow
from skcsflow.datasets import list_images

N_ROWS = 8  # of a part; in earnest, a thousand

files = list_images("images")
detector = skcsflow.load("detector.skops").set_params(on_error="nan")
folder = Path("scores")
folder.mkdir(exist_ok=True)
for start in range(0, len(files), N_ROWS):
    part = folder / f"part-{start:09}.parquet"
    if part.exists():  # from before the process was killed
        continue
    some = files[start : start + N_ROWS]
    scores = detector.score_samples(some)
    table = pyarrow.table(
        {"file": some, "score": scores, "verdict": np.where(scores >= detector.offset_, 1, -1)}
    )
    unfinished = part.with_suffix(".part")
    pyarrow.parquet.write_table(table, unfinished)
    os.replace(unfinished, part)  # a file with this name is whole

found = pyarrow.parquet.read_table(folder).sort_by("file")
np.testing.assert_array_equal(found["score"], detector.score_samples(files))
