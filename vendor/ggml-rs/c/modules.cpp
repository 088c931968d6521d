// Starts a backend that was loaded from a file, and says what devices it has. What it throws ends here.

#include "guard.h"
#include "shim.h"

#include "ggml-backend-impl.h"

#include <stdexcept>
#include <string>

ggml_backend_reg_t owlet_module_start(ggml_backend_reg_t (*entry)(void)) {
    ggml_backend_reg_t found = nullptr;
    guarded([&] {
        ggml_backend_reg_t backend = entry();
        if (!backend) {
            throw std::runtime_error("it found nothing to start: is there a driver for it?");
        }
        if (backend->api_version != GGML_BACKEND_API_VERSION) {
            throw std::runtime_error("expected version " + std::to_string(GGML_BACKEND_API_VERSION)
                + " of ggml's interface, found " + std::to_string(backend->api_version));
        }
        found = backend;
    });
    return found;
}

size_t owlet_module_n_devices(ggml_backend_reg_t backend) {
    size_t n = 0;
    guarded([&] { n = ggml_backend_reg_dev_count(backend); });
    return n;
}

ggml_backend_dev_t owlet_module_device(ggml_backend_reg_t backend, size_t i) {
    ggml_backend_dev_t device = nullptr;
    guarded([&] { device = ggml_backend_reg_dev_get(backend, i); });
    return device;
}
