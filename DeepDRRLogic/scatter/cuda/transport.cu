// The Monte Carlo of transport.py for GPUs: the same physics from the same tables, in float, with sums in double. One
// source: nvcc makes transport.ptx of it (Testing/Tools/build_ptx.py), and the tests compile it as C++ against a shim
// that stands in for CUDA.

#include "../../gpu/philox.cuh"

#include "scene.cuh"

#include "interactions.cuh"

#include "voxels.cuh"

#include "detection.cuh"

// What a photon has left of its life.
struct History {
    Photon photon;
    Component component;
    float born;   // the weight that it began with
    bool inside;  // whether its ray meets the voxels
    double *tally, *ledger;
};

__device__ __forceinline__ void enter(double *ledger, int account, float energy_times_weight) {
    atomicAdd(ledger + account, (double)energy_times_weight);
}

__device__ __forceinline__ void deposit(const History &history, Ledger account, int material, float energy) {
    enter(history.ledger, account, energy);
    enter(history.ledger, DEPOSITED + material, energy);
}

// The energy of a photon of the spectrum.
__device__ float emitted_energy(const Scene &scene, Random &random) {
    const float aim = uniform(random);
    int low = 0, high = scene.lines - 1;
    while (low < high) {
        const int middle = (low + high) >> 1;
        if (scene.spectrum[2 * middle + 1] > aim)
            high = middle;
        else
            low = middle + 1;
    }
    return scene.spectrum[2 * low];
}

// Sends a photon to a uniform point of the field, its weight the solid angle that it stands for, up to the voxels.
__device__ History emitted(const Scene &scene, double *tally, double *ledger, Random &random) {
    History history;
    Photon &photon = history.photon;
    photon.energy = emitted_energy(scene, random);
    const float width = scene.field[2] - scene.field[0], height = scene.field[3] - scene.field[1];
    const float s = scene.field[0] + uniform(random) * width, t = scene.field[1] + uniform(random) * height;
    const Vector way = on_panel(scene, s, t, scene.source);
    const float far = sqrtf(dot(way, way));
    photon.direction = 1.0f / far * way;
    photon.weight = history.born = width * height * scene.area * scene.distance / (far * far * far);
    photon.order = 0;
    photon.at = scene.source;
    float first, last;
    history.inside = span(scene, photon.at, photon.direction, first, last);
    if (history.inside) {
        // Rounding must not leave the photon before the box.
        const Vector box = box_cm(scene);
        photon.at = photon.at + first * photon.direction;
        photon.at.x = fminf(fmaxf(photon.at.x, 0.0f), box.x);
        photon.at.y = fminf(fmaxf(photon.at.y, 0.0f), box.y);
        photon.at.z = fminf(fmaxf(photon.at.z, 0.0f), box.z);
    }
    history.component = PRIMARY;
    history.tally = tally;
    history.ledger = ledger;
    enter(ledger, EMITTED, photon.weight * photon.energy);
    return history;
}

// A photon that has left the voxels: the primary counts, and with no forced detection whatever arrives.
__device__ void leave(const Scene &scene, const History &history, Vector from) {
    const Photon &photon = history.photon;
    enter(history.ledger, ESCAPED, photon.weight * photon.energy);
    Arrival arrival;
    if ((photon.order == 0 || scene.points == 0) && arrival_of(scene, from, photon.direction, arrival))
        score(
            scene, history.tally, history.component, arrival.s, arrival.t, photon.direction, photon.energy,
            photon.weight
        );
}

// Takes what is absorbed in a collision, `scattered` being the part that is not; false where the photon ends.
__device__ bool survives(const Scene &scene, History &history, int material, float scattered, Random &random) {
    Photon &photon = history.photon;
    const float energy = photon.weight * photon.energy;
    if (scene.points == 0) {
        if (uniform(random) < scattered) return true;
        deposit(history, PHOTOELECTRIC, material, energy);
        return false;
    }
    deposit(history, PHOTOELECTRIC, material, energy * (1.0f - scattered));
    photon.weight *= scattered;
    if (photon.weight >= scene.lightest * history.born) return true;
    // Russian roulette.
    const bool ended = uniform(random) < 0.5f;
    enter(history.ledger, BALANCE, (ended ? 1.0f : -1.0f) * photon.weight * photon.energy);
    photon.weight *= 2.0f;
    return !ended;
}

