// What arrives at the detector: by itself, through the anti-scatter grid, and by forced detection.
#pragma once

// What the anti-scatter grid lets through, averaged over one period; see antiscatter.AntiScatterGrid.
__device__ float strip_transmission(const Scene &scene, int index, float s, float t, Vector d) {
    const float height = scene.strips[0], width = scene.strips[1], period = scene.strips[2];
    const float offset = dot(on_panel(scene, s, t, scene.source), scene.across_lines);
    // Turn about the lines, so that the strip at this place, which points at the source, stands upright.
    const float lean = sqrtf(offset * offset + scene.distance * scene.distance);
    const float sine = offset / lean, cosine = scene.distance / lean;
    const float rise = dot(d, scene.normal), tangent = dot(d, scene.across_lines);
    const float upright = cosine * rise + sine * tangent;
    if (!(upright > 1e-9f)) return 0.0f;
    const float along = dot(d, scene.along_lines) / upright;
    const float across = fabsf(cosine * tangent - sine * rise) / upright;
    const float sweep = height * across, path = height * sqrtf(1.0f + along * along + across * across);
    const float lead = scene.strip_mu[2 * index], gap = scene.strip_mu[2 * index + 1];
    if (sweep < 1e-6f * period) {
        const float part = width / period;
        return part * expf(-lead * path) + (1.0f - part) * expf(-gap * path);
    }
    const float whole = floorf(sweep / period), rest = sweep - whole * period;
    // The last, partial period meets a strip over a width that is a trapezium of where it starts.
    const float least = fmaxf(0.0f, rest + width - period), ramp = fminf(rest, width) - least;
    const float per_cm = (lead - gap) * path / sweep, steep = per_cm * ramp;
    const float base = expf(-gap * path - per_cm * (whole * width + least));
    const float flat_high = fabsf(rest - width), flat_low = period - flat_high - 2.0f * ramp;
    const float slope = steep < 1e-6f ? 1.0f : -expm1f(-steep) / steep;
    return base * (flat_low + 2.0f * ramp * slope + flat_high * expf(-steep)) / period;
}

// Adds a photon that arrives at (s, t) along d, in units of the photons that arrive there with nothing in the beam.
__device__ void score(
    const Scene &scene, double *tally, Component component, float s, float t, Vector d, float energy, float weight
) {
    const int index = min((int)((energy - scene.first_kev) * scene.per_kev + 0.5f), scene.energies - 1);
    const Vector way = on_panel(scene, s, t, scene.source);
    const float square = dot(way, way), pixels = (float)(scene.rows * scene.columns);
    // Open beam: photons per cm² ∝ cos α / r² = distance / r³.
    weight *= square * sqrtf(square) / scene.distance * (pixels / scene.area);
    if (scene.strips[0] > 0.0f) weight *= strip_transmission(scene, index, s, t, d) * scene.strips[3];
    const int v = min((int)(t * (float)scene.rows), scene.rows - 1);
    const int u = min((int)(s * (float)scene.columns), scene.columns - 1);
    double *pixel = tally + (((size_t)component * scene.rows + v) * scene.columns + u) * scene.quantities;
    const float *response = scene.response + (size_t)index * scene.quantities;
    for (int q = 0; q < scene.quantities; ++q) atomicAdd(pixel + q, (double)(weight * response[q]));
}

// Where a ray meets the detector, how far away, and the cosine to its normal.
struct Arrival {
    float s, t, far, slope;
};

// False where the ray misses.
__device__ bool arrival_of(const Scene &scene, Vector p, Vector d, Arrival &arrival) {
    arrival.slope = dot(d, scene.normal);
    if (!(arrival.slope > 1e-9f)) return false;
    const Vector from_corner = p - scene.corner;
    arrival.far = -dot(from_corner, scene.normal) / arrival.slope;
    const Vector place = from_corner + arrival.far * d;
    arrival.s = dot(place, scene.across_u);
    arrival.t = dot(place, scene.across_v);
    return arrival.far > 0.0f && arrival.s >= 0.0f && arrival.s < 1.0f && arrival.t >= 0.0f && arrival.t < 1.0f;
}

struct Photon {
    Vector at, direction;
    float energy, weight;
    int order;
};

// Draws the direction of a forced photon from the mixture; false where it misses the detector.
__device__ bool aimed(
    const Scene &scene, const Photon &photon, int material, Random &random, Vector &d, float &cosine, Arrival &arrival
) {
    const float aim = uniform(random);
    if (aim < scene.towards_rayleigh + scene.towards_compton) {
        cosine = aim < scene.towards_rayleigh ? sample_rayleigh(scene, material, photon.energy, random)
                                              : sample_compton(scene, material, photon.energy, random);
        d = deflected(photon.direction, cosine, random);
        return arrival_of(scene, photon.at, d, arrival);
    }
    arrival.s = uniform(random);
    arrival.t = uniform(random);
    d = on_panel(scene, arrival.s, arrival.t, photon.at);
    arrival.far = sqrtf(dot(d, d));
    if (!(arrival.far > 1e-6f)) return false;
    d = 1.0f / arrival.far * d;
    arrival.slope = dot(d, scene.normal);
    cosine = fminf(fmaxf(dot(photon.direction, d), -1.0f), 1.0f);
    return arrival.slope > 1e-9f;
}

// Forced detection: what a collision may send to one point of the detector, for both kinds of scattering, each with its
// probability times the photon's weight; drawn and weighed as in transport.py.
__device__ void detect(
    const Scene &scene, double *tally, const Photon &photon, int material, float rayleigh, float compton,
    const float (&mu)[MAX_MATERIALS], Random &random
) {
    Vector d;
    Arrival arrival;
    float cosine, depth, recoiled_depth, recoiled_mu[MAX_MATERIALS];
    if (!aimed(scene, photon, material, random, d, cosine, arrival)) return;
    const Place at = place(scene, photon.energy);
    const float towards_rayleigh = rayleigh_factor(scene, material, photon.energy, cosine) /
                                   at_energy(scene, material, RAYLEIGH_NORM, at);
    const float towards_compton = compton_factor(scene, material, photon.energy, cosine) /
                                  at_energy(scene, material, COMPTON_NORM, at);
    const float anywhere = arrival.far * arrival.far / (arrival.slope * scene.area);
    const float density = scene.towards_rayleigh * towards_rayleigh + scene.towards_compton * towards_compton +
                          (1.0f - scene.towards_rayleigh - scene.towards_compton) * anywhere;
    const float kept = photon.energy * kept_part(scene, photon.energy, cosine);
    attenuations(scene, kept, recoiled_mu);
    optical_depths(scene, photon.at, d, arrival.far, mu, recoiled_mu, depth, recoiled_depth);
    if (depth < scene.deepest) {
        const float weight = rayleigh * towards_rayleigh / density * expf(-depth);
        score(scene, tally, photon.order ? MULTIPLE : SINGLE_RAYLEIGH, arrival.s, arrival.t, d, photon.energy, weight);
    }
    if (recoiled_depth < scene.deepest) {
        const float weight = compton * towards_compton / density * expf(-recoiled_depth);
        score(scene, tally, photon.order ? MULTIPLE : SINGLE_COMPTON, arrival.s, arrival.t, d, kept, weight);
    }
}
