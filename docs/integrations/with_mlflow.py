import mlflow
import mlflow.sklearn
import numpy as np

import skcsflow
from skcsflow.datasets import list_images

detector = skcsflow.load("detector.skops")
files = list_images("images")

mlflow.set_tracking_uri("sqlite:///mlflow.db")  # or your server
with mlflow.start_run():
    mlflow.log_params({"backbone": detector.backbone, "input_size": detector.input_size})
    mlflow.log_metric("threshold", detector.offset_)
    saved = mlflow.sklearn.log_model(
        detector,
        name="detector",
        serialization_format="skops",
        skops_trusted_types=["skcsflow.CSFlowDetector"],
        pip_requirements=[f"skcsflow=={skcsflow.__version__}"],
    )

loaded = mlflow.sklearn.load_model(saved.model_uri)
np.testing.assert_array_equal(loaded.score_samples(files), detector.score_samples(files))
