#include "calibrate/gptq_weights.hpp"

#include <algorithm>

#include "calibrate/cholesky.hpp"

namespace aq::example {

namespace {

struct linears_of_site {
    site where;
    std::vector<weight_id> ids;
};

/// In the order in which a block computes them.
const std::vector<linears_of_site>& all_linears() {
    static const std::vector<linears_of_site> all = {{site::attention, {weight_id::q, weight_id::k, weight_id::v}},
                                                     {site::attention_output, {weight_id::o}},
                                                     {site::mlp, {weight_id::gate, weight_id::up}},
                                                     {site::mlp_middle, {weight_id::down}}};
    return all;
}

/// Adds what enters one site to a Hessian.
struct site_watcher {
    hessian& sums;
    std::size_t layer;
    site where;
    status first_failure = status::ok;

    static void see(void* self, std::size_t layer, site where, matrix_view<const float> x) {
        auto& w = *static_cast<site_watcher*>(self);
        if (layer == w.layer && where == w.where && w.first_failure == status::ok) w.first_failure = w.sums.add(x);
    }
};

}  // namespace

status gptq_weights::read(void* self, weight_id id, std::size_t layer, matrix_view<float> out) {
    auto& w = *static_cast<gptq_weights*>(self);
    const bool is_of_layer = id != weight_id::embedding && id != weight_id::final_norm && id != weight_id::head;
    if (!is_of_layer || w.replaced(id, layer).empty()) return w.original_.read(w.original_.self, id, layer, out);
    for (std::size_t r = 0; r < out.rows; ++r)
        std::copy_n(w.replaced(id, layer).begin() + static_cast<std::ptrdiff_t>(r * out.cols), out.cols, out.row(r));
    return status::ok;
}

status gptq_weights::see_site(const gptq_run& run, const std::vector<std::vector<std::uint32_t>>& windows, std::size_t layer,
                              site where) {
    model_config so_far = config_;
    so_far.layers = layer + 1;  // nothing behind this layer is of interest
    llama model;
    AQ_TRY(model.load(so_far, {}, source()));
    llama_session session;
    AQ_TRY(session.reset(model, *run.kernels, run.threads));
    AQ_TRY(hessian_.reset(where == site::mlp_middle ? config_.hidden : config_.dim));
    site_watcher watcher{hessian_, layer, where};
    session.observe({&watcher, site_watcher::see});
    for (const auto& window : windows) {
        session.clear();
        forward_result result;
        AQ_TRY(session.forward(window.data(), window.size(), logits_of::last, result));
    }
    return watcher.first_failure;
}

status gptq_weights::round(const gptq_run& run, weight_id id, std::size_t layer, std::vector<gptq_report>& reports) {
    const matrix_shape shape = shape_of(config_, id);
    std::vector<float> values(shape.rows * shape.cols);
    const matrix_view<float> w(values.data(), shape.rows, shape.cols);
    AQ_TRY(original_.read(original_.self, id, layer, w));
    coded_matrix coded, nearest;
    AQ_TRY(coded.reset(run.format, shape.rows, shape.cols));
    std::vector<status> failures(piece_count(run.threads, shape.rows), status::ok);
    run.threads.for_each(failures.size(), [&](std::size_t i, std::size_t) {
        const index_range rows = piece(shape.rows, failures.size(), i);
        failures[i] = quantize_gptq(w, plan_, rows.begin, rows.end, coded);
    });
    for (const status s : failures) AQ_TRY(s);
    gptq_report report{id, layer, {}, {}};
    AQ_TRY(quantize_weights(w, run.format, nullptr, nearest));
    AQ_TRY(measure_output(hessian_, w, coded, nullptr, report.gptq));
    AQ_TRY(measure_output(hessian_, w, nearest, nullptr, report.nearest));
    reports.push_back(report);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = coded.value(i / shape.cols, i % shape.cols);
    replaced(id, layer) = std::move(values);
    return status::ok;
}

status gptq_weights::quantize(const gptq_run& run, const std::vector<std::vector<std::uint32_t>>& windows,
                              std::vector<gptq_report>& reports) {
    if (windows.empty() || run.kernels == nullptr) return status::bad_argument;
    for (std::size_t layer = 0; layer < config_.layers; ++layer) {
        for (const linears_of_site& linears : all_linears()) {
            AQ_TRY(see_site(run, windows, layer, linears.where));
            AQ_TRY(plan_.make(hessian_, run.settings, eigen_cholesky()));
            for (const weight_id id : linears.ids) AQ_TRY(round(run, id, layer, reports));
        }
    }
    return status::ok;
}

}  // namespace aq::example
