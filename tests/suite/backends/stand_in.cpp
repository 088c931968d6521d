// A backend in a file of its own: the stand-ins of vendor/ggml-rs/c/stand_in.cpp, whose ggml is the program's.

#include "shim.h"

#include "ggml-backend-impl.h"

extern "C" const char owlet_built_for[];
const char owlet_built_for[] = "owlet backend for " BUILT_FOR;

// Nothing here calls ggml_abort() among threads of a pool.
ggml_backend_t owlet_cpu_new(void) {
    return ggml_backend_cpu_init();
}

static const char * name(ggml_backend_reg_t) {
    return "stand-ins";
}

static size_t n_devices(ggml_backend_reg_t) {
    return 3;
}

static ggml_backend_dev_t device(ggml_backend_reg_t, size_t i) {
    return owlet_stand_in(i);
}

extern "C" ggml_backend_reg_t ggml_backend_init(void) {
#ifdef PULLED_OUT
    owlet_set_stand_in(owlet_stand_in(2), OWLET_THROWS, 0);
#endif
    static ggml_backend_reg backend = {GGML_BACKEND_API_VERSION, {name, n_devices, device, nullptr}, nullptr};
    return &backend;
}