// Turns a photon, by Rayleigh scattering with this probability, else by Compton scattering; false where it ends.
__device__ bool scatters(const Scene &scene, History &history, int material, float rayleigh_part, Random &random) {
    Photon &photon = history.photon;
    const bool rayleigh = uniform(random) < rayleigh_part;
    const float cosine = rayleigh ? sample_rayleigh(scene, material, photon.energy, random)
                                  : sample_compton(scene, material, photon.energy, random);
    history.component = photon.order ? MULTIPLE : rayleigh ? SINGLE_RAYLEIGH : SINGLE_COMPTON;
    if (!rayleigh) {
        const float kept = kept_part(scene, photon.energy, cosine);
        deposit(history, RECOIL, material, photon.weight * photon.energy * (1.0f - kept));
        photon.energy *= kept;
    }
    photon.direction = deflected(photon.direction, cosine, random);
    ++photon.order;
    if (photon.energy > scene.first_kev) return true;
    deposit(history, PHOTOELECTRIC, material, photon.weight * photon.energy);
    return false;
}

// Follows photons `first` to `first` + `photons`; photon n belongs to batch n % batches. Adds to tally (batch,
// component, row, column, quantity) and to ledger (batch, account), as transport.run_batch does. One thread is one
// photon.
extern "C" __global__ void follow(
    const Scene scene, seed_t seed, seed_t first, word photons, double *tally, double *ledger
) {
    const word index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= photons) return;
    Random random = {seed, first + index, 0u, {0u, 0u, 0u, 0u}, 0};
    const size_t batch = random.photon % (seed_t)scene.batches;
    tally += batch * COMPONENTS * scene.rows * scene.columns * scene.quantities;
    ledger += batch * (DEPOSITED + scene.materials);
    History history = emitted(scene, tally, ledger, random);
    Photon &photon = history.photon;
    float mu[MAX_MATERIALS];
    for (;;) {
        attenuations(scene, photon.energy, mu);
        const Vector from = photon.at;
        long long voxel = -1;
        const int material = history.inside ? fly(scene, photon.at, photon.direction, mu, voxel, random) : -1;
        if (material < 0) return leave(scene, history, from);
        const Place at = place(scene, photon.energy);
        const float rayleigh = at_energy(scene, material, RAYLEIGH_PART, at) / mu[material];
        const float compton = at_energy(scene, material, COMPTON_PART, at) / mu[material];
        if (scene.points > 0) {
            const float worth = scene.worth[voxel] * photon.weight / history.born;
            const float expected = (float)scene.points * fmaxf(worth, scene.least_worth);
            const float share = photon.weight / expected;
            for (int more = (int)(expected + uniform(random)); more > 0; --more)
                detect(scene, tally, photon, material, share * rayleigh, share * compton, mu, random);
        }
        if (!survives(scene, history, material, rayleigh + compton, random)) return;
        if (!scatters(scene, history, material, rayleigh / (rayleigh + compton), random)) return;
    }
}

// The larger e^-∫µ dl at an energy from the centres of voxels `first` to `first` + `voxels` straight to the detector and
// on from the source. One thread is one voxel.
extern "C" __global__ void transmissions(const Scene scene, float energy, seed_t first, word voxels, float *worth) {
    const word index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= voxels) return;
    const seed_t voxel = first + index, row = voxel / scene.size[0];
    const Vector centre = {
        ((float)(voxel % scene.size[0]) + 0.5f) * scene.step_cm.x,
        ((float)(row % scene.size[1]) + 0.5f) * scene.step_cm.y,
        ((float)(row / scene.size[1]) + 0.5f) * scene.step_cm.z,
    };
    float mu[MAX_MATERIALS], straight, onward, unused;
    attenuations(scene, energy, mu);
    const Vector way = centre - scene.source;
    const float far = fmaxf(sqrtf(dot(way, way)), 1e-6f);
    optical_depths(scene, centre, scene.normal, 1e9f, mu, mu, straight, unused);
    optical_depths(scene, centre, 1.0f / far * way, 1e9f, mu, mu, onward, unused);
    worth[voxel] = expf(-fminf(straight, onward));
}
