"""From samples to a network's input: log-mel and MFCC features in fixed point, as C beside the library."""

from tapc.audio.generate import files_of
from tapc.audio.reference import Reference
from tapc.audio.spec import PRESETS, FrontEnd, Quantization, front_end
from tapc.audio.tables import Tables, tables_of

__all__ = ["PRESETS", "FrontEnd", "Quantization", "Reference", "Tables", "files_of", "front_end", "tables_of"]
