// The GPU's share of image formation: from a volume to area densities, from these to what the detector receives, and
// from that to a noisy signal. One source: nvcc makes kernels.ptx of it (Testing/Tools/build_ptx.py), and the tests
// compile it as C++ against a shim that stands in for CUDA.
//
// Arrays are C-ordered, the last index fastest. Lengths are in voxels unless a name says mm.

#include "projection.cuh"

#include "exposure.cuh"

#include "noise.cuh"
