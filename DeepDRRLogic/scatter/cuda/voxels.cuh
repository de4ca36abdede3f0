// Ways through the voxels: where a ray meets their box, optical depths along it, and Woodcock's flight to a collision.
#pragma once

// Narrows the part of a ray inside the box to what one axis leaves of it; false where that is nothing.
__device__ __forceinline__ bool between_walls(float p, float d, float size, float &enter, float &leave) {
    if (fabsf(d) < 1e-9f) return p >= 0.0f && p < size;
    const float first = -p / d, second = (size - p) / d;
    enter = fmaxf(enter, fminf(first, second));
    leave = fminf(leave, fmaxf(first, second));
    return true;
}

__device__ __forceinline__ Vector box_cm(const Scene &scene) {
    return {
        scene.step_cm.x * (float)scene.size[0], scene.step_cm.y * (float)scene.size[1],
        scene.step_cm.z * (float)scene.size[2]
    };
}

// Where a ray enters and leaves the box, as distances from its start; false where it misses.
__device__ __forceinline__ bool span(const Scene &scene, Vector p, Vector d, float &enter, float &leave) {
    const Vector box = box_cm(scene);
    enter = 0.0f;
    leave = 1e30f;
    return between_walls(p.x, d.x, box.x, enter, leave) && between_walls(p.y, d.y, box.y, enter, leave) &&
           between_walls(p.z, d.z, box.z, enter, leave) && leave > enter;
}

// One axis of a walk from voxel to voxel: where it is, its step, the distance to its next wall and between walls.
struct Axis {
    int voxel, step, count;
    float wall, width;
};

__device__ __forceinline__ Axis axis_of(float p, float d, float step_cm, int count, float enter) {
    const int voxel = min(max((int)floorf((p + d * enter) / step_cm), 0), count - 1);
    if (d > 1e-9f) return {voxel, 1, count, ((float)(voxel + 1) * step_cm - p) / d, step_cm / d};
    if (d < -1e-9f) return {voxel, -1, count, ((float)voxel * step_cm - p) / d, -step_cm / d};
    return {voxel, 0, count, 1e30f, 1e30f};
}

// On to the next voxel along one axis; false where that is outside.
__device__ __forceinline__ bool advance(Axis &axis) {
    axis.voxel += axis.step;
    axis.wall += axis.width;
    return axis.voxel >= 0 && axis.voxel < axis.count;
}

__device__ __forceinline__ size_t voxel_at(const Scene &scene, int i, int j, int k) {
    return ((size_t)k * scene.size[1] + j) * scene.size[0] + i;
}

// ∫ρ µ/ρ dl up to `length` for two tables µ/ρ by material (Amanatides and Woo, Eurographics 1987).
__device__ void optical_depths(
    const Scene &scene, Vector p, Vector d, float length, const float (&mu_one)[MAX_MATERIALS],
    const float (&mu_two)[MAX_MATERIALS], float &one, float &two
) {
    float here, leave;
    one = two = 0.0f;
    if (!span(scene, p, d, here, leave)) return;
    leave = fminf(leave, length);
    Axis x = axis_of(p.x, d.x, scene.step_cm.x, scene.size[0], here);
    Axis y = axis_of(p.y, d.y, scene.step_cm.y, scene.size[1], here);
    Axis z = axis_of(p.z, d.z, scene.step_cm.z, scene.size[2], here);
    bool inside = true;
    while (inside && here < leave && fminf(one, two) < scene.deepest) {
        const size_t voxel = voxel_at(scene, x.voxel, y.voxel, z.voxel);
        const float there = fminf(fminf(x.wall, y.wall), fminf(z.wall, leave));
        // Walls are reached by adding up, and rounding may put the next one a hair before this one.
        const float mass = scene.density[voxel] * fmaxf(there - here, 0.0f);
        const int material = scene.labels[voxel];
        one += mass * mu_one[material];
        two += mass * mu_two[material];
        here = there;
        if (x.wall <= y.wall && x.wall <= z.wall)
            inside = advance(x);
        else
            inside = y.wall <= z.wall ? advance(y) : advance(z);
    }
}

// The voxel at a point, or -1 outside.
__device__ __forceinline__ long long voxel_of(const Scene &scene, Vector p) {
    const float x = p.x * scene.per_cm.x, y = p.y * scene.per_cm.y, z = p.z * scene.per_cm.z;
    const bool inside = x >= 0.0f && y >= 0.0f && z >= 0.0f && x < (float)scene.size[0] && y < (float)scene.size[1] &&
                        z < (float)scene.size[2];
    return inside ? (long long)voxel_at(scene, (int)x, (int)y, (int)z) : -1;
}

// Woodcock (delta) tracking from p to the next true collision: the label there, -1 where the photon left.
__device__ int fly(
    const Scene &scene, Vector &p, Vector d, const float (&mu)[MAX_MATERIALS], long long &voxel, Random &random
) {
    float largest = 0.0f;
    for (int material = 0; material < scene.materials; ++material)
        largest = fmaxf(largest, mu[material] * scene.peak[material]);
    if (!(largest > 0.0f)) return -1;
    for (;;) {
        p = p + -logf(1.0f - uniform(random)) / largest * d;
        voxel = voxel_of(scene, p);
        if (voxel < 0) return -1;
        const int label = scene.labels[voxel];
        if (uniform(random) * largest < scene.density[voxel] * mu[label]) return label;
    }
}
