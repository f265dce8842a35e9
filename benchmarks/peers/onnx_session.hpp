/// \file
/// ONNX Runtime's C interface in handles that release what they hold.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <utility>

namespace aq_bench::onnx {

/// Null where the library is older than the header.
inline const OrtApi* api() {
    static const OrtApi* const value = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    return value;
}

[[nodiscard]] inline bool succeeded(OrtStatus* status) {
    if (!status) return true;
    std::fprintf(stderr, "onnxruntime: %s\n", api()->GetErrorMessage(status));
    api()->ReleaseStatus(status);
    return false;
}

struct releaser {
    void operator()(OrtEnv* p) const { api()->ReleaseEnv(p); }
    void operator()(OrtSessionOptions* p) const { api()->ReleaseSessionOptions(p); }
    void operator()(OrtSession* p) const { api()->ReleaseSession(p); }
    void operator()(OrtMemoryInfo* p) const { api()->ReleaseMemoryInfo(p); }
    void operator()(OrtValue* p) const { api()->ReleaseValue(p); }
};
template <typename T>
using handle = std::unique_ptr<T, releaser>;

/// Keeps what `make(&pointer)` makes.
template <typename T, typename Make>
[[nodiscard]] bool keep(handle<T>& to, Make make) {
    T* made = nullptr;
    const bool made_it = succeeded(make(&made));
    to.reset(made);
    return made_it;
}

[[nodiscard]] inline handle<OrtSessionOptions> make_options(int threads) {
    handle<OrtSessionOptions> options;
    if (!keep(options, api()->CreateSessionOptions) || !succeeded(api()->SetIntraOpNumThreads(options.get(), threads)))
        return nullptr;
    // Threads wait for the next operation of a run without sleeping, but do not take the processor from what is measured next.
    if (!succeeded(api()->AddSessionConfigEntry(options.get(), "session.force_spinning_stop", "1"))) return nullptr;
    return options;
}

/// Sees `data`, which outlives it.
[[nodiscard]] inline handle<OrtValue> make_tensor(const float* data, std::size_t rows, std::size_t columns) {
    handle<OrtMemoryInfo> memory;
    if (!keep(memory, [](OrtMemoryInfo** out) { return api()->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, out); }))
        return nullptr;
    const std::int64_t shape[2] = {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns)};
    const std::size_t bytes = rows * columns * sizeof(float);
    handle<OrtValue> value;
    const bool made = keep(value, [&](OrtValue** out) {
        return api()->CreateTensorWithDataAsOrtValue(memory.get(), const_cast<float*>(data), bytes, shape, 2,
                                                     ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, out);
    });
    return made ? std::move(value) : nullptr;
}

}  // namespace aq_bench::onnx
