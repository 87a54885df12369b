"""Versions of ONNX that graphs are written in."""

OPSET = 21
"""Where no operator asks for a later one."""
IR = {21: 10, 23: 11, 25: 13}
"""Version of ONNX -> that of its file format."""
