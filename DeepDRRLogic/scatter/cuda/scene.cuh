// What a run looks like on the device: scene.py fills it in, in this order.
#pragma once

static const int MAX_MATERIALS = 16;

struct Vector {
    float x, y, z;
};

__device__ __forceinline__ Vector operator+(Vector a, Vector b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
__device__ __forceinline__ Vector operator-(Vector a, Vector b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
__device__ __forceinline__ Vector operator*(float f, Vector a) { return {f * a.x, f * a.y, f * a.z}; }
__device__ __forceinline__ float dot(Vector a, Vector b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

// Quantities of the tables, fastest index; the rows that transport.py's Physics has.
enum ByEnergy { ATTENUATION, RAYLEIGH_PART, COMPTON_PART, RAYLEIGH_NORM, COMPTON_NORM, BY_ENERGY };
enum ByTransfer { FORM_SQUARE, FORM_CUMULATIVE, BOUND, BY_TRANSFER };

enum Component { PRIMARY, SINGLE_COMPTON, SINGLE_RAYLEIGH, MULTIPLE, COMPONENTS };
enum Ledger { EMITTED, PHOTOELECTRIC, RECOIL, ESCAPED, BALANCE, DEPOSITED };

// transport.py explains the names: Body, Physics, Panel, and its constants. Lengths are cm, energies keV; x, y, z run
// along i, j, k from the first corner of the voxels [k, j, i].
struct Scene {
    const float *density;
    const unsigned char *labels;
    const float *worth;
    const float *by_energy;   // (materials, energies, BY_ENERGY)
    const float *by_transfer; // (materials, transfers, BY_TRANSFER)
    const float *response;    // (energies, quantities)
    const float *strip_mu;    // (energies, 2)
    const float *spectrum;    // (lines, 2): energy, and the part of the photons up to it
    int size[3], materials, energies, transfers, lines, quantities, rows, columns, batches, points;
    Vector step_cm, per_cm, source, corner, along_u, along_v, across_u, across_v, normal, along_lines, across_lines;
    float distance, area, field[4], strips[4], peak[MAX_MATERIALS];
    float first_kev, per_kev, largest_transfer, electron_mass_kev, kev_angstrom;
    float towards_rayleigh, towards_compton, lightest, deepest, least_worth;
};

// The point of the detector at (s, t), as seen from `from`.
__device__ __forceinline__ Vector on_panel(const Scene &scene, float s, float t, Vector from) {
    return scene.corner - from + s * scene.along_u + t * scene.along_v;
}

// The numbers of one photon: their counter is the photon's own number.
struct Random {
    seed_t seed, photon;
    word block, bits[4];
    int left;
};

__device__ __forceinline__ float uniform(Random &random) {
    if (random.left == 0) {
        word counter[4] = {(word)random.photon, (word)(random.photon >> 32), random.block++, TRANSPORT};
        philox(counter, random.seed);
        for (int i = 0; i < 4; ++i) random.bits[i] = counter[i];
        random.left = 4;
    }
    const word drawn = random.bits[0];
    // Shifted, not indexed: so they stay in registers.
    random.bits[0] = random.bits[1];
    random.bits[1] = random.bits[2];
    random.bits[2] = random.bits[3];
    --random.left;
    return uniform(drawn);
}
