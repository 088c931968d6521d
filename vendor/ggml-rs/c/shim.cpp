#include "guard.h"
#include "shim.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-impl.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

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

ggml_tensor * owlet_graph_leaf(ggml_cgraph * graph, int i) {
    return graph->leafs[i];
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

ggml_backend_sched_t owlet_sched_new(
    const ggml_backend_t * devices, size_t n_devices, ggml_backend_t cpu, size_t n_tensors) {
    ggml_backend_sched_t sched = nullptr;
    guarded([&] {
        std::vector<ggml_backend_t> backends(devices, devices + n_devices);
        backends.push_back(cpu);
        sched = ggml_backend_sched_new(backends.data(), nullptr, backends.size(), n_tensors, false, false);
    });
    return sched;
}

// The CPU is the last one.
static int n_devices(ggml_backend_sched_t sched) {
    return ggml_backend_sched_get_n_backends(sched) - 1;
}

static bool has_device(ggml_backend_sched_t sched) {
    return n_devices(sched) > 0;
}

// Throws where one of its devices is lost. To free what such a device has would end the process.
static void meet(ggml_backend_sched_t sched) {
    for (int i = 0; i < n_devices(sched); i++) {
        ggml_backend_synchronize(ggml_backend_sched_get_backend(sched, i));
    }
}

void owlet_sched_free(ggml_backend_sched_t sched) {
    guarded([&] {
        meet(sched);
        ggml_backend_sched_free(sched);
    });
}

static bool is_allocated(const ggml_tensor * tensor) {
    return tensor->buffer || (tensor->view_src && tensor->view_src->buffer);
}

// Leaves the scheduler nothing to choose: what it would choose depends on its neighbours' places.
static void place(ggml_backend_sched_t sched, const owlet_graph & placed) {
    ggml_backend_sched_reset(sched);
    if (!has_device(sched)) {
        return;
    }
    ggml_backend_t cpu = ggml_backend_sched_get_backend(sched, n_devices(sched));
    for (int i = 0; i < placed.graph->n_nodes; i++) {
        ggml_backend_sched_set_tensor_backend(sched, placed.graph->nodes[i], cpu);
    }
    for (int i = 0; i < placed.graph->n_leafs; i++) {
        if (!is_allocated(placed.graph->leafs[i])) {
            ggml_backend_sched_set_tensor_backend(sched, placed.graph->leafs[i], cpu);
        }
    }
    for (size_t i = 0; i < placed.n_on_devices; i++) {
        const auto & [tensor, device] = placed.on_devices[i];
        ggml_backend_sched_set_tensor_backend(sched, tensor, ggml_backend_sched_get_backend(sched, device));
    }
}

// The first node that its place cannot compute, or that would have a weight copied whenever it runs.
static const ggml_tensor * misplaced(ggml_backend_sched_t sched, const ggml_cgraph * graph) {
    for (int i = 0; i < graph->n_nodes; i++) {
        ggml_tensor * node = graph->nodes[i];
        ggml_backend_t backend = ggml_backend_sched_get_tensor_backend(sched, node);
        if (!ggml_backend_supports_op(backend, node)) {
            return node;
        }
        // A view is nowhere else than what it shows.
        if (node->view_src && !is_allocated(node) &&
            ggml_backend_sched_get_tensor_backend(sched, node->view_src) != backend) {
            return node;
        }
        for (const ggml_tensor * source : node->src) {
            if (source && is_allocated(source)) {
                const ggml_tensor * root = source->view_src ? source->view_src : source;
                if (!ggml_backend_supports_buft(backend, ggml_backend_buffer_get_type(root->buffer))) {
                    return node;
                }
            }
        }
    }
    return nullptr;
}

// What splitting a graph changes in it: it puts copies in the place of sources that lie elsewhere.
class Sources {
  public:
    explicit Sources(const ggml_cgraph * graph) {
        for (int i = 0; i < graph->n_nodes; i++) {
            ggml_tensor * node = graph->nodes[i];
            std::array<ggml_tensor *, GGML_MAX_SRC> sources;
            std::copy(std::begin(node->src), std::end(node->src), sources.begin());
            nodes.emplace_back(node, sources);
        }
    }

    void restore() const {
        for (const auto & [node, sources] : nodes) {
            std::copy(sources.begin(), sources.end(), std::begin(node->src));
        }
    }

  private:
    std::vector<std::pair<ggml_tensor *, std::array<ggml_tensor *, GGML_MAX_SRC>>> nodes;
};

static int alloc(ggml_backend_sched_t sched, owlet_graph placed, const ggml_tensor ** refused) {
    meet(sched);
    place(sched, placed);
    if (has_device(sched) && (*refused = misplaced(sched, placed.graph))) {
        return OWLET_REFUSED;
    }
    // The allocator keeps its plan when the next graph has as many nodes of no larger sizes, even if they
    // live longer than those of the graph that the plan was made for. Reserving makes a new plan; buffers
    // only grow.
    if (!has_device(sched)) {
        if (!ggml_backend_sched_reserve(sched, placed.graph)) {
            return OWLET_NO_MEMORY;
        }
        return ggml_backend_sched_alloc_graph(sched, placed.graph) ? OWLET_OK : OWLET_NO_MEMORY;
    }
    const Sources sources(placed.graph);
    const bool has_room = ggml_backend_sched_reserve(sched, placed.graph);
    sources.restore();
    if (!has_room) {
        return OWLET_NO_MEMORY;
    }
    place(sched, placed);
    return ggml_backend_sched_alloc_graph(sched, placed.graph) ? OWLET_OK : OWLET_NO_MEMORY;
}

int owlet_sched_alloc(ggml_backend_sched_t sched, owlet_graph placed, const ggml_tensor ** refused) {
    int status = OWLET_FAILED;
    guarded([&] { status = alloc(sched, placed, refused); });
    return status;
}

void owlet_sched_bytes(ggml_backend_sched_t sched, owlet_graph placed, size_t * sizes) {
    const size_t n_backends = ggml_backend_sched_get_n_backends(sched);
    std::fill(sizes, sizes + n_backends, 0);
    guarded([&] {
        if (!has_device(sched)) {
            ggml_backend_sched_reserve_size(sched, placed.graph, sizes);
            return;
        }
        // The scheduler forgets places before it measures; its allocator can be asked without it, and leaves out
        // only what is copied from place to place.
        std::unordered_map<const ggml_tensor *, int> devices;
        for (size_t i = 0; i < placed.n_on_devices; i++) {
            devices.emplace(placed.on_devices[i].tensor, int(placed.on_devices[i].device));
        }
        const auto ids = [&](ggml_tensor ** tensors, int n) {
            std::vector<int> ids(n);
            std::transform(tensors, tensors + n, ids.begin(), [&](const ggml_tensor * tensor) {
                const auto device = devices.find(tensor);
                return device == devices.end() ? int(n_backends) - 1 : device->second;
            });
            return ids;
        };
        std::vector<ggml_backend_buffer_type_t> types;
        for (size_t i = 0; i < n_backends; i++) {
            types.push_back(ggml_backend_get_default_buffer_type(ggml_backend_sched_get_backend(sched, int(i))));
        }
        const std::unique_ptr<ggml_gallocr, void (*)(ggml_gallocr_t)> allocator(
            ggml_gallocr_new_n(types.data(), int(n_backends)), ggml_gallocr_free);
        ggml_gallocr_reserve_n_size(allocator.get(), placed.graph,
            ids(placed.graph->nodes, placed.graph->n_nodes).data(),
            ids(placed.graph->leafs, placed.graph->n_leafs).data(), sizes);
    });
}

static int outcome(ggml_status status) {
    switch (status) {
        case GGML_STATUS_SUCCESS: return OWLET_OK;
        case GGML_STATUS_ABORTED: return OWLET_ABORTED;
        case GGML_STATUS_ALLOC_FAILED: return OWLET_NO_MEMORY;
        default: return OWLET_FAILED;
    }
}

int owlet_sched_compute(ggml_backend_sched_t sched, ggml_cgraph * graph) {
    int status = OWLET_FAILED;
    guarded([&] { status = outcome(ggml_backend_sched_graph_compute(sched, graph)); });
    return status;
}
