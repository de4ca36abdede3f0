"""Photons on their way through the voxels, compiled by numba: flight, collision, and forced detection.

Lengths are cm, energies keV. The world of this file is the volume's box: x, y, z along i, j, k, from the box's first
corner; its mirror image scatters alike, so left-handed volumes need no care. Everything that the kernels call stands
here, because numba's cache takes notice of changes to the file of the compiled function alone.
"""
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, check-untyped-defs=False

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..compiled import compiled
from ..cross_sections import ELECTRON_MASS_KEV, KEV_ANGSTROM

RAYLEIGH, COMPTON = 0, 1
PRIMARY, SINGLE_COMPTON, SINGLE_RAYLEIGH, MULTIPLE = range(4)
EMITTED, PHOTOELECTRIC, RECOIL, ESCAPED, BALANCE, DEPOSITED = range(6)

TOWARDS_RAYLEIGH, TOWARDS_COMPTON = 0.25, 0.25
"""How often forced detection aims as Rayleigh or Compton scattering would; otherwise anywhere on the detector."""

LIGHTEST = 0.1
"""Histories that have lost all but this part of their weight play Russian roulette."""

DEEPEST = 30.0
"""Optical depth from which a forced photon is given up: e^-30 = 1e-13."""


LEAST_WORTH = 0.02
"""However deep, a collision contributes to the detector this often at least, so that no score is heavy."""


class Body(NamedTuple):
    """Piecewise constant voxels: density g/cm³ [k, j, i], label, edge lengths (3,), largest density by label.

    worth [k, j, i] is how many points of the detector a collision there should contribute to, relatively: in theory
    any positive numbers, in practice the transmission from there to the detector.
    """

    density: Any
    labels: Any
    step_cm: Any
    peak: Any
    worth: Any


class Physics(NamedTuple):
    """The tables of interactions.Interactions, in its order: by material and energy, then by material and transfer."""

    first_kev: float
    per_kev: float
    attenuation: Any
    rayleigh: Any
    compton: Any
    rayleigh_norm: Any
    compton_norm: Any
    largest_transfer: float
    form_square: Any
    form_cumulative: Any
    bound: Any


class Panel(NamedTuple):
    """Source and detector: corner + s·along_u + t·along_v, 0 ≤ s, t < 1, is where the tallied pixels lie.

    across_u, across_v are the dual vectors that give s and t back; field (s0, t0, s1, t1) is what the beam covers.
    """

    source: Any
    corner: Any
    along_u: Any
    along_v: Any
    across_u: Any
    across_v: Any
    normal: Any
    distance: float
    area: float
    field: Any
    response: Any
    lines: Any
    strips: Any
    strip_mu: Any


kernel = compiled(error_model="numpy")


