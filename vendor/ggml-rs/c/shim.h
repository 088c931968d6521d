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

int owlet_graph_n_leafs(struct ggml_cgraph * graph);
// Bytes that the CPU backend will ask for, beyond tensors, to compute `graph`.
size_t owlet_graph_work_bytes(struct ggml_cgraph * graph, int n_threads, struct ggml_threadpool * threadpool);

struct ggml_threadpool * owlet_threadpool_new(int n_threads);

// Devices that this build knows and this machine has.
size_t owlet_n_devices(void);
ggml_backend_dev_t owlet_device(size_t i);
// A second CPU that behaves as a device does: memory of its own, ggml's operations only.
ggml_backend_dev_t owlet_stand_in(void);

// A graph, and which of its nodes and inputs are a device's; the others are the CPU's.
struct owlet_graph {
    struct ggml_cgraph * graph;
    struct ggml_tensor ** on_device;
    size_t n_on_device;
};

// ggml's C++ allocates with `new`; nothing that it throws may cross into Rust.
ggml_backend_sched_t owlet_sched_new(ggml_backend_t device, ggml_backend_t cpu, size_t n_tensors);
// Where a node cannot run in its place, or would fetch a weight from elsewhere, `refused` is that node.
int owlet_sched_alloc(ggml_backend_sched_t sched, struct owlet_graph placed, const struct ggml_tensor ** refused);
// Bytes that the tensors of a graph need: on the CPU, and on the device. Allocates nothing.
void owlet_sched_bytes(ggml_backend_sched_t sched, struct owlet_graph placed, size_t * cpu, size_t * device);
int owlet_sched_compute(ggml_backend_sched_t sched, struct ggml_cgraph * graph);

#define OWLET_OK 0
#define OWLET_ABORTED 1
#define OWLET_NO_MEMORY 2
#define OWLET_FAILED 3
#define OWLET_REFUSED 4

#ifdef __cplusplus
}
#endif
