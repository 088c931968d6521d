// What ggml cannot go on with. Its backends for GPUs mostly mean a device that was lost: they log what the driver says and
// call ggml_abort(). That costs an answer then, not the process, unless threads would be left waiting for the one that throws.

#include "guard.h"
#include "shim.h"

#include "ggml-backend-impl.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

static thread_local bool has_way_out = false;
// What ggml logged last as an error in this thread.
static thread_local std::string last_error;
static thread_local std::string problem;

WayOut::WayOut(bool is_open) noexcept : before(has_way_out) {
    if (is_open && !before) {
        last_error.clear();
    }
    has_way_out = is_open;
}

WayOut::~WayOut() {
    has_way_out = before;
}

void note_problem() noexcept {
    try {
        throw;
    } catch (const std::exception & error) {
        problem = error.what();
    } catch (...) {
        problem = "no more is known";
    }
}

const char * owlet_problem(void) {
    return problem.c_str();
}

void owlet_forget_problem(void) {
    problem.clear();
}

// Without the place in ggml's source, "FILE:LINE: ", which is no help to whoever lost a device.
static const char * without_place(const char * message) {
    const char * end = std::strstr(message, ": ");
    return end ? end + 2 : message;
}

static void on_fatal(const char * message) {
    // Nothing can be thrown while something else is.
    if (has_way_out && std::uncaught_exceptions() == 0) {
        throw std::runtime_error(last_error.empty() ? without_place(message) : last_error);
    }
    std::fprintf(stderr, "ggml: %s\n", message);
}

// What ggml logs (allocations that failed, mostly) comes back as an error and is not printed twice.
static void on_log(enum ggml_log_level level, const char * text, void *) {
    // Lines that explain the one before begin with blanks.
    if (level == GGML_LOG_LEVEL_ERROR && text[0] != ' ') {
        try {
            last_error = text;
        } catch (const std::bad_alloc &) {
            last_error.clear();
        }
    }
}

void owlet_install_callbacks(void) {
    ggml_set_abort_callback(on_fatal);
    ggml_log_set(on_log, nullptr);
}

static std::atomic<decltype(ggml_backend_i::graph_compute)> cpu_compute;

// The threads of a pool meet behind every node.
static ggml_status compute(ggml_backend_t backend, ggml_cgraph * graph) {
    const WayOut way_out(false);
    return cpu_compute.load()(backend, graph);
}

ggml_backend_t owlet_cpu_new(void) {
    ggml_backend_t backend = ggml_backend_cpu_init();
    if (backend) {
        cpu_compute                  = backend->iface.graph_compute;
        backend->iface.graph_compute = compute;
    }
    return backend;
}
