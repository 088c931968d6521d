// Devices that every machine has: ggml's CPU code behind what sets devices apart. Their memory is no host memory and nobody
// else's, so whatever crosses is copied by the scheduler or refused; fresh memory holds no zeros; and they know ggml's
// operations only. So the placement of a model is proven without a GPU.

#include "shim.h"

#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml-impl.h"

#include <array>
#include <atomic>
#include <cstring>
#include <stdexcept>

namespace {

ggml_backend_dev_t cpu() {
    return ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
}

// The first one is called as if there were no other.
const char * const names[] = {"stand-in", "stand-in 2", "stand-in 3"};
constexpr size_t n_stand_ins = sizeof(names) / sizeof(names[0]);

size_t index(ggml_backend_dev_t device);

const char * name(ggml_backend_dev_t device) {
    return names[index(device)];
}

// How the last stand-in is.
std::atomic<owlet_stand_in_state> state;

bool is(ggml_backend_dev_t device, owlet_stand_in_state lost) {
    return index(device) == n_stand_ins - 1 && state == lost;
}

void abort_where_lost(ggml_backend_dev_t device) {
    if (is(device, OWLET_ABORTS)) {
        GGML_LOG_ERROR("stand-in error: it was torn out\n");
        GGML_LOG_ERROR("  current device: 2\n");
        GGML_ABORT("stand-in error");
    }
}

const char * name_of_type(ggml_backend_buffer_type_t type) {
    return name(type->device);
}

size_t alignment(ggml_backend_buffer_type_t) {
    return ggml_backend_buft_get_alignment(ggml_backend_cpu_buffer_type());
}

std::atomic<decltype(ggml_backend_buffer_i::free_buffer)> cpu_free;

// As a destructor is.
void free_buffer(ggml_backend_buffer_t buffer) noexcept {
    abort_where_lost(buffer->buft->device);
    cpu_free.load()(buffer);
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer) {
        cpu_free                  = buffer->iface.free_buffer;
        buffer->iface.free_buffer = free_buffer;
        buffer->buft              = type;
        std::memset(ggml_backend_buffer_get_base(buffer), 0xff, size);
    }
    return buffer;
}

const char * description(ggml_backend_dev_t) {
    return "the CPU in the place of a device";
}

void memory(ggml_backend_dev_t device, size_t * free, size_t * total) {
    abort_where_lost(device);
    ggml_backend_dev_memory(cpu(), free, total);
}

enum ggml_backend_dev_type type(ggml_backend_dev_t) {
    return GGML_BACKEND_DEVICE_TYPE_GPU;
}

void props(ggml_backend_dev_t device, ggml_backend_dev_props * props) {
    ggml_backend_dev_get_props(cpu(), props);
    props->name        = name(device);
    props->description = description(device);
    props->type        = type(device);
}

ggml_guid_t guid() {
    static ggml_guid guid = {'o', 'w', 'l', 'e', 't', ' ', 's', 't', 'a', 'n', 'd', ' ', 'i', 'n', 0, 1};
    return &guid;
}

std::atomic<decltype(ggml_backend_i::graph_compute)> cpu_compute;

ggml_status compute(ggml_backend_t backend, ggml_cgraph * graph) {
    if (is(backend->device, OWLET_THROWS)) {
        throw std::runtime_error("it was pulled out");
    }
    abort_where_lost(backend->device);
    return cpu_compute.load()(backend, graph);
}

void synchronize(ggml_backend_t backend) {
    abort_where_lost(backend->device);
}

ggml_backend_t init_backend(ggml_backend_dev_t device, const char *) {
    ggml_backend_t backend = owlet_cpu_new();
    if (backend) {
        // Two threads, of its own: the CPU's wait meanwhile.
        ggml_backend_cpu_set_n_threads(backend, 2);
        cpu_compute                  = backend->iface.graph_compute;
        backend->iface.graph_compute = compute;
        backend->iface.synchronize   = synchronize;
        backend->guid   = guid();
        backend->device = device;
    }
    return backend;
}

ggml_backend_buffer_type_t buffer_type(ggml_backend_dev_t device) {
    static std::array<ggml_backend_buffer_type, n_stand_ins> types;
    ggml_backend_buffer_type & type = types[index(device)];
    type.iface.get_name      = name_of_type;
    type.iface.alloc_buffer  = alloc_buffer;
    type.iface.get_alignment = alignment;
    type.device              = device;
    return &type;
}

bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) {
    return op->op != GGML_OP_CUSTOM && ggml_backend_dev_supports_op(cpu(), op);
}

bool supports_buft(ggml_backend_dev_t device, ggml_backend_buffer_type_t type) {
    return type == buffer_type(device);
}

std::array<ggml_backend_device, n_stand_ins> & stand_ins() {
    static std::array<ggml_backend_device, n_stand_ins> devices = [] {
        std::array<ggml_backend_device, n_stand_ins> devices = {};
        for (ggml_backend_device & device : devices) {
            device.iface.get_name        = name;
            device.iface.get_description = description;
            device.iface.get_memory      = memory;
            device.iface.get_type        = type;
            device.iface.get_props       = props;
            device.iface.init_backend    = init_backend;
            device.iface.get_buffer_type = buffer_type;
            device.iface.supports_op     = supports_op;
            device.iface.supports_buft   = supports_buft;
        }
        return devices;
    }();
    return devices;
}

size_t index(ggml_backend_dev_t device) {
    return device - stand_ins().data();
}

}  // namespace

ggml_backend_dev_t owlet_stand_in(size_t i) {
    return i < n_stand_ins ? &stand_ins()[i] : nullptr;
}

void owlet_set_stand_in(owlet_stand_in_state now) {
    state = now;
}
