"""How many rows and taps of windows lie inside an image, against counting."""

from hypothesis import given
from hypothesis import strategies as st

from tapc.kernels.layout import Plane
from tapc.kernels.window import Window, inside_taps, whole_windows


@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 3),
)
def test_rows_taps_and_whole_windows_by_counting(
    height: int, width: int, kernel: int, stride_y: int, stride_x: int, pad: int, dilation: int
) -> None:
    reach = (kernel - 1) * dilation + 1
    pad = min(pad, reach - 1)
    if height + 2 * pad < reach or width + 2 * pad < reach:
        return
    oh, ow = (height + 2 * pad - reach) // stride_y + 1, (width + 2 * pad - reach) // stride_x + 1
    window = Window(kernel, kernel, stride_y, stride_x, pad, pad, dilation, dilation)
    rows = taps = whole = 0
    for oy in range(oh):
        for ox in range(ow):
            inside_y = [ky for ky in range(kernel) if 0 <= oy * stride_y - pad + ky * dilation < height]
            inside_x = [kx for kx in range(kernel) if 0 <= ox * stride_x - pad + kx * dilation < width]
            rows += len(inside_y)
            taps += len(inside_y) * len(inside_x)
            whole += len(inside_y) == len(inside_x) == kernel
    x, y = Plane(height, width, 1, 8), Plane(oh, ow, 1, 8)
    assert inside_taps(x, y, window) == (rows, taps)
    assert whole_windows(x, y, window) == whole
