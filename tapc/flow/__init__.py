"""The way of a network through tapc, from options to a proved build and its report, and again from a build."""
