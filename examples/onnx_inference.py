"""
Inspect images with an exported detector, by NumPy, ONNX Runtime and Pillow alone.

    python onnx_inference.py detector.onnx image.png [more images] [--masks folder]

`skcsflow.export.to_onnx(detector, "detector.onnx")` wrote the file. Neither skcsflow nor torch is needed to run it.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("detector", help="a file that to_onnx wrote")
parser.add_argument("images", nargs="+", help="image files, of any sizes")
parser.add_argument("--masks", type=Path, help="folder for masks of the anomalous pixels")
arguments = parser.parse_args()

session = onnxruntime.InferenceSession(arguments.detector, providers=["CPUExecutionProvider"])
for path in arguments.images:
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode not in ("L", "RGB", "RGBA", "P"):  # of 16 bits, say, which convert would cut off
        raise SystemExit(
            f"{path}: mode {image.mode}; export with dtype='uint16' or 'float32' for other images"
        )
    pixels = np.asarray(image.convert("RGB"))
    score, label, mask = session.run(["score", "label", "mask"], {"images": pixels[np.newaxis]})
    print(
        f"{path}\t{score[0]:.6f}\t{'good' if label[0] == 1 else 'anomalous'}\t{mask.mean():.2%} of the pixels"
    )
    if arguments.masks:
        Image.fromarray(mask[0]).save(arguments.masks / f"{Path(path).stem}.png")
