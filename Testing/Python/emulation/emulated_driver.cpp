// The CUDA driver's library without a GPU: as many of its functions as we call, and the kernels as C++.
#include <chrono>
#include <list>

#include "cuda_shim.hpp"

#include "kernels.cu"

#include "transport.cu"

#include "emulated_memory.hpp"

#include "scatter_entrances.hpp"

struct CUevent_st {
    double milliseconds;
};

static const EmulatedKernel KERNELS[] = {
    EMULATED(project_4), EMULATED(project_8), EMULATED(project_16),   EMULATED(expose_4), EMULATED(expose_8),
    EMULATED(expose_16), EMULATED(finish),    EMULATED(quantum_noise), EMULATED(readout_noise), EMULATED(add_scatter),
    EMULATED(follow),    EMULATED(transmissions),
};

static int capability = 90, devices = 1;

struct CUmod_st {
    std::string ptx;
};

// The tests' own entrances

extern "C" void emulate(const char *setting, long long value) {
    const std::string name = setting;
    if (name == "total_bytes") total_bytes = value;
    else if (name == "capability") capability = (int)value;
    else if (name == "devices") devices = (int)value;
    else if (value) failing[name] = (int)value;
    else failing.erase(name);
}

extern "C" unsigned long long emulated_used_bytes() { return used_bytes; }
extern "C" unsigned long long emulated_fetches(int linear) { return fetches[linear]; }
// The calls since the last time that it was asked: U(pload), L(aunch), D(ownload), W(ait).
extern "C" void emulated_calls(char *text, int room) {
    std::strncpy(text, calls.c_str(), room);
    calls.clear();
}

extern "C" int emulated_depth() { return depth; }

extern "C" int emulated_parameters(const void *function, int *sizes) {
    const EmulatedKernel &kernel = *static_cast<const EmulatedKernel *>(function);
    std::copy(kernel.sizes.begin(), kernel.sizes.end(), sizes);
    return (int)kernel.sizes.size();
}

extern "C" void philox_block(unsigned *counter, unsigned long long seed) {
    word bits[4] = {counter[0], counter[1], counter[2], counter[3]};
    philox(bits, seed);
    std::copy(bits, bits + 4, counter);
}

extern "C" void poisson_deviations(const float *means, int count, unsigned long long seed, float *out) {
    for (int i = 0; i < count; ++i) out[i] = poisson_deviation(means[i], (word)i, 0u, seed);
}

// Devices and contexts

EXPORTED(cuInit)(unsigned) {
    ENTER(false);
    return CUDA_SUCCESS;
}

EXPORTED(cuDriverGetVersion)(int *version) {
    *version = 13000;
    return CUDA_SUCCESS;
}

EXPORTED(cuGetErrorName)(CUresult error, const char **name) {
    static std::map<int, std::string> names;
    *name = (names[(int)error] = "error " + std::to_string((int)error)).c_str();
    return CUDA_SUCCESS;
}

EXPORTED(cuGetErrorString)(CUresult error, const char **text) { return cuGetErrorName(error, text); }

EXPORTED(cuDeviceGetCount)(int *count) {
    ENTER(false);
    *count = devices;
    return CUDA_SUCCESS;
}

EXPORTED(cuDeviceGet)(CUdevice *device, int number) {
    ENTER(false);
    if (number >= devices) return CUDA_ERROR_INVALID_DEVICE;
    *device = number;
    return CUDA_SUCCESS;
}

EXPORTED(cuDeviceGetName)(char *name, int length, CUdevice) {
    std::strncpy(name, "Emulated GPU", length);
    return CUDA_SUCCESS;
}

EXPORTED(cuDeviceGetAttribute)(int *value, CUdevice_attribute attribute, CUdevice) {
    // Numbers of an H100.
    const std::map<int, int> values = {
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, capability / 10},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, capability % 10},
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132},
        {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1980000},
        {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 2619000},
        {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 5120},
    };
    const auto found = values.find((int)attribute);
    CHECK(found != values.end());
    *value = found->second;
    return CUDA_SUCCESS;
}

EXPORTED(cuDeviceComputeCapability)(int *major, int *minor, CUdevice) {
    *major = capability / 10;
    *minor = capability % 10;
    return CUDA_SUCCESS;
}

