"""An image whose rows are its columns: what a depthwise convolution sees where that fills its words better."""

from tapc.kernels.depthwise import DepthwiseSpec
from tapc.kernels.layout import Plane
from tapc.kernels.window import Window


class Turned:
    """A form of a depthwise convolution that may see the image so."""

    spec: DepthwiseSpec

    @property
    def turned(self) -> bool:
        """Whether it does."""
        raise NotImplementedError

    @property
    def x(self) -> Plane:
        """The input as it is seen."""
        return self.spec.x.turned() if self.turned else self.spec.x

    @property
    def y(self) -> Plane:
        """The output as it is seen."""
        return self.spec.y.turned() if self.turned else self.spec.y

    @property
    def window(self) -> Window:
        """The window as it is seen."""
        return self.spec.window.turned() if self.turned else self.spec.window
