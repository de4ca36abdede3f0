"""The march through the volume (compiled by numba): what the rays of a fan pick up in each slice.

Because a fan is regular along two axes of the volume, the bilinear interpolation of a slice splits into a pass along
its rows and a pass across them, and both run over contiguous memory. All materials are taken from one read of the
voxel.

Line x of a fan has the slope `origin + pitch·x` along a transverse axis and lies at `start + slope·h` when it is h
slices away from the source; the same functions serve both transverse axes. Everything that the march calls stands in
this file, because numba's cache takes notice of changes to the file of the compiled function alone.
"""

from __future__ import annotations

import numpy as np

from ..compiled import compiled

BLOCK = 16
"""Slices transposed at a time where rays run along the rows of the volume: half a cache line of voxels."""

# Loops over slices counted from zero are the ones that become vector instructions: elsewhere numba has to allow for
# negative indices. Where a product may be fused with a sum in two ways, a vector and what is left over after the last
# one are fused differently on some processors, and a picture would depend on the number of threads: there nothing is.
vectorized = compiled(fastmath={"nsz"})
fused = compiled(fastmath={"contract", "nsz"})


@vectorized
def _pair_up(voxels, pairs):
    for p in range(pairs.size):
        pairs[p] = np.uint32(voxels[p]) | (np.uint32(voxels[p + 1]) << np.uint32(16))


@vectorized
def _pick(pairs, index, picked):
    for x in range(picked.size):
        picked[x] = pairs[np.uint32(index[x])]


@vectorized
def _interpolate(picked, low, high, label, line):
    """One material's share of a row: the weighted densities of those of the two neighbours that bear its label."""
    nothing = np.float32(0.0)
    for x in range(line.size):
        pair = picked[x]
        left = np.float32(np.int32((pair >> np.uint32(4)) & np.uint32(0xFFF))) * low[x]
        right = np.float32(np.int32(pair >> np.uint32(20))) * high[x]
        line[x] = (left if (pair & np.uint32(15)) == label else nothing) + (
            right if ((pair >> np.uint32(16)) & np.uint32(15)) == label else nothing
        )


@fused
def _accumulate(line, below, above, low, high):
    for x in range(line.size):
        line[x] += low * below[x] + high * above[x]


@compiled()
def _ramp(x):
    return 0.5 * x * x if x > 0.0 else 0.0


@compiled()
def _covered(distance, step, line):
    """How much of a line lies on the positive side of a border, `distance` being that of its middle.

    A line moves by `step` voxels within the slice and stands for a strip `line` voxels wide. Averaging over both is
    what makes the sum over slices, and over lines, exact at the borders of the volume.
    """
    wide, narrow = 0.5 * (step + line), 0.5 * (step - line)
    if abs(distance) >= wide:
        return 1.0 if distance > 0.0 else 0.0
    if min(step, line) < 1e-3 * max(step, line):  # a line is infinitely thin in a slice through the source
        return min(max(distance / max(step, line) + 0.5, 0.0), 1.0)
    area = _ramp(distance + wide) - _ramp(distance + narrow) - _ramp(distance - narrow) + _ramp(distance - wide)
    return min(max(area / (step * line), 0.0), 1.0)


@compiled()
def _place(start, origin, pitch, count, h, thickness, offset, share, first, last, index, low, high):
    """Voxel index of the lines first…last in a slice, and the weights of that voxel and the next.

    The slice, or what of it lies in front of the source, has its middle at `h` and is sampled `offset` thicknesses
    away from it. The weights add up to `share` times the part of the line that lies in the volume.
    """
    line = pitch * abs(h)
    for x in range(first, last):
        slope = (origin + pitch * x) * thickness
        p = start + (origin + pitch * x) * h
        step = abs(slope)
        inside = _covered(p + 0.5, step, line) - _covered(p - (count - 0.5), step, line)
        p = min(max(p + slope * offset, 0.0), count - 1.0)
        i = min(int(p), max(count - 2, 0))
        weight = share * inside
        index[x] = i
        low[x] = weight * (1.0 - (p - i))
        high[x] = weight * (p - i)


