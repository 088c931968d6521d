// ggml's RPC backend, both ends, without its sockets: connections are Rust's. Its client ends the process where a connection
// fails; one that is given here never does. Once a worker is lost, src/rpc/line.rs answers in its place with as many
// bytes as are expected, and tells.

#include "rpc.h"
#include "guard.h"
#include "shim.h"

// The server's loop prints and accepts by itself; what serves one client is static.
#include "ggml-rpc/ggml-rpc.cpp"

#include "ggml-cpu.h"

struct socket_t::impl {
    void * line;
};

socket_t::socket_t(std::unique_ptr<impl> p) : pimpl(std::move(p)) {}

socket_t::~socket_t() {
    owlet_line_close(pimpl->line);
}

bool socket_t::send_data(const void * data, size_t size) {
    return owlet_line_send(pimpl->line, data, size);
}

bool socket_t::recv_data(void * data, size_t size) {
    return owlet_line_receive(pimpl->line, data, size);
}

bool socket_t::flush() {
    return owlet_line_flush(pimpl->line);
}

void socket_t::get_caps(uint8_t * local_caps) {
    std::fill(local_caps, local_caps + RPC_CONN_CAPS_SIZE, uint8_t(0));
}

void socket_t::update_caps(const uint8_t *) {}

// Workers are known by number; the port is there for ggml's parser of addresses.
socket_ptr socket_t::connect(const char * host, int) {
    void * line = owlet_line_open(std::stoull(host));
    return socket_ptr(new socket_t(std::unique_ptr<impl>(new impl{line})));
}

// What a worker answers over comes as the address of a line.
socket_ptr socket_t::create_server(const char * line, int) {
    return socket_ptr(new socket_t(std::unique_ptr<impl>(new impl{const_cast<char *>(line)})));
}

socket_ptr socket_t::accept() {
    return nullptr;
}

bool rpc_transport_init() {
    return true;
}

void rpc_transport_shutdown() {}

static std::string endpoint(uint64_t worker) {
    return std::to_string(worker) + ":1";
}

static ggml_backend_reg_t registry(uint64_t worker) {
    ggml_backend_reg_t reg = nullptr;
    guarded([&] { reg = ggml_backend_rpc_add_server(endpoint(worker).c_str()); });
    return reg;
}

void owlet_rpc_protocol(uint8_t version[3], size_t * tensor_bytes) {
    version[0]    = RPC_PROTO_MAJOR_VERSION;
    version[1]    = RPC_PROTO_MINOR_VERSION;
    version[2]    = RPC_PROTO_PATCH_VERSION;
    *tensor_bytes = sizeof(rpc_tensor);
}

size_t owlet_rpc_n_devices(uint64_t worker) {
    ggml_backend_reg_t reg = registry(worker);
    return reg ? ggml_backend_reg_dev_count(reg) : 0;
}

ggml_backend_dev_t owlet_rpc_device(uint64_t worker, size_t i) {
    return i < owlet_rpc_n_devices(worker) ? ggml_backend_reg_dev_get(registry(worker), i) : nullptr;
}

static std::atomic<size_t> free_bytes;
static std::atomic<size_t> total_bytes;

void owlet_rpc_set_memory(size_t free, size_t total) {
    free_bytes  = free;
    total_bytes = total;
}

// ggml's CPU says that all of its memory is free.
static void cpu_memory(ggml_backend_dev_t, size_t * free, size_t * total) {
    *free  = free_bytes;
    *total = total_bytes;
}

ggml_backend_t owlet_rpc_cpu(int n_threads) {
    static ggml_backend_device device = [] {
        ggml_backend_device device = *ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
        device.iface.get_memory    = cpu_memory;
        return device;
    }();
    ggml_backend_t backend = owlet_cpu_new();
    if (backend) {
        // The threads live as long as the process: without a pool ggml would start them for every graph.
        ggml_backend_cpu_set_n_threads(backend, n_threads);
        ggml_backend_cpu_set_threadpool(backend, owlet_threadpool_new(n_threads));
        backend->device = &device;
    }
    return backend;
}

void owlet_rpc_serve(void * line, const ggml_backend_t * backends, size_t n_backends) {
    guarded([&] {
        socket_ptr socket = socket_t::create_server(static_cast<const char *>(line), 0);
        rpc_serve_client(std::vector<ggml_backend_t>(backends, backends + n_backends), nullptr, socket);
    });
}
