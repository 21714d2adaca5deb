"""Benchmarks: ``python -m benchmarks`` runs all, ``python -m benchmarks.<name>`` one."""

import sys

# OpenVINO reports imports and conversions to its makers through this package, where it finds it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
