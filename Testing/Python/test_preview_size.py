"""The size of pictures on the move: as many pixels as arrive in time."""

from __future__ import annotations

from DeepDRRSlicerLib.preview_size import FRAME_S, WIDTHS, PreviewSize


def test_late_frames_get_fewer_pixels_and_quick_ones_more():
    size = PreviewSize(512)
    size.record(3 * FRAME_S)
    assert size.width < 448
    for _ in range(60):
        size.record(0.01)
    assert size.width == WIDTHS[-1]
    for _ in range(60):
        size.record(0.3)
    assert size.width == WIDTHS[0]


def test_time_that_others_need_is_left_to_them():
    alone, shared = PreviewSize(384), PreviewSize(384)
    for _ in range(10):
        alone.record(0.07, 0.08)
        shared.record(0.07, 0.13)
    assert alone.width == 384
    assert shared.width < 384


def test_one_late_frame_among_punctual_ones_is_forgiven():
    size = PreviewSize(256)
    for part in (0.8, 0.8, 1.1, 0.8, 0.8):
        size.record(part * FRAME_S)
    assert size.width == 256


def test_a_frame_within_its_time_keeps_its_size():
    size = PreviewSize(256)
    for _ in range(20):
        size.record(0.08)
    assert size.width == 256
