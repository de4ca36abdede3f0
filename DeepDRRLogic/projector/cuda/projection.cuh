// From a volume to area densities.

// A view: the source, then the ray of pixel (0, 0) and its steps per u and v, in voxels; then the rays in mm.
static const int VIEW_FLOATS = 21;

// A label texel: the voxel's material in the low bits; above them one flag per axis, set where the four voxels of the
// face that a slice across this axis interpolates hold matter of more than one material.
static const unsigned LABEL_BITS = 5;
static const unsigned LABEL_MASK = (1u << LABEL_BITS) - 1u;

// From this slope on, a slice is sampled twice, where linear interpolation has its standard deviation: exact to third
// order for oblique rays too, as in fan.py.
static const float STEEP = 0.35f;
static const float OFFSET = 0.40824829f;

static const float CM_PER_MM = 0.1f;

// Area densities

struct Volume {
    cudaTextureObject_t density, labels;
    int size[3];
};

template <int MATERIALS>
__device__ __forceinline__ void add(float (&total)[MATERIALS], unsigned label, float value) {
#pragma unroll
    for (int m = 0; m < MATERIALS; ++m) total[m] += label == (unsigned)m ? value : 0.0f;
}

// Adds the four voxels around a point of a slice one by one: they belong to several materials.
template <int MATERIALS, int AXIS>
__device__ void add_corners(const Volume &volume, const float (&point)[3], float weight, float (&total)[MATERIALS]) {
    const int P = AXIS == 0 ? 1 : 0, Q = AXIS == 2 ? 1 : 2;
    const float p = fminf(fmaxf(point[P], 0.0f), (float)(volume.size[P] - 1)), low_p = floorf(p), up_p = p - low_p;
    const float q = fminf(fmaxf(point[Q], 0.0f), (float)(volume.size[Q] - 1)), low_q = floorf(q), up_q = q - low_q;
    float at[3];
    at[AXIS] = point[AXIS] + 0.5f;
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
        at[P] = low_p + (corner & 1 ? 1.5f : 0.5f);
        at[Q] = low_q + (corner & 2 ? 1.5f : 0.5f);
        const float share = (corner & 1 ? up_p : 1.0f - up_p) * (corner & 2 ? up_q : 1.0f - up_q);
        const unsigned label = tex3D<unsigned char>(volume.labels, at[0], at[1], at[2]) & LABEL_MASK;
        add(total, label, weight * share * tex3D<float>(volume.density, at[0], at[1], at[2]));
    }
}

// Adds what a slice across AXIS holds at a point whose coordinate along that axis is a whole number.
template <int MATERIALS, int AXIS>
__device__ __forceinline__ void add_slice(
    const Volume &volume, const float (&point)[3], float weight, float (&total)[MATERIALS]
) {
    // The label is that of the lower corner of the face. Along AXIS the middle of the texel is meant, away from where
    // rounding would decide. Both texels are asked for before either is looked at: one wait instead of two.
    const unsigned texel = tex3D<unsigned char>(
        volume.labels, point[0] + (AXIS == 0 ? 0.5f : 0.0f), point[1] + (AXIS == 1 ? 0.5f : 0.0f),
        point[2] + (AXIS == 2 ? 0.5f : 0.0f)
    );
    const float value = tex3D<float>(volume.density, point[0] + 0.5f, point[1] + 0.5f, point[2] + 0.5f);
    if (texel >> (LABEL_BITS + AXIS) & 1u)
        add_corners<MATERIALS, AXIS>(volume, point, weight, total);
    else
        add(total, texel & LABEL_MASK, weight * value);
}

// The part of a ray between source and detector that lies in the volume's extent, as a range of its coordinate along
// AXIS; false where there is none.
template <int AXIS>
__device__ __forceinline__ bool clip(
    const Volume &volume, const float (&source)[3], const float (&ray)[3], const float (&slope)[3], float &w0, float &w1
) {
    w0 = fminf(source[AXIS], source[AXIS] + ray[AXIS]);
    w1 = fmaxf(source[AXIS], source[AXIS] + ray[AXIS]);
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        const float low = -0.5f - source[i], high = (float)volume.size[i] - 0.5f - source[i];
        if (fabsf(slope[i]) < 1e-9f) {
            if (low > 0.0f || high < 0.0f) return false;
        } else {
            const float a = source[AXIS] + low / slope[i], b = source[AXIS] + high / slope[i];
            w0 = fmaxf(w0, fminf(a, b));
            w1 = fminf(w1, fmaxf(a, b));
        }
    }
    return w1 > w0;
}

