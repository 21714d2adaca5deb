import numpy as np
import pandas as pd
from pyspark.sql import SparkSession

import skcsflow
from skcsflow.datasets import list_images


def score(batches):
    detector = skcsflow.load("detector.skops").set_params(n_jobs=1)  # once for each partition
    for batch in batches:
        yield pd.DataFrame({"file": batch["file"], "score": detector.score_samples(batch["file"])})


spark = SparkSession.builder.master("local[2]").getOrCreate()
files = list_images("images")
table = spark.createDataFrame(pd.DataFrame({"file": files})).repartition(2)
found = table.mapInPandas(score, "file string, score double").toPandas().set_index("file")
spark.stop()

expected = skcsflow.load("detector.skops").score_samples(files)
np.testing.assert_array_equal(found.loc[files, "score"], expected)
