// Feature rpc: devices of other processes, by ggml's RPC backend, whose connections are Rust's.
#pragma once

#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

// Implemented in src/rpc.rs. A line is one end of a connection; nothing here may unwind.
void * owlet_line_open(uint64_t worker);
void owlet_line_close(void * line);
bool owlet_line_send(void * line, const void * bytes, size_t n_bytes);
bool owlet_line_receive(void * line, void * bytes, size_t n_bytes);
bool owlet_line_flush(void * line);

// The version of the protocol that is spoken here, and the length of what it calls a tensor.
void owlet_rpc_protocol(uint8_t version[3], size_t * tensor_bytes);
// How many devices the worker has that answers on lines of this number, and one of them; 0 and NULL where none answers.
size_t owlet_rpc_n_devices(uint64_t worker);
ggml_backend_dev_t owlet_rpc_device(uint64_t worker, size_t i);

// The CPU as what a worker offers, with so many bytes free.
ggml_backend_t owlet_rpc_cpu(int n_threads);
void owlet_rpc_set_memory(size_t free, size_t total);
// Does what comes over `line`, which is closed then, until it ends.
void owlet_rpc_serve(void * line, const ggml_backend_t * backends, size_t n_backends);

#ifdef __cplusplus
}
#endif
