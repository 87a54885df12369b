"""A keyword spotter of separable convolutions over time, without padding: it streams frame by frame (`--stream`)."""

from torch import Tensor, nn


class KwsStream(nn.Module):
    """Twelve words from 49 frames of ten MFCC coefficients, (N, 1, 49, 10), as MLPerf Tiny's keyword spotting has them.

    Parameters
    ----------
    width : int
        Channels.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, (5, 10), bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        for dilation in (1, 2, 4):
            layers += [
                nn.Conv2d(width, width, (5, 1), dilation=(dilation, 1), groups=width, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.dense = nn.Linear(width, 12)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the classes."""
        y = self.layers(x).mean(dim=(2, 3))
        result: Tensor = self.dense(self.dropout(y))
        return result
