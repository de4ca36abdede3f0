// Noise of the photons and of the readout: what noise.py does, with random numbers of its own.
#include "../../gpu/philox.cuh"

// Two standard normal numbers (Box and Muller 1958).
__device__ __forceinline__ void normals(word bits0, word bits1, float &one, float &other) {
    const float radius = sqrtf(-2.0f * logf(uniform(bits0))), half_turns = 2.0f * uniform(bits1);
    one = radius * cospif(half_turns);
    other = radius * sinpif(half_turns);
}

// ln of the Poisson probability of k ≥ 0, by Stirling's series and the deviance (Loader 2000): no difference of large
// numbers, so float is enough.
__device__ float log_poisson(float k, float mean) {
    if (k < 0.5f) return -mean;
    const float x = (k - mean) / mean;
    float deviance;
    if (fabsf(x) < 0.1f)
        deviance = x * x * (0.5f - x * (1 / 6.0f - x * (1 / 12.0f - x * (1 / 20.0f - x * (1 / 30.0f - x / 42.0f)))));
    else
        deviance = (1.0f + x) * log1pf(x) - x;
    const float per_k = 1.0f / k, square = per_k * per_k;
    const float stirling = per_k * (1 / 12.0f - square * (1 / 360.0f - square / 1260.0f));
    return -0.5f * logf(6.2831853f * k) - stirling - mean * deviance;
}

static const float FEW = 10.0f;
static const float MANY = 16384.0f;

// Poisson(mean) − mean. Few photons: inversion. More: transformed rejection (PTRS, Hörmann 1993). Very many: a normal
// number, corrected for the skewness (Cornish and Fisher 1938) and rounded; its distribution is off by less than 1e-5.
__device__ float poisson_deviation(float mean, word pixel, word channel, seed_t seed) {
    if (!(mean > 0.0f)) return 0.0f;
    word bits[4] = {pixel, channel, 0u, QUANTUM};
    philox(bits, seed);
    if (mean < FEW) {
        const float u = uniform(bits[0]);
        float k = 0.0f, probability = expf(-mean), below = probability;
        while (u > below && k < 100.0f) {
            k += 1.0f;
            probability *= mean / k;
            below += probability;
        }
        return k - mean;
    }
    if (mean >= MANY) {
        float z, unused;
        normals(bits[0], bits[1], z, unused);
        const float part = mean - floorf(mean);
        return floorf(sqrtf(mean) * z + (z * z - 1.0f) / 6.0f + part + 0.5f) - part;
    }
    const float b = 0.931f + 2.53f * sqrtf(mean), a = -0.059f + 0.02483f * b;
    const float inverse_alpha = 1.1239f + 1.1328f / (b - 3.4f), squeeze = 0.9277f - 3.6224f / (b - 2.0f);
    for (word attempt = 1;; ++attempt) {
        const float u = uniform(bits[0]) - 0.5f, v = uniform(bits[1]), us = 0.5f - fabsf(u);
        const float k = floorf((2.0f * a / us + b) * u + mean + 0.43f);
        if (us >= 0.07f && v <= squeeze) return k - mean;
        if (k >= 0.0f && !(us < 0.013f && v > us) &&
            logf(v * inverse_alpha / (a / (us * us) + b)) <= log_poisson(k, mean))
            return k - mean;
        bits[0] = pixel, bits[1] = channel, bits[2] = attempt, bits[3] = QUANTUM;
        philox(bits, seed);
    }
}

// Quantum noise e/i·(Poisson(i·N) − i·N), i being `information`, on the detector and a margin around it, (views,
// channels, height + 2·margin_v, width + 2·margin_u); beyond the border the exposure is that of the border. row_of:
// which row of `sums` holds the photons, the signal and the squared signal of every channel. One thread is one pixel,
// grid.y the channel, grid.z the view, whose seed is `seed` + view.
extern "C" __global__ void quantum_noise(
    const float *sums, const int *row_of, int channels, int rows, int width, int height, int margin_u, int margin_v,
    float photons_per_pixel, float information, int compound, seed_t seed, float *noise
) {
    const int wide = width + 2 * margin_u, high = height + 2 * margin_v;
    const int pixel = blockIdx.x * blockDim.x + threadIdx.x, channel = blockIdx.y;
    if (pixel >= wide * high) return;
    const int u = min(max(pixel % wide - margin_u, 0), width - 1), v = min(max(pixel / wide - margin_v, 0), height - 1);
    const size_t pixels = (size_t)width * height;
    const float *here = sums + (size_t)blockIdx.z * rows * pixels + (size_t)v * width + u;
    const float photons = here[row_of[channel] * pixels];
    float gain = 0.0f;
    if (photons > 0.0f)
        gain = compound ? sqrtf(here[row_of[2 * channels + channel] * pixels] / photons)
                        : here[row_of[channels + channel] * pixels] / photons;
    const float deviation =
        poisson_deviation(photons * photons_per_pixel * information, (word)pixel, (word)channel, seed + blockIdx.z);
    noise[((size_t)blockIdx.z * channels + channel) * wide * high + pixel] = gain / information * deviation;
}