// Follows a ray slice by slice along the axis of the volume that it follows most closely (Joseph 1982); each slice
// stands for the part of the ray that is nearest to it. The total is in g/cm³ times slices.
template <int MATERIALS, int AXIS>
__device__ __forceinline__ void march(
    const Volume &volume, const float (&source)[3], const float (&ray)[3], float (&total)[MATERIALS]
) {
    const int P = AXIS == 0 ? 1 : 0, Q = AXIS == 2 ? 1 : 2;
    float slope[3], point[3], w0, w1;
    slope[AXIS] = 1.0f;
    slope[P] = ray[P] / ray[AXIS];
    slope[Q] = ray[Q] / ray[AXIS];
    if (!clip<AXIS>(volume, source, ray, slope, w0, w1)) return;
    const int first = max((int)floorf(w0 + 0.5f), 0), last = min((int)ceilf(w1 - 0.5f), volume.size[AXIS] - 1);
    const int samples = fmaxf(fabsf(slope[P]), fabsf(slope[Q])) > STEEP ? 2 : 1;
    for (int slice = first; slice <= last; ++slice) {
        const float low = fmaxf(w0, (float)slice - 0.5f), high = fminf(w1, (float)slice + 0.5f), part = high - low;
        for (int sample = 0; sample < samples; ++sample) {
            const float aside = samples == 1 ? 0.0f : (sample ? OFFSET : -OFFSET) * part;
            const float h = 0.5f * (low + high) + aside - source[AXIS];
            point[AXIS] = (float)slice;
            point[P] = source[P] + slope[P] * h;
            point[Q] = source[Q] + slope[Q] * h;
            add_slice<MATERIALS, AXIS>(volume, point, samples == 1 ? part : 0.5f * part, total);
        }
    }
}

// Adds to area_densities (views, planes, height, width): plane_of[m] is the plane of the volume's material m. One thread
// is one pixel, grid.z the view.
template <int MATERIALS>
__device__ __forceinline__ void project(
    const Volume &volume, const float *views, int width, int height, const int *plane_of, int materials, int planes,
    float *area_densities
) {
    const int u = blockIdx.x * blockDim.x + threadIdx.x, v = blockIdx.y * blockDim.y + threadIdx.y;
    if (u >= width || v >= height) return;
    const float *view = views + VIEW_FLOATS * blockIdx.z;
    float source[3], ray[3], square_mm = 0.0f;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        source[i] = view[i];
        ray[i] = view[3 + i] + (float)u * view[6 + i] + (float)v * view[9 + i];
        const float mm = view[12 + i] + (float)u * view[15 + i] + (float)v * view[18 + i];
        square_mm += mm * mm;
    }
    float total[MATERIALS];
#pragma unroll
    for (int m = 0; m < MATERIALS; ++m) total[m] = 0.0f;
    const float x = fabsf(ray[0]), y = fabsf(ray[1]), z = fabsf(ray[2]), longest = fmaxf(x, fmaxf(y, z));
    if (x == longest)
        march<MATERIALS, 0>(volume, source, ray, total);
    else if (y == longest)
        march<MATERIALS, 1>(volume, source, ray, total);
    else
        march<MATERIALS, 2>(volume, source, ray, total);

    const float cm_per_slice = CM_PER_MM * sqrtf(square_mm) / longest;
    const size_t pixels = (size_t)width * height;
    float *out = area_densities + (size_t)blockIdx.z * planes * pixels + (size_t)v * width + u;
#pragma unroll
    for (int m = 0; m < MATERIALS; ++m)
        if (m < materials) out[plane_of[m] * pixels] += total[m] * cm_per_slice;
}

#define PROJECT(MATERIALS)                                                                                             \
    extern "C" __global__ void project_##MATERIALS(                                                                    \
        cudaTextureObject_t density, cudaTextureObject_t labels, int ni, int nj, int nk, const float *views,           \
        int width, int height, const int *plane_of, int materials, int planes, float *area_densities                   \
    ) {                                                                                                                \
        const Volume volume = {density, labels, {ni, nj, nk}};                                                         \
        project<MATERIALS>(volume, views, width, height, plane_of, materials, planes, area_densities);                 \
    }

PROJECT(4)
PROJECT(8)
PROJECT(16)
