// Devices that every machine has: ggml's CPU code behind what sets devices apart. Their memory is no host memory and nobody
// else's, so whatever crosses is copied by the scheduler or refused; fresh memory holds no zeros; and they know ggml's
// operations only. So the placement of a model is proven without a GPU. Some have little memory, and all can be lost.

#include "shim.h"

#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml-impl.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace {

ggml_backend_dev_t cpu() {
    return ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
}

// A device, and what is known of its memory.
struct stand_in {
    explicit stand_in(const char * name, size_t limit = SIZE_MAX);
    stand_in(const stand_in &) = delete;

    ggml_backend_device      device = {};
    ggml_backend_buffer_type type   = {};
    const char *             name;
    const size_t             limit;  // bytes that it has; SIZE_MAX: the machine's
    std::atomic<size_t>      n_allocated{0};
    std::atomic<size_t>      n_most{0};     // that were ever allocated at once
    std::atomic<size_t>      n_written{0};  // of weights
    std::atomic<owlet_stand_in_state> state{OWLET_WORKS};
    std::atomic<size_t>      lost_at{0};  // bytes written, from which on it is in that state
};

stand_in & of(ggml_backend_dev_t device) {
    return *static_cast<stand_in *>(device->context);
}

stand_in & of(ggml_backend_buffer_t buffer) {
    return of(buffer->buft->device);
}

bool is(const stand_in & device, owlet_stand_in_state lost) {
    return device.state == lost && device.n_written >= device.lost_at;
}

void abort_where_lost(const stand_in & device) {
    if (is(device, OWLET_ABORTS)) {
        GGML_LOG_ERROR("stand-in error: it was torn out\n");
        GGML_LOG_ERROR("  current device: 2\n");
        GGML_ABORT("stand-in error");
    }
}

void expect_there(stand_in & device) {
    const bool throws_once = is(device, OWLET_THROWS_ONCE);
    if (throws_once) {
        device.state = OWLET_WORKS;
    }
    if (throws_once || is(device, OWLET_THROWS)) {
        throw std::runtime_error("it was pulled out");
    }
    abort_where_lost(device);
}

const char * name(ggml_backend_dev_t device) {
    return of(device).name;
}

const char * name_of_type(ggml_backend_buffer_type_t type) {
    return name(type->device);
}

size_t alignment(ggml_backend_buffer_type_t) {
    return ggml_backend_buft_get_alignment(ggml_backend_cpu_buffer_type());
}

// What buffers and backends of the CPU do, for those that stand-ins make of them.
std::atomic<decltype(ggml_backend_buffer_i::free_buffer)> cpu_free;
std::atomic<decltype(ggml_backend_buffer_i::set_tensor)>  cpu_set;
std::atomic<decltype(ggml_backend_i::graph_compute)>      cpu_compute;

// As a destructor is.
void free_buffer(ggml_backend_buffer_t buffer) noexcept {
    abort_where_lost(of(buffer));
    of(buffer).n_allocated -= buffer->size;
    cpu_free.load()(buffer);
}

void set_tensor(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    stand_in & device = of(buffer);
    expect_there(device);
    if (buffer->usage == GGML_BACKEND_BUFFER_USAGE_WEIGHTS) {
        device.n_written += size;
    }
    cpu_set.load()(buffer, tensor, data, offset, size);
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    stand_in & device = of(type->device);
    const size_t n_after = device.n_allocated += size;
    ggml_backend_buffer_t buffer = nullptr;
    if (n_after <= device.limit) {
        buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    }
    if (!buffer) {
        device.n_allocated -= size;
        return nullptr;
    }
    // What is given back is what was counted, whatever the CPU's buffer was rounded to.
    device.n_allocated += buffer->size - size;
    size_t n_most = device.n_most;
    while (n_most < n_after && !device.n_most.compare_exchange_weak(n_most, n_after)) {}
    cpu_free = buffer->iface.free_buffer;
    cpu_set  = buffer->iface.set_tensor;
    buffer->iface.free_buffer = free_buffer;
    buffer->iface.set_tensor  = set_tensor;
    buffer->buft = type;
    std::memset(ggml_backend_buffer_get_base(buffer), 0xff, size);
    return buffer;
}

const char * description(ggml_backend_dev_t) {
    return "the CPU in the place of a device";
}

void memory(ggml_backend_dev_t device, size_t * free, size_t * total) {
    abort_where_lost(of(device));
    ggml_backend_dev_memory(cpu(), free, total);
    if (of(device).limit != SIZE_MAX) {
        *total = of(device).limit;
        *free  = *total - of(device).n_allocated;
    }
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

ggml_status compute(ggml_backend_t backend, ggml_cgraph * graph) {
    expect_there(of(backend->device));
    return cpu_compute.load()(backend, graph);
}

void synchronize(ggml_backend_t backend) {
    abort_where_lost(of(backend->device));
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
    return &of(device).type;
}

bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) {
    return op->op != GGML_OP_CUSTOM && ggml_backend_dev_supports_op(cpu(), op);
}

bool supports_buft(ggml_backend_dev_t device, ggml_backend_buffer_type_t type) {
    return type == buffer_type(device);
}

stand_in::stand_in(const char * name_, size_t limit_) : name(name_), limit(limit_) {
    device.context               = this;
    device.iface.get_name        = ::name;
    device.iface.get_description = description;
    device.iface.get_memory      = memory;
    device.iface.get_type        = ::type;
    device.iface.get_props       = props;
    device.iface.init_backend    = init_backend;
    device.iface.get_buffer_type = buffer_type;
    device.iface.supports_op     = supports_op;
    device.iface.supports_buft   = supports_buft;
    type.iface.get_name          = name_of_type;
    type.iface.alloc_buffer      = alloc_buffer;
    type.iface.get_alignment     = alignment;
    type.device                  = &device;
}

}  // namespace

ggml_backend_dev_t owlet_stand_in(size_t i) {
    // The first one is called as if there were no other.
    static std::array<stand_in, 3> all{stand_in("stand-in"), stand_in("stand-in 2"), stand_in("stand-in 3")};
    return i < all.size() ? &all[i].device : nullptr;
}

ggml_backend_dev_t owlet_small_stand_in(size_t n_bytes) {
    // Devices live as long as the process.
    return &(new stand_in("small stand-in", n_bytes))->device;
}

bool owlet_set_stand_in(ggml_backend_dev_t device, owlet_stand_in_state state, size_t n_bytes) {
    if (device->iface.get_name != name) {
        return false;
    }
    of(device).lost_at = of(device).n_written + n_bytes;
    of(device).state   = state;
    return true;
}

bool owlet_stand_in_used(ggml_backend_dev_t device, owlet_stand_in_use * used) {
    if (device->iface.get_name != name) {
        return false;
    }
    *used = {of(device).n_allocated, of(device).n_most, of(device).n_written};
    return true;
}
