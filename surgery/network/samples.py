"""The two convolutional networks that the samples use: small, readable, and coupled like the large ones.

Both have a residual add, so that some neurons can only go together, and take every size in `forward` from the
tensors themselves, so that they still run after channels have been removed. `input_shape` says what each was made
for. Imports torch only: an exported model carries this file as its definition.

Letters: b batch, c channels, h and w height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


class ConvNorm(nn.Module):
    """A 3×3 convolution followed by BatchNorm: float[b, c_in, h, w] -> float[b, c_out, h/stride, w/stride]."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise."""
        out: Tensor = self.norm(self.conv(x))
        return out


class Residual(nn.Module):
    """relu(x + second(relu(first(x)))): the add couples each channel of x with the same channel of `second`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map float[b, c, h, w] to the same shape."""
        out: Tensor = x + self.second(self.first(x).relu())
        return out.relu()


class DigitsCNN(nn.Module):
    """Gray 8×8 digits -> logits: two convolutions, a residual block, one more convolution, mean over space, linear."""

    input_shape = (1, 8, 8)

    def __init__(self, widths: Sequence[int] = (24, 36, 36), classes: int = 10) -> None:
        super().__init__()
        stem, body, top = widths
        self.stem = ConvNorm(1, stem)
        self.down = ConvNorm(stem, body, stride=2)
        self.block = Residual(body)
        self.top = ConvNorm(body, top)
        self.head = nn.Linear(top, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map float[b, 1, 8, 8] to logits float[b, classes]."""
        x = self.stem(x).relu()  # [b, stem, 8, 8]
        x = self.down(x).relu()  # [b, body, 4, 4]
        x = self.top(self.block(x)).relu()  # [b, top, 4, 4]
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class SurfaceCNN(nn.Module):
    """Gray 48×48 pictures of metal -> logits: three halvings with a residual block between, mean over space, linear."""

    input_shape = (1, 48, 48)

    def __init__(self, widths: Sequence[int] = (16, 32, 48, 64), classes: int = 6) -> None:
        super().__init__()
        stem, body, late, top = widths
        self.stem = ConvNorm(1, stem, stride=2)
        self.down = ConvNorm(stem, body, stride=2)
        self.block = Residual(body)
        self.late = ConvNorm(body, late, stride=2)
        self.top = ConvNorm(late, top)
        self.head = nn.Linear(top, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map float[b, 1, 48, 48] to logits float[b, classes]."""
        x = self.stem(x).relu()  # [b, stem, 24, 24]
        x = self.down(x).relu()  # [b, body, 12, 12]
        x = self.late(self.block(x)).relu()  # [b, late, 6, 6]
        x = self.top(x).relu()  # [b, top, 6, 6]
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


SAMPLES: dict[str, Callable[..., nn.Module]] = {"digits_cnn": DigitsCNN, "surface_cnn": SurfaceCNN}