@kernel
def uniform(state):
    """The next number in [0, 1): xoshiro256+ (Blackman & Vigna, ACM Trans. Math. Softw. 47 (2021))."""
    drawn = state[0] + state[3]
    shifted = state[1] << np.uint64(17)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = (state[3] << np.uint64(45)) | (state[3] >> np.uint64(19))
    return np.float64(drawn >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@kernel
def place(physics, energy):
    """Index and fraction of an energy in the tables."""
    at = min(max((energy - physics.first_kev) * physics.per_kev, 0.0), physics.attenuation.shape[1] - 1.001)
    index = int(at)
    return index, at - index


@kernel
def between(row, index, fraction):
    return row[index] + fraction * (row[index + 1] - row[index])


@kernel
def over_transfer(physics, row, transfer):
    """A table over the momentum transfer x, whose nodes are those of √x."""
    at = min(math.sqrt(transfer / physics.largest_transfer), 1.0) * (row.size - 1)
    index = min(int(at), row.size - 2)
    low, high = index * index, (index + 1) * (index + 1)
    node = at * at
    return row[index] + (node - low) / (high - low) * (row[index + 1] - row[index])


@kernel
def compton_factor(physics, material, energy, cosine):
    """Klein & Nishina's angular factor k²(k + 1/k - sin²θ) times S(x), and the part k of the energy that is kept."""
    kept = 1.0 / (1.0 + energy / ELECTRON_MASS_KEV * (1.0 - cosine))
    transfer = energy / KEV_ANGSTROM * math.sqrt(max(0.5 * (1.0 - cosine), 0.0))
    shape = kept * kept * (kept + 1.0 / kept - 1.0 + cosine * cosine)
    return shape * over_transfer(physics, physics.bound[material], transfer), kept


@kernel
def rayleigh_factor(physics, material, energy, cosine):
    transfer = energy / KEV_ANGSTROM * math.sqrt(max(0.5 * (1.0 - cosine), 0.0))
    return (1.0 + cosine * cosine) * over_transfer(physics, physics.form_square[material], transfer)


@kernel
def sample_compton(physics, material, energy, state):
    """Cosine of a Compton deflection, by rejection: the factor is largest for the free electron at rest, 2·S_max."""
    largest = 2.0 * over_transfer(physics, physics.bound[material], energy / KEV_ANGSTROM)
    while True:
        cosine = 2.0 * uniform(state) - 1.0
        factor, _ = compton_factor(physics, material, energy, cosine)
        if uniform(state) * largest < factor:
            return cosine


@kernel
def sample_rayleigh(physics, material, energy, state):
    """Cosine of a Rayleigh deflection: x² from ∫F² dx², then rejection with the Thomson factor (1 + cos²θ)/2."""
    table = physics.form_cumulative[material]
    end = energy / KEV_ANGSTROM
    whole = over_transfer(physics, table, end)
    scale = physics.largest_transfer**2 / float(table.size - 1) ** 4
    while True:
        aim = uniform(state) * whole
        low, high = 0, table.size - 1
        while high - low > 1:
            middle = (low + high) >> 1
            if table[middle] <= aim:
                low = middle
            else:
                high = middle
        part = (aim - table[low]) / (table[high] - table[low])
        square = scale * (float(low) ** 4 + part * (float(high) ** 4 - float(low) ** 4))
        cosine = max(1.0 - 2.0 * square / (end * end), -1.0)
        if 2.0 * uniform(state) < 1.0 + cosine * cosine:
            return cosine


@kernel
def deflected(x, y, z, cosine, state):
    """A unit vector at this angle to (x, y, z), its azimuth at random."""
    azimuth = 2.0 * math.pi * uniform(state)
    sine = math.sqrt(max(1.0 - cosine * cosine, 0.0))
    a, b = sine * math.cos(azimuth), sine * math.sin(azimuth)
    flat = math.sqrt(x * x + y * y)
    if flat < 1e-9:
        return a, b, cosine * math.copysign(1.0, z)
    return (
        cosine * x + (a * x * z - b * y) / flat,
        cosine * y + (a * y * z + b * x) / flat,
        cosine * z - a * flat,
    )


@kernel
def _span(body, x, y, z, dx, dy, dz):
    """Where a ray enters and leaves the box, as distances from its start."""
    enter, leave = 0.0, 1e30
    for axis, p, d in ((0, x, dx), (1, y, dy), (2, z, dz)):
        size = body.step_cm[axis] * body.density.shape[2 - axis]
        if abs(d) < 1e-12:
            if p < 0.0 or p >= size:
                return 1.0, 0.0
        else:
            first, second = -p / d, (size - p) / d
            enter = max(enter, min(first, second))
            leave = min(leave, max(first, second))
    return enter, leave


@kernel
def _axis(p, d, step, count, enter):
    """Voxel, its step, the distance to its next wall and between walls, along one axis where a ray enters."""
    voxel = min(max(math.floor((p + d * enter) / step), 0), count - 1)
    if d > 1e-12:
        return voxel, 1, ((voxel + 1) * step - p) / d, step / d
    if d < -1e-12:
        return voxel, -1, (voxel * step - p) / d, -step / d
    return voxel, 0, 1e30, 1e30


@kernel
def optical_depths(body, x, y, z, dx, dy, dz, length, mu_one, mu_two):
    """∫ρ µ/ρ dl along a ray for two tables µ/ρ by material: Amanatides & Woo, Eurographics 1987."""
    density, labels = body.density, body.labels
    nk, nj, ni = density.shape
    enter, leave = _span(body, x, y, z, dx, dy, dz)
    leave = min(leave, length)
    one = two = 0.0
    if leave <= enter:
        return one, two
    i, si, ti, wi = _axis(x, dx, body.step_cm[0], ni, enter)
    j, sj, tj, wj = _axis(y, dy, body.step_cm[1], nj, enter)
    k, sk, tk, wk = _axis(z, dz, body.step_cm[2], nk, enter)
    here = enter
    while here < leave and min(one, two) < DEEPEST:
        there = min(ti, tj, tk, leave)
        mass = density[k, j, i] * (there - here)
        material = labels[k, j, i]
        one += mass * mu_one[material]
        two += mass * mu_two[material]
        here = there
        if ti <= tj and ti <= tk:
            i += si
            ti += wi
            if i < 0 or i >= ni:
                break
        elif tj <= tk:
            j += sj
            tj += wj
            if j < 0 or j >= nj:
                break
        else:
            k += sk
            tk += wk
            if k < 0 or k >= nk:
                break
    return one, two


@kernel
def strip_transmission(panel, index, s, t, dx, dy, dz):
    """What the anti-scatter grid lets through, averaged over one period; see antiscatter.AntiScatterGrid."""
    height, width, period = panel.strips[0], panel.strips[1], panel.strips[2]
    offset = along = rise = tangent = 0.0
    for a in range(3):
        point = panel.corner[a] + s * panel.along_u[a] + t * panel.along_v[a] - panel.source[a]
        d = dx if a == 0 else (dy if a == 1 else dz)
        offset += point * panel.lines[1, a]
        tangent += d * panel.lines[1, a]
        along += d * panel.lines[0, a]
        rise += d * panel.normal[a]
    # Turn about the lines, so that the strip at this place, which points at the source, stands upright.
    lean = math.sqrt(offset * offset + panel.distance * panel.distance)
    sine, cosine = offset / lean, panel.distance / lean
    upright = cosine * rise + sine * tangent
    if upright <= 1e-9:
        return 0.0
    sweep = height * abs(cosine * tangent - sine * rise) / upright
    path = height * math.sqrt(1.0 + (along / upright) ** 2 + (sweep / height) ** 2)
    lead, gap = panel.strip_mu[0, index], panel.strip_mu[1, index]
    if sweep < 1e-6 * period:
        part = width / period
        return part * math.exp(-lead * path) + (1.0 - part) * math.exp(-gap * path)
    whole = math.floor(sweep / period)
    rest = sweep - whole * period
    # The last, partial period meets a strip over a width that is a trapezium of where it starts.
    least, most = max(0.0, rest + width - period), min(rest, width)
    per_cm = (lead - gap) * path / sweep
    base = math.exp(-gap * path - per_cm * (whole * width + least))
    ramp = most - least
    flat_high = abs(rest - width)
    flat_low = period - flat_high - 2.0 * ramp
    steep = per_cm * ramp
    slope = 1.0 if steep < 1e-9 else -math.expm1(-steep) / steep
    mean = flat_low + 2.0 * ramp * slope + flat_high * math.exp(-steep)
    return base * mean / period


@kernel
def _score(panel, physics, tally, component, s, t, dx, dy, dz, energy, weight):
    """Adds a photon that arrives at (s, t), in units of the photons that arrive there with nothing in the beam."""
    rows, columns = tally.shape[2], tally.shape[3]
    index = min(int((energy - physics.first_kev) * physics.per_kev + 0.5), panel.response.shape[1] - 1)
    square = 0.0
    for a in range(3):
        point = panel.corner[a] + s * panel.along_u[a] + t * panel.along_v[a] - panel.source[a]
        square += point * point
    # Open beam: photons per cm² ∝ cos α / r² = distance / r³.
    weight *= square * math.sqrt(square) / panel.distance * (rows * columns / panel.area)
    if panel.strips[0] > 0.0:
        weight *= strip_transmission(panel, index, s, t, dx, dy, dz) * panel.strips[3]
    v, u = min(int(t * rows), rows - 1), min(int(s * columns), columns - 1)
    for q in range(panel.response.shape[0]):
        tally[component, q, v, u] += weight * panel.response[q, index]


@kernel
def _arrival(panel, x, y, z, dx, dy, dz):
    """Where a ray meets the detector: s, t, the distance, and the cosine to its normal; distance -1 if it misses."""
    slope = dx * panel.normal[0] + dy * panel.normal[1] + dz * panel.normal[2]
    if slope <= 1e-9:
        return 0.0, 0.0, -1.0, slope
    px, py, pz = x - panel.corner[0], y - panel.corner[1], z - panel.corner[2]
    far = -(px * panel.normal[0] + py * panel.normal[1] + pz * panel.normal[2]) / slope
    px, py, pz = px + far * dx, py + far * dy, pz + far * dz
    s = px * panel.across_u[0] + py * panel.across_u[1] + pz * panel.across_u[2]
    t = px * panel.across_v[0] + py * panel.across_v[1] + pz * panel.across_v[2]
    if far <= 0.0 or s < 0.0 or s >= 1.0 or t < 0.0 or t >= 1.0:
        return s, t, -1.0, slope
    return s, t, far, slope


@kernel
def transmissions(body, panel, mu, k0, k1, out):
    """The larger e^-∫µ dl from every voxel's centre straight to the detector and on from the source; slices k0…k1."""
    for k in range(k0, k1):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                x, y, z = (i + 0.5) * body.step_cm[0], (j + 0.5) * body.step_cm[1], (k + 0.5) * body.step_cm[2]
                dx, dy, dz = panel.normal
                depth, _ = optical_depths(body, x, y, z, dx, dy, dz, 1e9, mu, mu)
                dx, dy, dz = x - panel.source[0], y - panel.source[1], z - panel.source[2]
                far = max(math.sqrt(dx * dx + dy * dy + dz * dz), 1e-9)
                onward, _ = optical_depths(body, x, y, z, dx / far, dy / far, dz / far, 1e9, mu, mu)
                out[k, j, i] = math.exp(-min(depth, onward))


@kernel
def _attenuations(physics, energy, mu):
    index, fraction = place(physics, energy)
    for material in range(mu.size):
        mu[material] = between(physics.attenuation[material], index, fraction)


@kernel
def _detect(
    body, physics, panel, tally, order, x, y, z, dx, dy, dz, energy, material, rayleigh, compton, mu, mu2, state
):
    """Forced detection: what this collision may send to one point of the detector, for both kinds of scattering.

    rayleigh, compton: the photon's weight times the probability of each. The direction is drawn from a mixture of
    the Rayleigh and the Compton distribution and of uniform points on the detector, and weighted with the mixture's
    density, so that neither the forward peak nor a near detector makes rare, heavy scores (the balance heuristic of
    Veach & Guibas, SIGGRAPH 1995).
    """
    aim = uniform(state)
    if aim < TOWARDS_RAYLEIGH + TOWARDS_COMPTON:
        if aim < TOWARDS_RAYLEIGH:
            cosine = sample_rayleigh(physics, material, energy, state)
        else:
            cosine = sample_compton(physics, material, energy, state)
        ex, ey, ez = deflected(dx, dy, dz, cosine, state)
        s, t, far, slope = _arrival(panel, x, y, z, ex, ey, ez)
        if far <= 0.0:
            return
    else:
        s, t = uniform(state), uniform(state)
        ex = panel.corner[0] + s * panel.along_u[0] + t * panel.along_v[0] - x
        ey = panel.corner[1] + s * panel.along_u[1] + t * panel.along_v[1] - y
        ez = panel.corner[2] + s * panel.along_u[2] + t * panel.along_v[2] - z
        far = math.sqrt(ex * ex + ey * ey + ez * ez)
        if far < 1e-6:
            return
        ex, ey, ez = ex / far, ey / far, ez / far
        slope = ex * panel.normal[0] + ey * panel.normal[1] + ez * panel.normal[2]
        if slope <= 1e-9:
            return
        cosine = min(max(dx * ex + dy * ey + dz * ez, -1.0), 1.0)
    index, fraction = place(physics, energy)
    toward_rayleigh = rayleigh_factor(physics, material, energy, cosine) / between(
        physics.rayleigh_norm[material], index, fraction
    )
    factor, kept = compton_factor(physics, material, energy, cosine)
    toward_compton = factor / between(physics.compton_norm[material], index, fraction)
    density = (
        TOWARDS_RAYLEIGH * toward_rayleigh
        + TOWARDS_COMPTON * toward_compton
        + (1.0 - TOWARDS_RAYLEIGH - TOWARDS_COMPTON) * far * far / (slope * panel.area)
    )
    _attenuations(physics, energy * kept, mu2)
    depth, depth2 = optical_depths(body, x, y, z, ex, ey, ez, far, mu, mu2)
    if depth < DEEPEST:
        component = SINGLE_RAYLEIGH if order == 0 else MULTIPLE
        weight = rayleigh * toward_rayleigh / density * math.exp(-depth)
        _score(panel, physics, tally, component, s, t, ex, ey, ez, energy, weight)
    if depth2 < DEEPEST:
        component = SINGLE_COMPTON if order == 0 else MULTIPLE
        weight = compton * toward_compton / density * math.exp(-depth2)
        _score(panel, physics, tally, component, s, t, ex, ey, ez, energy * kept, weight)


@kernel
def fly(body, x, y, z, dx, dy, dz, mu, state):
    """Woodcock (delta) tracking from inside the box to the next true collision: place, label (-1 where it left).

    Steps follow the largest attenuation anywhere; a collision is true with the probability µ(here) / µ(largest).
    """
    nk, nj, ni = body.density.shape
    px, py, pz = 1.0 / body.step_cm[0], 1.0 / body.step_cm[1], 1.0 / body.step_cm[2]
    largest = 0.0
    for material in range(mu.size):
        largest = max(largest, mu[material] * body.peak[material])
    if largest <= 0.0:
        return x, y, z, -1
    while True:
        step = -math.log(1.0 - uniform(state)) / largest
        x, y, z = x + step * dx, y + step * dy, z + step * dz
        if x < 0.0 or y < 0.0 or z < 0.0:
            return x, y, z, -1
        i, j, k = int(x * px), int(y * py), int(z * pz)
        if i >= ni or j >= nj or k >= nk:
            return x, y, z, -1
        label = np.int64(body.labels[k, j, i])
        if uniform(state) * largest < body.density[k, j, i] * mu[label]:
            return x, y, z, label


@kernel
def _emit(panel, state):
    """A ray to a uniform point of the field, and the solid angle that it stands for."""
    s = panel.field[0] + uniform(state) * (panel.field[2] - panel.field[0])
    t = panel.field[1] + uniform(state) * (panel.field[3] - panel.field[1])
    ex = panel.corner[0] + s * panel.along_u[0] + t * panel.along_v[0] - panel.source[0]
    ey = panel.corner[1] + s * panel.along_u[1] + t * panel.along_v[1] - panel.source[1]
    ez = panel.corner[2] + s * panel.along_u[2] + t * panel.along_v[2] - panel.source[2]
    far = math.sqrt(ex * ex + ey * ey + ez * ez)
    part = (panel.field[2] - panel.field[0]) * (panel.field[3] - panel.field[1])
    return ex / far, ey / far, ez / far, part * panel.area * panel.distance / (far * far * far)


@kernel
def run_batch(body, physics, panel, energies, cumulative, photons, points, state, tally, ledger):
    """Follow `photons` histories; points is the number of forced detections per collision, 0 for analogue transport.

    Adds to tally (component, quantity, v, u) and to ledger (EMITTED, PHOTOELECTRIC, RECOIL, ESCAPED, BALANCE, then from
    DEPOSITED on what stays in each material) in keV times weight; BALANCE is what Russian roulette took less what it
    gave, so that the ledger always closes.
    """
    mu, mu2 = np.empty(body.peak.size), np.empty(body.peak.size)
    for _ in range(photons):
        draw = uniform(state)
        energy = energies[min(np.searchsorted(cumulative, draw, side="right"), energies.size - 1)]
        dx, dy, dz, born = _emit(panel, state)
        weight, order, component = born, 0, PRIMARY
        ledger[EMITTED] += weight * energy
        x, y, z = panel.source[0], panel.source[1], panel.source[2]
        enter, leave = _span(body, x, y, z, dx, dy, dz)
        if leave > enter:
            # A hair inside, so that rounding does not leave the photon before the box.
            enter += 1e-9
            x, y, z = x + enter * dx, y + enter * dy, z + enter * dz
            x, y, z = max(x, 0.0), max(y, 0.0), max(z, 0.0)
        while True:
            _attenuations(physics, energy, mu)
            at_x, at_y, at_z = x, y, z
            material = -1
            if leave > enter:
                x, y, z, material = fly(body, x, y, z, dx, dy, dz, mu, state)
            if material < 0:
                ledger[ESCAPED] += weight * energy
                if order == 0 or points == 0:
                    s, t, far, _ = _arrival(panel, at_x, at_y, at_z, dx, dy, dz)
                    if far > 0.0:
                        _score(panel, physics, tally, component, s, t, dx, dy, dz, energy, weight)
                break
            index, fraction = place(physics, energy)
            rayleigh = between(physics.rayleigh[material], index, fraction) / mu[material]
            compton = between(physics.compton[material], index, fraction) / mu[material]
            if points > 0:
                i, j, k = int(x / body.step_cm[0]), int(y / body.step_cm[1]), int(z / body.step_cm[2])
                expected = points * max(body.worth[k, j, i] * weight / born, LEAST_WORTH)
                for _ in range(int(expected + uniform(state))):
                    _detect(
                        body, physics, panel, tally, order, x, y, z, dx, dy, dz, energy, material,
                        weight * rayleigh / expected, weight * compton / expected, mu, mu2, state,
                    )  # fmt: skip
            if points == 0:
                if uniform(state) >= rayleigh + compton:
                    ledger[PHOTOELECTRIC] += weight * energy
                    ledger[DEPOSITED + material] += weight * energy
                    break
            else:
                taken = weight * energy * (1.0 - rayleigh - compton)
                ledger[PHOTOELECTRIC] += taken
                ledger[DEPOSITED + material] += taken
                weight *= rayleigh + compton
                if weight < LIGHTEST * born:
                    if uniform(state) < 0.5:
                        ledger[BALANCE] += weight * energy
                        break
                    ledger[BALANCE] -= weight * energy
                    weight *= 2.0
            if uniform(state) * (rayleigh + compton) < rayleigh:
                cosine = sample_rayleigh(physics, material, energy, state)
                component = SINGLE_RAYLEIGH if order == 0 else MULTIPLE
            else:
                cosine = sample_compton(physics, material, energy, state)
                component = SINGLE_COMPTON if order == 0 else MULTIPLE
                kept = 1.0 / (1.0 + energy / ELECTRON_MASS_KEV * (1.0 - cosine))
                ledger[RECOIL] += weight * energy * (1.0 - kept)
                ledger[DEPOSITED + material] += weight * energy * (1.0 - kept)
                energy *= kept
            dx, dy, dz = deflected(dx, dy, dz, cosine, state)
            order += 1
            if energy <= physics.first_kev:
                ledger[PHOTOELECTRIC] += weight * energy
                ledger[DEPOSITED + material] += weight * energy
                break
