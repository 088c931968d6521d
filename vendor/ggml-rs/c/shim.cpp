#include "shim.h"

#include "ggml-backend.h"
#include "ggml-impl.h"

size_t owlet_tensor_bytes(void) {
    return sizeof(owlet_tensor);
}

void owlet_tensor_facts(ggml_tensor * tensor, owlet_tensor * facts) {
    for (int i = 0; i < 4; i++) {
        facts->ne[i] = tensor->ne[i];
        facts->nb[i] = tensor->nb[i];
    }
    facts->n_bytes   = ggml_nbytes(tensor);
    facts->view_offs = tensor->view_offs;
    facts->root      = tensor->view_src ? tensor->view_src : tensor;
    facts->data      = tensor->data;
    facts->type      = tensor->type;
    facts->flags     = tensor->flags;
}

const void * owlet_tensor_source_data(const ggml_tensor * tensor, int i) {
    return tensor->src[i]->data;
}

int owlet_graph_n_leafs(ggml_cgraph * graph) {
    return graph->n_leafs;
}

size_t owlet_graph_work_bytes(ggml_cgraph * graph, int n_threads, ggml_threadpool * threadpool) {
    return ggml_graph_plan(graph, n_threads, threadpool).work_size;
}

ggml_threadpool * owlet_threadpool_new(int n_threads) {
    ggml_threadpool_params params = ggml_threadpool_params_default(n_threads);
    // Idle threads sleep: spinning would take cores from the program's other threads between two graphs.
    params.poll = 0;
    return ggml_threadpool_new(&params);
}

ggml_backend_sched_t owlet_sched_new(ggml_backend_t cpu, size_t n_tensors) {
    try {
        return ggml_backend_sched_new(&cpu, nullptr, 1, n_tensors, false, false);
    } catch (...) {
        return nullptr;
    }
}

int owlet_sched_alloc(ggml_backend_sched_t sched, ggml_cgraph * graph) {
    try {
        ggml_backend_sched_reset(sched);
        // The allocator keeps its plan when the next graph has as many nodes of no larger sizes, even if they
        // live longer than those of the graph that the plan was made for. Reserving makes a new plan; buffers
        // only grow. (Splitting the same graph twice is fine with one backend; with more, reserve a twin.)
        if (!ggml_backend_sched_reserve(sched, graph)) {
            return OWLET_NO_MEMORY;
        }
        return ggml_backend_sched_alloc_graph(sched, graph) ? OWLET_OK : OWLET_NO_MEMORY;
    } catch (...) {
        return OWLET_FAILED;
    }
}

size_t owlet_sched_bytes(ggml_backend_sched_t sched, ggml_cgraph * graph) {
    try {
        size_t bytes = 0;
        ggml_backend_sched_reserve_size(sched, graph, &bytes);
        return bytes;
    } catch (...) {
        return 0;
    }
}

int owlet_sched_compute(ggml_backend_sched_t sched, ggml_cgraph * graph) {
    try {
        switch (ggml_backend_sched_graph_compute(sched, graph)) {
            case GGML_STATUS_SUCCESS: return OWLET_OK;
            case GGML_STATUS_ABORTED: return OWLET_ABORTED;
            case GGML_STATUS_ALLOC_FAILED: return OWLET_NO_MEMORY;
            default: return OWLET_FAILED;
        }
    } catch (...) {
        return OWLET_FAILED;
    }
}
