// What Rust needs of ggml beyond its public headers. C owns the layout of ggml's structs; Rust sees only
// `owlet_tensor`, whose twin is `sys::TensorFacts`.
#pragma once

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#ifdef __cplusplus
extern "C" {
#endif

struct owlet_tensor {
    int64_t ne[4];                    // elements, innermost first
    size_t nb[4];                     // strides in bytes
    size_t n_bytes;                   // from the first byte to one past the last
    size_t view_offs;                 // bytes into root
    struct ggml_tensor * root;        // the tensor whose memory this one shows; itself when it has its own
    const void * data;                // NULL while not allocated
    int32_t type;
    int32_t flags;
};

size_t owlet_tensor_bytes(void);
void owlet_tensor_facts(struct ggml_tensor * tensor, struct owlet_tensor * facts);
// Where the i-th source of a node lies: the scheduler may have put a copy in its place.
const void * owlet_tensor_source_data(const struct ggml_tensor * tensor, int i);

// From now on ggml's last words are one line, and its log is kept for them.
void owlet_install_callbacks(void);

// ggml's CPU backend; NULL where there is no memory for it.
ggml_backend_t owlet_cpu_new(void);

int owlet_graph_n_leafs(struct ggml_cgraph * graph);
// The i-th tensor of a graph that it does not compute: an input, a weight, memory.
struct ggml_tensor * owlet_graph_leaf(struct ggml_cgraph * graph, int i);
// Bytes that the CPU backend will ask for, beyond tensors, to compute `graph`.
size_t owlet_graph_work_bytes(struct ggml_cgraph * graph, int n_threads, struct ggml_threadpool * threadpool);

struct ggml_threadpool * owlet_threadpool_new(int n_threads);

// Devices of the backends that this build has, as far as this machine can use them.
size_t owlet_n_devices(void);
ggml_backend_dev_t owlet_device(size_t i);
// The backend that the entry of a loaded library gives; NULL where that fails, and owlet_problem() says why.
ggml_backend_reg_t owlet_module_start(ggml_backend_reg_t (*entry)(void));
size_t owlet_module_n_devices(ggml_backend_reg_t backend);
ggml_backend_dev_t owlet_module_device(ggml_backend_reg_t backend, size_t i);
// CPUs that behave as devices do: memory of their own, ggml's operations only. NULL beyond the last one.
ggml_backend_dev_t owlet_stand_in(size_t i);
// Another one, which has only so much memory.
ggml_backend_dev_t owlet_small_stand_in(size_t n_bytes);
// Once so many more bytes of weights were written to it, one works, or fails as a device that was lost does: with exceptions, as
// Vulkan's backend, or with ggml_abort(), also where it frees memory, as CUDA's; or with one exception, and works again. False
// for other devices.
enum owlet_stand_in_state { OWLET_WORKS, OWLET_THROWS, OWLET_ABORTS, OWLET_THROWS_ONCE };
bool owlet_set_stand_in(ggml_backend_dev_t device, enum owlet_stand_in_state state, size_t n_bytes);

// Bytes of its memory.
struct owlet_stand_in_use {
    size_t n_allocated;
    size_t n_most;     // that were ever allocated at once
    size_t n_written;  // of weights
};

// False for other devices.
bool owlet_stand_in_used(ggml_backend_dev_t device, struct owlet_stand_in_use * used);

// What follows may reach a device, whose driver may have lost it. ggml tells that by exceptions or ggml_abort(), which end
// here; those that say false then leave a line behind, which owlet_problem() tells the same thread. What a lost device had
// is never freed.
const char * owlet_problem(void);
void owlet_forget_problem(void);
ggml_backend_t owlet_backend_new(ggml_backend_dev_t device);
void owlet_backend_free(ggml_backend_t backend);
bool owlet_device_memory(ggml_backend_dev_t device, size_t * free, size_t * total);
bool owlet_supports_op(ggml_backend_t backend, const struct ggml_tensor * op);
ggml_backend_buffer_t owlet_buffer_new(ggml_backend_t backend, size_t n_bytes);
void owlet_buffer_free(ggml_backend_buffer_t buffer);
bool owlet_buffer_clear(ggml_backend_buffer_t buffer);
// What a tensor takes of a backend's memory, and the multiples at which it may begin.
bool owlet_tensor_room(ggml_backend_t backend, const struct ggml_tensor * tensor, size_t * n_bytes, size_t * alignment);
bool owlet_tensor_place(ggml_backend_buffer_t buffer, struct ggml_tensor * tensor, size_t offset);
// Tells the device anew that `tensor`, which has its place, is there, and fills it. A device may keep more in a tensor's room than
// its bytes, CUDA zeros behind rows, and another tensor may have lain there meanwhile.
bool owlet_tensor_fill(struct ggml_tensor * tensor, const void * bytes, size_t n_bytes);
bool owlet_tensor_set(struct ggml_tensor * tensor, const void * bytes, size_t offset, size_t n_bytes);
bool owlet_tensor_get(const struct ggml_tensor * tensor, void * bytes, size_t offset, size_t n_bytes);
bool owlet_tensor_set_runs(struct ggml_tensor * tensor, const void * bytes, size_t offset, size_t run_bytes, size_t n,
                           size_t stride);
bool owlet_tensor_get_runs(const struct ggml_tensor * tensor, void * bytes, size_t offset, size_t run_bytes, size_t n,
                           size_t stride);

// A node or an input, and the device whose it is.
struct owlet_placed {
    struct ggml_tensor * tensor;
    size_t device;
};

// A graph, and which of its nodes and inputs are devices'; the others are the CPU's.
struct owlet_graph {
    struct ggml_cgraph * graph;
    const struct owlet_placed * on_devices;
    size_t n_on_devices;
};

// At most that many devices take part in one graph beside the CPU.
#define OWLET_MAX_DEVICES 15

// ggml's C++ allocates with `new`; nothing that it throws may cross into Rust.
ggml_backend_sched_t owlet_sched_new(
    const ggml_backend_t * devices, size_t n_devices, ggml_backend_t cpu, size_t n_tensors);
void owlet_sched_free(ggml_backend_sched_t sched);
// Where a node cannot run in its place, or would fetch a weight from elsewhere, `refused` is that node.
int owlet_sched_alloc(ggml_backend_sched_t sched, struct owlet_graph placed, const struct ggml_tensor ** refused);
// Bytes that the tensors of a graph need: on every device, and behind those on the CPU. Allocates nothing.
void owlet_sched_bytes(ggml_backend_sched_t sched, struct owlet_graph placed, size_t * sizes);
int owlet_sched_compute(ggml_backend_sched_t sched, struct ggml_cgraph * graph);

#define OWLET_OK 0
#define OWLET_ABORTED 1
#define OWLET_NO_MEMORY 2
#define OWLET_FAILED 3
#define OWLET_REFUSED 4

#ifdef __cplusplus
}
#endif