EXPORTED(cuDevicePrimaryCtxRetain)(CUcontext *context, CUdevice) {
    ENTER(false);
    *context = reinterpret_cast<CUcontext>(&depth);
    return CUDA_SUCCESS;
}

EXPORTED(cuDevicePrimaryCtxRelease_v2)(CUdevice) { return CUDA_SUCCESS; }

EXPORTED(cuCtxGetCurrent)(CUcontext *context) {
    *context = depth ? reinterpret_cast<CUcontext>(&depth) : nullptr;
    return CUDA_SUCCESS;
}

EXPORTED(cuCtxGetDevice)(CUdevice *device) {
    *device = 0;
    return CUDA_SUCCESS;
}

EXPORTED(cuCtxPushCurrent_v2)(CUcontext) {
    ENTER(false);
    ++depth;
    return CUDA_SUCCESS;
}

EXPORTED(cuCtxPopCurrent_v2)(CUcontext *context) {
    ENTER(true);
    --depth;
    return cuCtxGetCurrent(context);
}

EXPORTED(cuCtxSynchronize)() {
    ENTER(true);
    calls += 'W';
    return CUDA_SUCCESS;
}

// Kernels

EXPORTED(cuModuleLoadDataEx)(CUmodule *module, const void *image, unsigned, CUjit_option *, void **) {
    ENTER(true);
    static std::list<CUmod_st> modules;
    *module = &modules.emplace_back(CUmod_st{static_cast<const char *>(image)});
    return CUDA_SUCCESS;
}

EXPORTED(cuModuleLoadData)(CUmodule *module, const void *image) {
    ENTER(true);
    return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

EXPORTED(cuModuleUnload)(CUmodule) { return CUDA_SUCCESS; }

EXPORTED(cuModuleGetFunction)(CUfunction *function, CUmodule module, const char *name) {
    ENTER(true);
    if (module->ptx.find(".entry " + std::string(name) + "(") == std::string::npos) return CUDA_ERROR_NOT_FOUND;
    for (const EmulatedKernel &kernel : KERNELS)
        if (std::string(kernel.name) == name) {
            *function = reinterpret_cast<CUfunction>(const_cast<EmulatedKernel *>(&kernel));
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_NOT_FOUND;
}

EXPORTED(cuFuncSetBlockShape)(CUfunction, int, int, int) { return CUDA_SUCCESS; }

EXPORTED(cuLaunchKernel)(
    CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
    unsigned block_z, unsigned shared, CUstream stream, void **arguments, void **extra
) {
    ENTER(true);
    CHECK(block_x * block_y * block_z <= 1024 && grid_y < 65536 && grid_z < 65536 && block_z <= 64);
    CHECK(grid_x > 0 && grid_y > 0 && grid_z > 0 && !shared && !stream);
    const auto &kernel = *reinterpret_cast<const EmulatedKernel *>(function);
    std::vector<void *> unpacked;
    if (extra) { // CU_LAUNCH_PARAM_BUFFER_POINTER, buffer, …: every argument lies at a multiple of its size
        char *buffer = static_cast<char *>(extra[1]);
        size_t offset = 0;
        for (const int size : kernel.sizes) {
            offset = (offset + size - 1) / size * size;
            unpacked.push_back(buffer + offset);
            offset += size;
        }
        arguments = unpacked.data();
    }
    calls += 'L';
    kernel.run({grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, arguments);
    return CUDA_SUCCESS;
}

// Time

EXPORTED(cuEventCreate)(CUevent *event, unsigned) {
    ENTER(true);
    *event = new CUevent_st{0.0};
    return CUDA_SUCCESS;
}

EXPORTED(cuEventRecord)(CUevent event, CUstream) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    event->milliseconds = std::chrono::duration<double, std::milli>(now).count();
    return CUDA_SUCCESS;
}

EXPORTED(cuEventSynchronize)(CUevent) {
    calls += 'W';
    return CUDA_SUCCESS;
}

EXPORTED(cuEventElapsedTime)(float *milliseconds, CUevent start, CUevent stop) {
    *milliseconds = (float)(stop->milliseconds - start->milliseconds);
    return CUDA_SUCCESS;
}

EXPORTED(cuEventDestroy_v2)(CUevent event) {
    delete event;
    return CUDA_SUCCESS;
}
