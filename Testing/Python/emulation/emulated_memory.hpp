// The emulated driver's memory, arrays and textures, and what all of its functions begin with.
//
// With the CUDA toolkit at hand its cuda.h is used, so that our own idea of its structures is put to the test as well.
#pragma once

#if __has_include(<cuda.h>)
#include <cuda.h>
#else
#include "cuda_types.hpp"
#endif

#include <cstring>
#include <map>
#include <string>

#include "cuda_shim.hpp"

#undef cuArray3DCreate
#undef cuCtxPopCurrent
#undef cuCtxPushCurrent
#undef cuMemAlloc
#undef cuMemFree
#undef cuMemGetInfo
#undef cuMemcpy3D
#undef cuMemsetD8
#undef cuMemcpyDtoH
#undef cuMemcpyHtoD
#undef cuEventDestroy
#undef cuEventElapsedTime

#define EXPORTED(NAME) extern "C" __attribute__((visibility("default"))) CUresult NAME
#define CHECK(CONDITION)                                                                                               \
    if (!(CONDITION)) return CUDA_ERROR_INVALID_VALUE

struct Allocation {
    std::vector<unsigned char> bytes;
};
struct CUarray_st {
    CUDA_ARRAY3D_DESCRIPTOR shape;
    std::vector<unsigned char> bytes;
};
static size_t total_bytes = (size_t)2 << 30, used_bytes = 0;
static std::map<CUdeviceptr, Allocation> memory;
static std::map<std::string, int> failing; // function: the error that it is to give
static thread_local int depth = 0;         // of this thread's stack of contexts
static std::string calls;                  // a letter for every upload, launch, copy to the host and wait

static CUresult failure(const char *function) {
    const auto found = failing.find(function);
    return found == failing.end() ? CUDA_SUCCESS : (CUresult)found->second;
}

// Every function but those for devices needs a context.
#define ENTER(NEEDS_CONTEXT)                                                                                           \
    if (const CUresult told = failure(__func__)) return told;                                                          \
    if (NEEDS_CONTEXT && depth < 1) return CUDA_ERROR_INVALID_CONTEXT

EXPORTED(cuMemGetInfo_v2)(size_t *free, size_t *total) {
    ENTER(true);
    *free = total_bytes - std::min(total_bytes, used_bytes);
    *total = total_bytes;
    return CUDA_SUCCESS;
}

