"""Many samples in two simulators side by side: QEMU emulates a core on one thread."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tapc.device.interface import DeviceRun, Progress
from tapc.device.plugin import summed

_FEW = 32
"""Samples, below which starting a second simulator costs more than it saves."""


class Runs(Protocol):
    """Runs samples in one simulator; see `LoadedImage.run`."""

    def __call__(
        self, inputs: npt.NDArray[np.int8], *, layers: int = 0, progress: Progress | None = None, period: int = 0
    ) -> DeviceRun:
        """Run them."""


def run_in_halves(
    run: Runs, inputs: npt.NDArray[np.int8], *, layers: int = 0, progress: Progress | None = None, period: int = 0
) -> DeviceRun:
    """Run samples as `run` does, in two simulators where they are many.

    How they are split does not depend on the machine. Counts of blocks are sums, start-up included twice; the
    instructions are those of the first sample as ever, the stack is the deeper of the two.
    """
    middle = max(layers, -(-len(inputs) // 2))
    middle = min(-(-middle // period) * period, len(inputs)) if period else middle  # sequences stay whole
    if len(inputs) < _FEW or middle == len(inputs):
        return run(inputs, layers=layers, progress=progress, period=period)
    parts = inputs[:middle], inputs[middle:]
    done, lock = [0, 0], Lock()

    def told(part: int) -> Progress | None:
        if progress is None:
            return None

        def tell(samples: int, total: int) -> None:
            with lock:
                done[part] = samples
                progress(sum(done), len(inputs))

        return tell

    with ThreadPoolExecutor(1) as beside:
        later = beside.submit(run, parts[1], progress=told(1), period=period)
        first = run(parts[0], layers=layers, progress=told(0), period=period)
        second = later.result()
    return replace(
        first,
        outputs=np.concatenate([first.outputs, second.outputs]),
        stack_high_water=max(first.stack_high_water, second.stack_high_water),
        blocks=summed(np.concatenate([first.blocks, second.blocks])),
    )
