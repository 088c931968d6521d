// The devices of the backends that were built in, and everything that reaches one outside of a graph.

#include "guard.h"
#include "shim.h"

#include "ggml-backend.h"

#ifdef OWLET_CUDA
#include "ggml-cuda.h"
#endif
#ifdef OWLET_METAL
#include "ggml-metal.h"
#endif
#ifdef OWLET_VULKAN
#include "ggml-vulkan.h"
#include "vulkan_loader.h"
#endif

#include <vector>

// A backend whose driver is missing has no registry, or one without devices.
static const std::vector<ggml_backend_dev_t> & devices() {
    static const std::vector<ggml_backend_dev_t> all = [] {
        std::vector<ggml_backend_dev_t> found;
        const auto add = [&](ggml_backend_reg_t (*registry)()) {
            guarded([&] {
                ggml_backend_reg_t reg = registry();
                for (size_t i = 0; reg && i < ggml_backend_reg_dev_count(reg); i++) {
                    found.push_back(ggml_backend_reg_dev_get(reg, i));
                }
            });
        };
        (void) add;
#ifdef OWLET_CUDA
        add(ggml_backend_cuda_reg);
#endif
#ifdef OWLET_METAL
        add(ggml_backend_metal_reg);
#endif
#ifdef OWLET_VULKAN
        if (owlet_has_vulkan()) {
            add(ggml_backend_vk_reg);
        }
#endif
        return found;
    }();
    return all;
}

size_t owlet_n_devices(void) {
    return devices().size();
}

ggml_backend_dev_t owlet_device(size_t i) {
    return i < devices().size() ? devices()[i] : nullptr;
}

ggml_backend_t owlet_backend_new(ggml_backend_dev_t device) {
    owlet_forget_problem();
    ggml_backend_t backend = nullptr;
    guarded([&] { backend = ggml_backend_dev_init(device, nullptr); });
    return backend;
}

bool owlet_device_memory(ggml_backend_dev_t device, size_t * free, size_t * total) {
    *free = *total = 0;
    return guarded([&] { ggml_backend_dev_memory(device, free, total); });
}

// Whether what lies there can be freed. CUDA's backend frees in destructors, out of which nothing can be thrown.
static bool answers(ggml_backend_dev_t device) {
    size_t free, total;
    return owlet_device_memory(device, &free, &total);
}

void owlet_backend_free(ggml_backend_t backend) {
    if (answers(ggml_backend_get_device(backend))) {
        guarded([&] { ggml_backend_free(backend); });
    }
}

bool owlet_supports_op(ggml_backend_t backend, const ggml_tensor * op) {
    bool supports = false;
    guarded([&] { supports = ggml_backend_supports_op(backend, op); });
    return supports;
}

ggml_backend_buffer_t owlet_buffer_new(ggml_backend_t backend, size_t n_bytes) {
    ggml_backend_buffer_t buffer = nullptr;
    guarded([&] {
        buffer = ggml_backend_buft_alloc_buffer(ggml_backend_get_default_buffer_type(backend), n_bytes);
    });
    return buffer;
}

void owlet_buffer_free(ggml_backend_buffer_t buffer) {
    ggml_backend_dev_t device = ggml_backend_buft_get_device(ggml_backend_buffer_get_type(buffer));
    if (!device || answers(device)) {
        guarded([&] { ggml_backend_buffer_free(buffer); });
    }
}

bool owlet_buffer_clear(ggml_backend_buffer_t buffer) {
    return guarded([&] { ggml_backend_buffer_clear(buffer, 0); });
}

bool owlet_tensor_room(ggml_backend_t backend, const ggml_tensor * tensor, size_t * n_bytes, size_t * alignment) {
    return guarded([&] {
        ggml_backend_buffer_type_t type = ggml_backend_get_default_buffer_type(backend);
        *n_bytes   = ggml_backend_buft_get_alloc_size(type, tensor);
        *alignment = ggml_backend_buft_get_alignment(type);
    });
}

bool owlet_tensor_place(ggml_backend_buffer_t buffer, ggml_tensor * tensor, size_t offset) {
    bool is_placed = false;
    guarded([&] {
        char * address = static_cast<char *>(ggml_backend_buffer_get_base(buffer)) + offset;
        is_placed = ggml_backend_tensor_alloc(buffer, tensor, address) == GGML_STATUS_SUCCESS;
    });
    return is_placed;
}

bool owlet_tensor_fill(ggml_tensor * tensor, const void * bytes, size_t n_bytes) {
    bool is_there = false;
    return guarded([&] {
        is_there = ggml_backend_buffer_init_tensor(tensor->buffer, tensor) == GGML_STATUS_SUCCESS;
        if (is_there) {
            ggml_backend_tensor_set(tensor, bytes, 0, n_bytes);
        }
    }) && is_there;
}

bool owlet_tensor_set(ggml_tensor * tensor, const void * bytes, size_t offset, size_t n_bytes) {
    return guarded([&] { ggml_backend_tensor_set(tensor, bytes, offset, n_bytes); });
}

bool owlet_tensor_get(const ggml_tensor * tensor, void * bytes, size_t offset, size_t n_bytes) {
    return guarded([&] { ggml_backend_tensor_get(tensor, bytes, offset, n_bytes); });
}

// n runs of run_bytes, from offset on stride apart in the tensor and side by side in bytes.
bool owlet_tensor_set_runs(ggml_tensor * tensor, const void * bytes, size_t offset, size_t run_bytes, size_t n,
                           size_t stride) {
    return guarded([&] { ggml_backend_tensor_set_2d(tensor, bytes, offset, run_bytes, n, stride, run_bytes); });
}

bool owlet_tensor_get_runs(const ggml_tensor * tensor, void * bytes, size_t offset, size_t run_bytes, size_t n,
                           size_t stride) {
    return guarded([&] { ggml_backend_tensor_get_2d(tensor, bytes, offset, run_bytes, n, stride, run_bytes); });
}
