// Spectrum and detector: what exposure.expose does, with the same tables

// exp(-70) in powers of two, where expose() stops as well.
static const float DEEPEST_POWER = -100.98865f;
static const int ROWS_AT_A_TIME = 4;

// minus_mu (energies, MATERIALS): -(µ/ρ)·log2(e), zero beyond the volume's materials; weights (rows, energies);
// sums (views, rows, pixels). One thread is one pixel, grid.y the view, grid.z a group of rows.
template <int MATERIALS>
__device__ __forceinline__ void expose(
    const float *area_densities, int materials, int pixels, const float *minus_mu, const float *weights, int energies,
    int rows, float *sums
) {
    const int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= pixels) return;
    float density[MATERIALS], sum[ROWS_AT_A_TIME];
    const float *areas = area_densities + (size_t)blockIdx.y * materials * pixels + pixel;
#pragma unroll
    for (int m = 0; m < MATERIALS; ++m) density[m] = m < materials ? fmaxf(areas[(size_t)m * pixels], 0.0f) : 0.0f;
    const int first = ROWS_AT_A_TIME * blockIdx.z;
#pragma unroll
    for (int r = 0; r < ROWS_AT_A_TIME; ++r) sum[r] = 0.0f;
    for (int e = 0; e < energies; ++e) {
        float power = 0.0f;
#pragma unroll
        for (int m = 0; m < MATERIALS; ++m) power += minus_mu[e * MATERIALS + m] * density[m];
        const float transmission = exp2f(fmaxf(power, DEEPEST_POWER));
#pragma unroll
        for (int r = 0; r < ROWS_AT_A_TIME; ++r)
            if (first + r < rows) sum[r] += weights[(first + r) * energies + e] * transmission;
    }
    float *out = sums + (size_t)blockIdx.y * rows * pixels + pixel;
#pragma unroll
    for (int r = 0; r < ROWS_AT_A_TIME; ++r)
        if (first + r < rows) out[(size_t)(first + r) * pixels] = sum[r];
}

#define EXPOSE(MATERIALS)                                                                                              \
    extern "C" __global__ void expose_##MATERIALS(                                                                     \
        const float *area_densities, int materials, int pixels, const float *minus_mu, const float *weights,           \
        int energies, int rows, float *sums                                                                            \
    ) {                                                                                                                \
        expose<MATERIALS>(area_densities, materials, pixels, minus_mu, weights, energies, rows, sums);                 \
    }

EXPOSE(4)
EXPOSE(8)
EXPOSE(16)

// Adds scattered radiation (views, planes, pixels) to the sums (views, rows, pixels): plane_of[row] is the plane that
// belongs to a row. One thread is one pixel, grid.y the row, grid.z the view.
extern "C" __global__ void add_scatter(
    const float *scatter, const int *plane_of, int planes, int rows, int pixels, float *sums
) {
    const int pixel = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (pixel >= pixels) return;
    sums[((size_t)blockIdx.z * rows + row) * pixels + pixel] +=
        scatter[((size_t)blockIdx.z * planes + plane_of[row]) * pixels + pixel];
}