@compiled()
def _shadow(p_lo, p_hi, start, origin, pitch, h, left, right):
    """Those of the lines left…right that may pass between p_lo and p_hi in a slice."""
    if abs(h) < 1.0:
        return left, right
    near = (p_lo - start) / h
    far = (p_hi - start) / h
    slack = 1.0 + 0.5 / abs(h) * max(abs(near), abs(far)) / pitch
    lo = (min(near, far) - origin) / pitch - slack
    hi = (max(near, far) - origin) / pitch + slack + 1.0
    return max(left, int(max(lo, -1.0))), min(right, int(min(hi, right + 1.0)))


@compiled()
def _voxels_between(start, origin, pitch, count, first, last, h_first, h_last):
    """First and one-past-last voxel that the lines first…last touch between two slices."""
    lo, hi = count - 1.0, 0.0
    for x in (first, last - 1):
        for h in (h_first - 0.5, h_last + 0.5):
            p = start + (origin + pitch * x) * h
            lo = min(lo, p)
            hi = max(hi, p)
    begin = min(max(int(np.floor(lo)), 0), max(count - 2, 0))
    return begin, max(min(int(np.floor(hi)) + 2, count), begin + 1)


@compiled()
def _transpose(codes, rows, columns, n0, n1, block):
    """Copies rows of voxels for the slices n0…n1 along i, so that what a slice needs lies contiguous in memory."""
    for r in range(rows[0], rows[1]):
        for p in range(columns[0], columns[1]):
            for n in range(n0, n1):
                block[r - rows[0], n - n0, p] = codes[r, p, n]


@compiled()
def _rows_touched(index, low, high, y0, y1):
    first, stop = np.iinfo(np.int32).max, 0
    for y in range(y0, y1):
        if low[y] + high[y] > 0.0:
            first = min(first, index[y])
            stop = max(stop, index[y] + (2 if high[y] > 0.0 else 1))
    return first, stop


@compiled()
def _interpolate_row(row, across, first, last, pairs, picked, lines):
    """Fills the lines of all materials at the columns first…last."""
    index, low, high = across
    # The index is monotonic but for the ends of the volume, where a step that is cut off may round to the next voxel.
    p0 = max(min(index[first], index[last - 1]) - 1, 0)
    p1 = min(max(index[first], index[last - 1]) + 3, row.size)
    _pair_up(row[p0:p1], pairs[p0 : p1 - 1])
    pairs[p1 - 1] = np.uint32(row[p1 - 1])
    _pick(pairs, index[first:last], picked[first:last])
    for m in range(lines.shape[0]):
        _interpolate(picked[first:last], low[first:last], high[first:last], np.uint32(m), lines[m, first:last])


@vectorized
def _accumulate_to_detector(line, below, above, low, high, pace, pitch, first, near, far):
    """As _accumulate, but what lies behind the detector is left out of a slice from `near` to `far` off the source."""
    for x in range(line.size):
        # With a pace of 1/10 a line reaches the detector ten slices away from the source; some never do.
        reach = 1.0 / max(pace + pitch * (first + x), 1e-9)
        part = np.float32(min(max((reach - near) / (far - near), 0.0), 1.0))
        line[x] += part * (low * below[x] + high * above[x])


@compiled()
def _add_rows(total, lines, extents, q_first, placed, span_lo, span_hi, pace, near, far, y0, y1):
    """Second pass: adds to each fan row the two interpolated rows of voxels between which it lies."""
    index, low, high = placed
    pace0, pace_x, pace_y = pace
    for y in range(y0, y1):
        if low[y] + high[y] <= 0.0:
            continue
        r = index[y] - q_first
        s = r + 1 if high[y] > 0.0 else r
        first = max(min(extents[r, 0], extents[s, 0]), span_lo[y])
        last = min(max(extents[r, 1], extents[s, 1]), span_hi[y])
        if last <= first:
            continue
        # Of the row, not of what this band needs of it: the number of threads changes no digit.
        row_pace = pace0 + pace_y * y
        fastest = row_pace + max(pace_x * span_lo[y], pace_x * (span_hi[y] - 1))
        for m in range(total.shape[1]):
            line, below, above = total[y, m, first:last], lines[r, m, first:last], lines[s, m, first:last]
            if fastest * far <= 1.0:
                _accumulate(line, below, above, low[y], high[y])
            else:
                _accumulate_to_detector(line, below, above, low[y], high[y], row_pace, pace_x, first, near, far)


@compiled()
def _lines_like(size):
    return np.empty(size, np.int32), np.empty(size, np.float32), np.empty(size, np.float32)