// Signal and quantum noise (none where `noise` is null) after crosstalk, detected photons of all channels, mean energy.
// crosstalk (2·margin_v + 1, 2·margin_u + 1); beyond the border the signal is that of the border. One thread is one
// pixel, grid.y the view.
extern "C" __global__ void finish(
    const float *sums, const int *row_of, int channels, int rows, int width, int height, const float *noise,
    const float *crosstalk, int margin_u, int margin_v, float photons_per_pixel, float *signal, float *photons,
    float *mean_energy_kev
) {
    const int pixel = blockIdx.x * blockDim.x + threadIdx.x, pixels = width * height;
    if (pixel >= pixels) return;
    const int wide = width + 2 * margin_u, high = height + 2 * margin_v;
    const int u = pixel % width, v = pixel / width;
    const float *view = sums + (size_t)blockIdx.y * rows * pixels, *here = view + pixel;
    float detected = 0.0f;
    for (int channel = 0; channel < channels; ++channel) {
        const size_t plane = (size_t)blockIdx.y * channels + channel;
        const float *expected = view + (size_t)row_of[channels + channel] * pixels;
        const float *corner = noise ? noise + plane * wide * high + (size_t)v * wide + u : nullptr;
        float value = 0.0f;
        for (int dv = 0; dv <= 2 * margin_v; ++dv) {
            const float *line = expected + (size_t)min(max(v + dv - margin_v, 0), height - 1) * width;
            for (int du = 0; du <= 2 * margin_u; ++du) {
                float shared = line[min(max(u + du - margin_u, 0), width - 1)] * photons_per_pixel;
                if (corner) shared += corner[(size_t)dv * wide + du];
                value += crosstalk[dv * (2 * margin_u + 1) + du] * shared;
            }
        }
        signal[plane * pixels + pixel] = value;
        detected += here[(size_t)row_of[channel] * pixels];
    }
    const size_t out = (size_t)blockIdx.y * pixels + pixel;
    photons[out] = detected * photons_per_pixel;
    mean_energy_kev[out] = detected > 0.0f ? here[(size_t)row_of[3 * channels] * pixels] / detected : 0.0f;
}

// Adds Gaussian noise whose correlation along a row is neighbour^distance. One thread is one segment of a row (grid.y
// the row, (channels · height), grid.z the view): it runs into the recursion over the `warm_up` pixels before, so that
// segments fit together. Both lengths are multiples of 4.
extern "C" __global__ void readout_noise(
    float *signal, int width, int rows, float std_signal, float neighbour, int segment, int warm_up, seed_t seed
) {
    const int start = (blockIdx.x * blockDim.x + threadIdx.x) * segment, row = blockIdx.y;
    if (start >= width) return;
    const int begin = max(start - warm_up, 0), end = min(start + segment, width);
    const float fresh = sqrtf(1.0f - neighbour * neighbour);
    float *line = signal + ((size_t)blockIdx.z * rows + row) * width;
    float state = 0.0f;
    for (int block = begin; block < end; block += 4) {
        word bits[4] = {(word)block, (word)row, 0u, READOUT};
        philox(bits, seed + blockIdx.z);
        float normal[4];
        normals(bits[0], bits[1], normal[0], normal[1]);
        normals(bits[2], bits[3], normal[2], normal[3]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int u = block + i;
            state = u == begin ? normal[i] : neighbour * state + fresh * normal[i];
            if (u >= start && u < end) line[u] += std_signal * state;
        }
    }
}
