"""Ethos-U55: vela compiles a TFLite file to commands; an executor of ours runs them, so that they can be proved."""