@compiled()
def _slowest(pace, left, right, y0, y1):
    pace0, pace_x, pace_y = pace
    return pace0 + min(pace_x * left, pace_x * (right - 1)) + min(pace_y * y0, pace_y * (y1 - 1))


@compiled()
def march_band(
    codes, axis, row_start, row_stop, source, forward, slices, offsets, grid, pace, span_lo, span_hi, y0, y1, total
):
    """Adds to total[y0:y1] what the rays of these fan rows meet, in units of code · voxel.

    codes (nk, nj, ni) uint16 voxels. axis: 0, 1, 2 where the rays follow i, j, k, towards the sign of `forward`.
    row_start, row_stop [row, slice]: the occupied voxels. source: (p, q, w) in voxels. offsets: where each slice is
    sampled. grid: slopes (a0, da, b0, db). pace (constant, per column, per row): the part of its way from the source to
    the detector that a line covers in a slice, 0 where all matter lies before the detector. span_lo, span_hi: columns
    in use per fan row.
    total (rows, n_materials, columns) float32.
    """
    nk, nj, ni = codes.shape
    p_count = nj if axis == 0 else ni
    q_count = nj if axis == 2 else nk
    sp, sq, sw = source
    a0, da, b0, db = grid
    rows, materials, columns = total.shape
    left, right = np.int64(span_lo[y0:y1].min()), np.int64(span_hi[y0:y1].max())
    share = 1.0 / offsets.size
    slowest = _slowest(pace, left, right, y0, y1)

    across = _lines_like(columns)
    placed = _lines_like(rows)
    pairs = np.zeros(p_count, np.uint32)
    picked = np.empty(columns, np.uint32)
    lines = np.empty((8, materials, columns), np.float32)
    extents = np.empty((8, 2), np.int64)
    block = np.zeros((1, BLOCK, p_count), np.uint16)
    block_row, block_slice = 0, -BLOCK

    for n in range(slices[0], slices[1]):
        h = n - sw
        near, far = max(forward * h - 0.5, 0.0), forward * h + 0.5
        if far <= near or slowest * near >= 1.0:
            continue
        middle, thickness = forward * 0.5 * (near + far), far - near
        if axis == 0 and n >= block_slice + BLOCK:
            block_slice = n
            stop = min(n + BLOCK, slices[1])
            rows_used = _voxels_between(sq, b0, db, q_count, y0, y1, h, stop - 1 - sw)
            columns_used = _voxels_between(sp, a0, da, p_count, left, right, h, stop - 1 - sw)
            block_row = rows_used[0]
            if block.shape[0] < rows_used[1] - block_row:
                block = np.zeros((rows_used[1] - block_row, BLOCK, p_count), np.uint16)
            _transpose(codes, rows_used, columns_used, n, stop, block)

        for offset in offsets:
            _place(sq, b0, db, q_count, middle, thickness, offset, share * thickness, y0, y1, *placed)
            q_first, q_stop = _rows_touched(*placed, y0, y1)
            if q_stop <= q_first:
                continue
            p_first, p_stop = row_start[q_first:q_stop, n].min(), row_stop[q_first:q_stop, n].max()
            x0, x1 = _shadow(p_first - 1.0, p_stop, sp, a0, da, h, left, right)
            if p_stop <= p_first or x1 <= x0:
                continue
            _place(sp, a0, da, p_count, middle, thickness, offset, 1.0, x0, x1, *across)

            if lines.shape[0] < q_stop - q_first:
                lines = np.empty((q_stop - q_first + 4, materials, columns), np.float32)
                extents = np.empty((q_stop - q_first + 4, 2), np.int64)
            for q in range(q_first, q_stop):
                r = q - q_first
                first, last = x0, x0
                if row_stop[q, n] > row_start[q, n]:
                    first, last = _shadow(row_start[q, n] - 1.0, row_stop[q, n], sp, a0, da, h, x0, x1)
                lines[r, :, x0:first] = 0.0
                lines[r, :, max(first, last) : x1] = 0.0
                extents[r, 0], extents[r, 1] = (first, last) if last > first else (x1, x0)
                if last <= first:
                    continue
                row = (
                    block[q - block_row, n - block_slice] if axis == 0 else (codes[q, n] if axis == 1 else codes[n, q])
                )
                _interpolate_row(row, across, first, last, pairs, picked, lines[r])
            _add_rows(total, lines, extents, q_first, placed, span_lo, span_hi, pace, near, far, y0, y1)