EXPORTED(cuMemAlloc_v2)(CUdeviceptr *pointer, size_t bytes) {
    ENTER(true);
    CHECK(bytes > 0);
    if (used_bytes + bytes > total_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    // Fresh memory holds anything: here, numbers that would show.
    Allocation fresh{std::vector<unsigned char>(bytes, 0x7b)};
    *pointer = reinterpret_cast<CUdeviceptr>(fresh.bytes.data());
    memory[*pointer] = std::move(fresh);
    used_bytes += bytes;
    return CUDA_SUCCESS;
}

EXPORTED(cuMemFree_v2)(CUdeviceptr pointer) {
    ENTER(true);
    CHECK(memory.count(pointer));
    used_bytes -= memory[pointer].bytes.size();
    memory.erase(pointer);
    return CUDA_SUCCESS;
}

EXPORTED(cuMemsetD8_v2)(CUdeviceptr to, unsigned char value, size_t bytes) {
    ENTER(true);
    CHECK(memory.count(to) && bytes <= memory[to].bytes.size());
    std::memset(memory[to].bytes.data(), value, bytes);
    return CUDA_SUCCESS;
}

EXPORTED(cuMemcpyHtoD_v2)(CUdeviceptr to, const void *from, size_t bytes) {
    ENTER(true);
    calls += 'U';
    CHECK(memory.count(to) && bytes <= memory[to].bytes.size());
    std::memcpy(memory[to].bytes.data(), from, bytes);
    return CUDA_SUCCESS;
}

EXPORTED(cuMemcpyDtoH_v2)(void *to, CUdeviceptr from, size_t bytes) {
    ENTER(true);
    calls += 'D';
    CHECK(memory.count(from) && bytes <= memory[from].bytes.size());
    std::memcpy(to, memory[from].bytes.data(), bytes);
    return CUDA_SUCCESS;
}

static size_t texel_bytes(const CUDA_ARRAY3D_DESCRIPTOR &shape) { return shape.Format == CU_AD_FORMAT_HALF ? 2 : 1; }

EXPORTED(cuArray3DCreate_v2)(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *shape) {
    ENTER(true);
    CHECK(shape->Format == CU_AD_FORMAT_HALF || shape->Format == CU_AD_FORMAT_UNSIGNED_INT8);
    CHECK(shape->NumChannels == 1 && shape->Flags == 0 && shape->Depth > 0);
    const size_t bytes = shape->Width * shape->Height * shape->Depth * texel_bytes(*shape);
    if (used_bytes + bytes > total_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    *array = new CUarray_st{*shape, std::vector<unsigned char>(bytes)};
    used_bytes += bytes;
    return CUDA_SUCCESS;
}

EXPORTED(cuArrayDestroy)(CUarray array) {
    ENTER(true);
    used_bytes -= array->bytes.size();
    delete array;
    return CUDA_SUCCESS;
}

EXPORTED(cuMemcpy3D_v2)(const CUDA_MEMCPY3D *copy) {
    ENTER(true);
    CHECK(copy->srcMemoryType == CU_MEMORYTYPE_HOST && copy->dstMemoryType == CU_MEMORYTYPE_ARRAY);
    CHECK(!copy->srcXInBytes && !copy->srcY && !copy->srcZ && !copy->dstXInBytes && !copy->dstY && !copy->dstZ);
    CHECK(!copy->reserved0 && !copy->reserved1 && !copy->srcLOD && !copy->dstLOD);
    CUarray_st &array = *copy->dstArray;
    CHECK(copy->WidthInBytes == array.shape.Width * texel_bytes(array.shape));
    CHECK(copy->Height == array.shape.Height && copy->Depth == array.shape.Depth);
    for (size_t row = 0; row < copy->Height * copy->Depth; ++row) {
        const size_t slice = row / copy->Height, in_slice = row % copy->Height;
        std::memcpy(
            array.bytes.data() + row * copy->WidthInBytes,
            static_cast<const char *>(copy->srcHost) + (slice * copy->srcHeight + in_slice) * copy->srcPitch,
            copy->WidthInBytes
        );
    }
    return CUDA_SUCCESS;
}

static float from_half(uint16_t bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const float size = exponent ? std::ldexp(1024.0f + mantissa, exponent - 25) : std::ldexp((float)mantissa, -24);
    return bits >> 15 ? -size : size;
}

EXPORTED(cuTexObjectCreate)(
    CUtexObject *texture, const CUDA_RESOURCE_DESC *resource, const CUDA_TEXTURE_DESC *how,
    const CUDA_RESOURCE_VIEW_DESC *view
) {
    ENTER(true);
    CHECK(resource->resType == CU_RESOURCE_TYPE_ARRAY && !resource->flags && !view);
    for (int axis = 0; axis < 3; ++axis) CHECK(how->addressMode[axis] == CU_TR_ADDRESS_MODE_CLAMP);
    const CUarray_st &array = *resource->res.array.hArray;
    auto *made = new EmulatedTexture{(int)array.shape.Width, (int)array.shape.Height, (int)array.shape.Depth, {}, {}};
    if (array.shape.Format == CU_AD_FORMAT_HALF) {
        CHECK(how->filterMode == CU_TR_FILTER_MODE_LINEAR && how->flags == 0);
        const auto *halves = reinterpret_cast<const uint16_t *>(array.bytes.data());
        made->linear.resize(array.bytes.size() / 2);
        std::transform(halves, halves + made->linear.size(), made->linear.begin(), from_half);
    } else {
        CHECK(how->filterMode == CU_TR_FILTER_MODE_POINT && how->flags == CU_TRSF_READ_AS_INTEGER);
        made->nearest = array.bytes;
    }
    *texture = reinterpret_cast<CUtexObject>(made);
    return CUDA_SUCCESS;
}

EXPORTED(cuTexObjectDestroy)(CUtexObject texture) {
    ENTER(true);
    delete reinterpret_cast<EmulatedTexture *>(texture);
    return CUDA_SUCCESS;
}
