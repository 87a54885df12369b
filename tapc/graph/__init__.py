"""Networks as graphs: layers, groups of tensors that share bits, quantization points."""
