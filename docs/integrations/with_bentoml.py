import bentoml
from PIL.Image import Image

import skcsflow


@bentoml.service
class Inspection:
    def __init__(self):
        self.detector = skcsflow.load("detector.skops")

    @bentoml.api
    def inspect(self, image: Image) -> dict:
        found = next(self.detector.inspect([image]))
        return {"score": found.score, "label": found.verdict, "boxes": [r.bbox for r in found.regions]}
