"""Networks over windows of time as one step for each frame, or for as many frames as their strides make necessary."""

from tapc.graph.streaming.build import Streaming, streaming
from tapc.graph.streaming.frames import Frames
from tapc.graph.streaming.told import AUTO, Stream, stream_of, time_axis

__all__ = ["AUTO", "Frames", "Stream", "Streaming", "stream_of", "streaming", "time_axis"]
