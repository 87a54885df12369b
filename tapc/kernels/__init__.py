"""Kernels in TensorIR: specifications, and a form of each per instruction set; TVM prints them as C."""
