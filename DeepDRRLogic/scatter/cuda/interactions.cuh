// Cross sections from the tables, and directions after a collision: transport.py's formulae and sources.
//
// Every loop ends for numbers that are none, too: a GPU that hangs takes the screen with it.
#pragma once

struct Place {
    int index;
    float fraction;
};

// Where an energy lies in the tables.
__device__ __forceinline__ Place place(const Scene &scene, float energy) {
    const float last = (float)scene.energies - 1.001f;
    const float at = fminf(fmaxf((energy - scene.first_kev) * scene.per_kev, 0.0f), last);
    const int index = (int)at;
    return {index, at - (float)index};
}

__device__ __forceinline__ float at_energy(const Scene &scene, int material, ByEnergy which, Place place) {
    const float *node = scene.by_energy + ((size_t)material * scene.energies + place.index) * BY_ENERGY + which;
    return node[0] + place.fraction * (node[BY_ENERGY] - node[0]);
}

__device__ __forceinline__ void attenuations(const Scene &scene, float energy, float (&mu)[MAX_MATERIALS]) {
    const Place at = place(scene, energy);
    for (int material = 0; material < scene.materials; ++material)
        mu[material] = at_energy(scene, material, ATTENUATION, at);
}

// A table over the momentum transfer x, whose nodes are those of √x, linear in x.
__device__ __forceinline__ float over_transfer(const Scene &scene, int material, ByTransfer which, float transfer) {
    const float at = fminf(sqrtf(transfer / scene.largest_transfer), 1.0f) * (float)(scene.transfers - 1);
    const int index = min((int)at, scene.transfers - 2);
    const float low = (float)index, part = (at - low) * (at + low) / (2.0f * low + 1.0f);
    const float *node = scene.by_transfer + ((size_t)material * scene.transfers + index) * BY_TRANSFER + which;
    return node[0] + part * (node[BY_TRANSFER] - node[0]);
}

__device__ __forceinline__ float transfer_of(const Scene &scene, float energy, float cosine) {
    return energy / scene.kev_angstrom * sqrtf(fmaxf(0.5f * (1.0f - cosine), 0.0f));
}

// The part of the energy that a Compton photon keeps.
__device__ __forceinline__ float kept_part(const Scene &scene, float energy, float cosine) {
    return 1.0f / (1.0f + energy / scene.electron_mass_kev * (1.0f - cosine));
}

// Klein and Nishina's angular factor k²(k + 1/k − sin²θ) times S(x).
__device__ __forceinline__ float compton_factor(const Scene &scene, int material, float energy, float cosine) {
    const float kept = kept_part(scene, energy, cosine);
    const float shape = kept * kept * (kept + 1.0f / kept - 1.0f + cosine * cosine);
    return shape * over_transfer(scene, material, BOUND, transfer_of(scene, energy, cosine));
}

__device__ __forceinline__ float rayleigh_factor(const Scene &scene, int material, float energy, float cosine) {
    return (1.0f + cosine * cosine) * over_transfer(scene, material, FORM_SQUARE, transfer_of(scene, energy, cosine));
}

// Cosine of a Compton deflection, by rejection.
__device__ float sample_compton(const Scene &scene, int material, float energy, Random &random) {
    const float largest = 2.0f * over_transfer(scene, material, BOUND, energy / scene.kev_angstrom);
    float cosine;
    do cosine = 2.0f * uniform(random) - 1.0f;
    while (uniform(random) * largest > compton_factor(scene, material, energy, cosine));
    return cosine;
}

// Cosine of a Rayleigh deflection: x² from ∫F² dx², then rejection with the Thomson factor.
__device__ float sample_rayleigh(const Scene &scene, int material, float energy, Random &random) {
    const float *table = scene.by_transfer + (size_t)material * scene.transfers * BY_TRANSFER + FORM_CUMULATIVE;
    const float end = energy / scene.kev_angstrom, whole = over_transfer(scene, material, FORM_CUMULATIVE, end);
    const float nodes = (float)(scene.transfers - 1), scale = scene.largest_transfer / (nodes * nodes);
    float cosine;
    do {
        const float aim = uniform(random) * whole;
        int low = 0, high = scene.transfers - 1;
        while (high - low > 1) {
            const int middle = (low + high) >> 1;
            (table[middle * BY_TRANSFER] <= aim ? low : high) = middle;
        }
        const float below = table[low * BY_TRANSFER], gap = table[high * BY_TRANSFER] - below;
        const float part = gap > 0.0f ? (aim - below) / gap : 0.0f;
        const float from = scale * (float)(low * low), to = scale * (float)(high * high);
        const float square = from * from + part * (to * to - from * from);
        cosine = fmaxf(1.0f - 2.0f * square / (end * end), -1.0f);
    } while (2.0f * uniform(random) > 1.0f + cosine * cosine);
    return cosine;
}

// A unit vector at this angle to the direction d, its azimuth at random.
__device__ Vector deflected(Vector d, float cosine, Random &random) {
    const float half_turns = 2.0f * uniform(random), sine = sqrtf(fmaxf(1.0f - cosine * cosine, 0.0f));
    const float a = sine * cospif(half_turns), b = sine * sinpif(half_turns);
    const float flat = sqrtf(d.x * d.x + d.y * d.y);
    if (flat < 1e-5f) return {a, b, d.z < 0.0f ? -cosine : cosine};
    return {
        cosine * d.x + (a * d.x * d.z - b * d.y) / flat,
        cosine * d.y + (a * d.y * d.z + b * d.x) / flat,
        cosine * d.z - a * flat,
    };
}
