"""
How does a detector get onto the line?
======================================

In two ways: as a file that runs without Python, or as a service that other programs ask over HTTP. Here both say
the same as the detector does (``pip install "skcsflow[onnx,serve]"``).
"""

import io
import json
import tempfile
import threading
import time
from pathlib import Path
from pprint import pprint
from urllib.request import Request, urlopen

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from skcsflow import CSFlowDetector
from skcsflow.datasets import make_defects

try:
    import onnxruntime
    import uvicorn

    from skcsflow.export import to_onnx
    from skcsflow.serving import create_app
except ImportError as error:
    raise ImportError(f'This example needs {error.name}: pip install "skcsflow[onnx,serve]"') from error

# %%
# A small detector, so that this page is soon done. It is calibrated, so it also gives p-values.

data = make_defects(n_normal=60, n_defective=6, surface="tiles", random_state=0)
detector = CSFlowDetector(input_size=64, strides=(8, 16), n_epochs=20, random_state=0).fit(data.images[:40])
detector.calibrate(data.images[40:59], fpr=0.05)
X = data.images[59:]

# %%
# As a file
# ---------
# `to_onnx` writes one file and runs it on the images you give. If it didn't say what the detector says, there would
# be an error and no file. Resizing and scaling are inside. Images go in as a camera gives them.

folder = tempfile.TemporaryDirectory()
path = str(Path(folder.name) / "tiles.onnx")
check = to_onnx(detector, path, X=X)
print(f"the same: {check.passed}. Largest difference of a score: {check.score_difference:.0e}")
print(f"{Path(path).stat().st_size / 1e6:.0f} MB")

# %%
# ONNX Runtime runs it. Neither skcsflow nor torch is needed there, and it runs in C++, C# or Java as well.

session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
score, label, mask = session.run(["score", "label", "mask"], {"images": X})
print("file:    ", np.round(score, 2), label)
print("detector:", np.round(detector.score_samples(X), 2), detector.predict(X))

# %%
# As a service
# ------------
# On a machine of your own, one line starts it: ``skcsflow.serving.serve({"tiles": detector})``. It runs until
# Ctrl-C. Here it runs in a thread of this script instead, on any port that is free, so that the script can ask it.

server = uvicorn.Server(uvicorn.Config(create_app({"tiles": detector}), port=0, log_level="warning"))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started and thread.is_alive():
    time.sleep(0.05)
host, port = server.servers[0].sockets[0].getsockname()


def ask(image):
    """Send an image as the bytes of a PNG file, and read the answer."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, "png")
    request = Request(
        f"http://{host}:{port}/inspect/tiles?min_area=20", png.getvalue(), {"Content-Type": "image/png"}
    )
    with urlopen(request, timeout=30) as response:
        return json.load(response)


answers = [ask(image) for image in X]
pprint(answers[-1], sort_dicts=False, width=100)

# %%
# These are the detector's own numbers, to the last bit. Then the service is stopped.

served = np.array([answer["score"] for answer in answers])
print("same scores:", np.array_equal(served, detector.score_samples(X)))
server.should_exit = True
thread.join()
folder.cleanup()

# %%
# What both have found
# --------------------
# Boxes are the service's, outlines the file's masks. The first image is good. At an `input_size` of 64 pixels, thin
# lines are hard to see: use a larger one where such defects matter.

figure, axes = plt.subplots(1, len(X), figsize=(12, 2.4), layout="constrained")
for ax, image, answer, marked, kind in zip(axes, X, answers, mask, data.defect[59:], strict=True):
    ax.imshow(image)
    ax.autoscale(False)
    if marked.any():
        ax.contour(marked, [0.5], colors="white", linewidths=1)
    for region in answer["regions"]:
        top, left, bottom, right = region["bbox"]
        ax.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, color="red"))
    ax.set_title(f"{kind}\nverdict {answer['label']:+d}\np = {answer['p_value']:.2f}", fontsize=9)
    ax.set_axis_off()
plt.show()
