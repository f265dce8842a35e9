/// \file
/// What ggml's adapters share: room for the headers of tensors, and its processor with threads.
#pragma once

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpp.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <cstdio>
#include <memory>

namespace aq_bench {

/// ggml tells of each weight that it repacks.
inline void print_errors_only(ggml_log_level level, const char* text, void*) {
    if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
}

inline constexpr std::size_t ggml_graph_nodes = 4;  ///< room of each graph

/// Room for the headers of so many tensors and graphs; their data lie in buffers.
[[nodiscard]] inline ggml_context_ptr make_ggml_context(std::size_t tensors, std::size_t graphs) {
    const std::size_t bytes = tensors * ggml_tensor_overhead() + graphs * ggml_graph_overhead_custom(ggml_graph_nodes, false);
    return ggml_context_ptr(ggml_init({bytes + 1024, nullptr, true}));
}

/// The graph that computes `result`.
[[nodiscard]] inline ggml_cgraph* make_ggml_graph(ggml_context* context, ggml_tensor* result) {
    ggml_cgraph* const graph = ggml_new_graph_custom(context, ggml_graph_nodes, false);
    ggml_build_forward_expand(graph, result);
    return graph;
}

/// The processor, with a team of its own.
class ggml_processor {
public:
    explicit ggml_processor(int threads) : backend_(ggml_backend_cpu_init()) {
        ggml_threadpool_params params = ggml_threadpool_params_default(threads);
        pool_.reset(ggml_threadpool_new(&params));
        ggml_backend_cpu_set_n_threads(backend_.get(), threads);
        ggml_backend_cpu_set_threadpool(backend_.get(), pool_.get());
    }
    [[nodiscard]] ggml_backend_t get() const { return backend_.get(); }

private:
    struct threadpool_deleter {
        void operator()(ggml_threadpool* pool) const { ggml_threadpool_free(pool); }
    };
    std::unique_ptr<ggml_threadpool, threadpool_deleter> pool_;  // outlives the backend
    ggml_backend_ptr backend_;
};

}  // namespace aq_bench
