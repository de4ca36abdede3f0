// Parts of the Monte Carlo for GPUs, one by one, for the tests; each is given a scene as the kernels are.
#pragma once

static Random stream(seed_t seed) { return {seed, 0u, 0u, {0u, 0u, 0u, 0u}, 0}; }

extern "C" void numbers_between_0_and_1(int count, seed_t seed, seed_t photon, float *out) {
    Random random = stream(seed);
    random.photon = photon;
    for (int n = 0; n < count; ++n) out[n] = uniform(random);
}

extern "C" void angular_factors(
    const Scene *scene, int material, float energy, const float *cosines, int count, float *rayleigh, float *compton
) {
    const Place at = place(*scene, energy);
    for (int n = 0; n < count; ++n) {
        rayleigh[n] = rayleigh_factor(*scene, material, energy, cosines[n]) /
                      at_energy(*scene, material, RAYLEIGH_NORM, at);
        compton[n] = compton_factor(*scene, material, energy, cosines[n]) /
                     at_energy(*scene, material, COMPTON_NORM, at);
    }
}

extern "C" void sampled_cosines(
    const Scene *scene, int compton, int material, float energy, int count, seed_t seed, float *out
) {
    Random random = stream(seed);
    for (int n = 0; n < count; ++n)
        out[n] = compton ? sample_compton(*scene, material, energy, random)
                         : sample_rayleigh(*scene, material, energy, random);
}

extern "C" void turned(const float *direction, float cosine, int count, seed_t seed, Vector *out) {
    Random random = stream(seed);
    for (int n = 0; n < count; ++n)
        out[n] = deflected({direction[0], direction[1], direction[2]}, cosine, random);
}

// rays (count, 5): where on the detector, and the direction.
extern "C" void grid_transmissions(const Scene *scene, int index, const float *rays, int count, float *out) {
    for (int n = 0; n < count; ++n) {
        const float *ray = rays + 5 * n;
        out[n] = strip_transmission(*scene, index, ray[0], ray[1], {ray[2], ray[3], ray[4]});
    }
}
