// A device that every machine has: ggml's CPU code behind what sets devices apart. Its memory is no host memory, so
// whatever crosses is copied by the scheduler or refused; fresh memory holds no zeros; and it knows ggml's
// operations only. So the placement of a model is proven without a GPU.

#include "shim.h"

#include "ggml-backend-impl.h"
#include "ggml-backend.h"

#include <cstring>

namespace {

ggml_backend_dev_t cpu() {
    return ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
}

const char * name_of_type(ggml_backend_buffer_type_t) {
    return "stand-in";
}

size_t alignment(ggml_backend_buffer_type_t) {
    return ggml_backend_buft_get_alignment(ggml_backend_cpu_buffer_type());
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer) {
        buffer->buft = type;
        std::memset(ggml_backend_buffer_get_base(buffer), 0xff, size);
    }
    return buffer;
}

const char * name(ggml_backend_dev_t) {
    return "stand-in";
}

const char * description(ggml_backend_dev_t) {
    return "the CPU in the place of a device";
}

void memory(ggml_backend_dev_t, size_t * free, size_t * total) {
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

ggml_backend_t init_backend(ggml_backend_dev_t device, const char *) {
    ggml_backend_t backend = ggml_backend_cpu_init();
    if (backend) {
        // Two threads, of its own: the CPU's wait meanwhile.
        ggml_backend_cpu_set_n_threads(backend, 2);
        backend->guid   = guid();
        backend->device = device;
    }
    return backend;
}

ggml_backend_buffer_type_t buffer_type(ggml_backend_dev_t device) {
    static ggml_backend_buffer_type type = {
        /* .iface   = */ {
            /* .get_name         = */ name_of_type,
            /* .alloc_buffer     = */ alloc_buffer,
            /* .alloc_buffer_n   = */ nullptr,
            /* .get_alignment    = */ alignment,
            /* .get_max_size     = */ nullptr,
            /* .get_alloc_size   = */ nullptr,
            /* .get_alloc_size_n = */ nullptr,
            /* .is_host          = */ nullptr,
        },
        /* .device  = */ device,
        /* .context = */ nullptr,
    };
    return &type;
}

bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) {
    return op->op != GGML_OP_CUSTOM && ggml_backend_dev_supports_op(cpu(), op);
}

bool supports_buft(ggml_backend_dev_t device, ggml_backend_buffer_type_t type) {
    return type == buffer_type(device);
}

}  // namespace

ggml_backend_dev_t owlet_stand_in(void) {
    static ggml_backend_device device = {
        /* .iface   = */ {
            /* .get_name             = */ name,
            /* .get_description      = */ description,
            /* .get_memory           = */ memory,
            /* .get_type             = */ type,
            /* .get_props            = */ props,
            /* .init_backend         = */ init_backend,
            /* .get_buffer_type      = */ buffer_type,
            /* .get_host_buffer_type = */ nullptr,
            /* .buffer_from_host_ptr = */ nullptr,
            /* .supports_op          = */ supports_op,
            /* .supports_buft        = */ supports_buft,
            /* .offload_op           = */ nullptr,
            /* .event_new            = */ nullptr,
            /* .event_free           = */ nullptr,
            /* .event_synchronize    = */ nullptr,
        },
        /* .reg     = */ nullptr,
        /* .context = */ nullptr,
    };
    return &device;
}
