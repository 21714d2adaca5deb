import io

import litserve
from PIL import Image

import skcsflow


class Inspection(litserve.LitAPI):
    def setup(self, device):
        self.detector = skcsflow.load("detector.skops")

    def decode_request(self, request):
        return Image.open(io.BytesIO(request["image"].file.read()))

    def predict(self, image):
        return next(self.detector.inspect([image]))

    def encode_response(self, found):
        return {"score": found.score, "label": found.verdict, "boxes": [r.bbox for r in found.regions]}


if __name__ == "__main__":
    litserve.LitServer(Inspection(), accelerator="cpu").run(port=8000, generate_client_file=False)
