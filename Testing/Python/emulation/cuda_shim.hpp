// What the kernels use of CUDA, for a C++ compiler: thread indices, intrinsics, textures, and launches thread by thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline

using std::max;
using std::min;

struct Index {
    unsigned x, y, z;
};
static Index blockIdx, blockDim, threadIdx;

static inline float cospif(float x) { return (float)std::cos(3.14159265358979323846 * x); }
static inline float sinpif(float x) { return (float)std::sin(3.14159265358979323846 * x); }
static inline double atomicAdd(double *to, double value) {
    const double before = *to;
    *to += value;
    return before;
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((uint64_t)a * b) >> 32); }

typedef unsigned long long cudaTextureObject_t;

// float16 texels are kept as the float of the same value; interpolation is then CUDA's.
struct EmulatedTexture {
    int width, height, depth;
    std::vector<float> linear;
    std::vector<unsigned char> nearest;
};

static unsigned long long fetches[2]; // nearest and linear, since the library was loaded

static inline int clamped(float index, int size) { return (int)std::min(std::max(index, 0.0f), (float)(size - 1)); }

// Coordinates in texels, clamped to the edge (CUDA C++ Programming Guide, Texture Fetching).
template <class T> struct Fetch;

template <> struct Fetch<unsigned char> { // the nearest texel
    static unsigned char at(const EmulatedTexture &t, float x, float y, float z) {
        ++fetches[0];
        const size_t i = clamped(std::floor(x), t.width), j = clamped(std::floor(y), t.height),
                     k = clamped(std::floor(z), t.depth);
        return t.nearest[(k * t.height + j) * t.width + i];
    }
};

template <> struct Fetch<float> { // linear interpolation, its weights in 9 bits: steps of 1/256
    static void split(float x, int size, int (&index)[2], float (&weight)[2]) {
        const float below = std::floor(x - 0.5f);
        weight[1] = std::floor((x - 0.5f - below) * 256.0f + 0.5f) / 256.0f;
        weight[0] = 1.0f - weight[1];
        index[0] = clamped(below, size);
        index[1] = clamped(below + 1.0f, size);
    }
    static float at(const EmulatedTexture &t, float x, float y, float z) {
        ++fetches[1];
        int i[2], j[2], k[2];
        float wi[2], wj[2], wk[2];
        split(x, t.width, i, wi);
        split(y, t.height, j, wj);
        split(z, t.depth, k, wk);
        float sum = 0.0f;
        for (int c = 0; c < 2; ++c)
            for (int b = 0; b < 2; ++b) {
                if (wk[c] * wj[b] == 0.0f) continue;
                const float *row = t.linear.data() + ((size_t)k[c] * t.height + j[b]) * t.width;
                sum += wk[c] * wj[b] * (wi[0] * row[i[0]] + wi[1] * row[i[1]]);
            }
        return sum;
    }
};

template <class T> static inline T tex3D(cudaTextureObject_t texture, float x, float y, float z) {
    return Fetch<T>::at(*reinterpret_cast<const EmulatedTexture *>(texture), x, y, z);
}

// A kernel with its types forgotten: how large its parameters are, and how to run it on all its threads.
struct EmulatedKernel {
    const char *name;
    std::vector<int> sizes;
    void (*run)(const Index &grid, const Index &block, void **arguments);
};

template <auto KERNEL> struct Launcher;

template <class... Values, void (*KERNEL)(Values...)> struct Launcher<KERNEL> {
    static std::vector<int> sizes() { return {(int)sizeof(Values)...}; }

    static void run(const Index &grid, const Index &block, void **arguments) {
        run(grid, block, arguments, std::index_sequence_for<Values...>());
    }

    template <std::size_t... N>
    static void run(const Index &grid, const Index &block, void **arguments, std::index_sequence<N...>) {
        blockDim = block;
        for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
            for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
                for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
                    for (threadIdx.z = 0; threadIdx.z < block.z; ++threadIdx.z)
                        for (threadIdx.y = 0; threadIdx.y < block.y; ++threadIdx.y)
                            for (threadIdx.x = 0; threadIdx.x < block.x; ++threadIdx.x)
                                KERNEL(*static_cast<Values *>(arguments[N])...);
    }
};

#define EMULATED(KERNEL) EmulatedKernel{#KERNEL, Launcher<&KERNEL>::sizes(), &Launcher<&KERNEL>::run}
