"""Fitted detectors as files that other programs run, without Python, torch or this package."""

from skcsflow.export._onnx import to_onnx
from skcsflow.export._verify import verify_onnx

__all__ = ["to_onnx", "verify_onnx"]
