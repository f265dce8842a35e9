/// \file
/// Tiny models of every family as the calibrator takes them, windows of text for them, and what a session shows of their sites.
#pragma once

#include <numeric>
#include <utility>
#include <vector>

#include "agilequant/model/bloom.hpp"
#include "agilequant/model/opt.hpp"
#include "calibrate/layer_walk.hpp"
#include "calibrate/quantized_weights.hpp"
#include "support/tiny_model.hpp"

namespace aq_test {

struct llama_case {
    using family = aq::llama_family;
    static constexpr auto kind = aq::models::family::llama;
};
struct opt_case {
    using family = aq::opt_family;
    static constexpr auto kind = aq::models::family::opt;
};
struct bloom_case {
    using family = aq::bloom_family;
    static constexpr auto kind = aq::models::family::bloom;
};

/// Borrows the weights.
inline aq::models::loaded_model loaded(aq::models::family kind, const aq::model_config& c, tiny_weights& weights) {
    aq::models::loaded_model m;
    m.family = kind;
    m.config = c;
    m.source = weights.source();
    return m;
}

/// Windows of all lengths that there are, 1 among them.
inline aq::example::token_windows tiny_windows(const aq::model_config& c, std::size_t count) {
    aq::example::token_windows windows;
    for (std::size_t i = 0; i < count; ++i)
        windows.push_back(tiny_tokens(c, i == 1 ? 1 : c.max_length - i * 3 % c.max_length, 100 + i));
    return windows;
}

inline aq::prune_plan plan_of(std::initializer_list<std::pair<std::size_t, double>> entries) {
    aq::prune_plan plan;
    for (const auto& [layer, ratio] : entries) REQUIRE(plan.add(layer, ratio) == aq::status::ok);
    return plan;
}

/// The entries of a plan for the layers before `end`.
inline aq::prune_plan plan_before(const aq::prune_plan& plan, std::size_t end) {
    aq::prune_plan first;
    for (std::size_t i = 0; i < plan.count && plan.entries[i].layer < end; ++i)
        REQUIRE(first.add(plan.entries[i].layer, plan.entries[i].ratio) == aq::status::ok);
    return first;
}

/// A walk of a tiny model with the kernels of the test.
inline std::unique_ptr<aq::example::layer_walk> walk_through(const aq::models::loaded_model& m, const aq::model_options& formats,
                                                             const aq::executor& threads = aq::serial_executor()) {
    return aq::example::make_walk(m.family, m.config, m.source, {formats, &chosen_kernels(), threads});
}

/// What an observed session shows of one window.
class shown_rows {
public:
    shown_rows(std::size_t layers) : sites_(layers * aq::site_count) {}
    [[nodiscard]] aq::site_observer observer() { return {this, see}; }
    [[nodiscard]] const std::vector<float>& at(std::size_t layer, std::size_t where) const {
        return sites_[layer * aq::site_count + where];
    }

private:
    static void see(void* self, std::size_t layer, aq::site where, aq::matrix_view<const float> x) {
        auto& mine = static_cast<shown_rows*>(self)->sites_[layer * aq::site_count + static_cast<std::size_t>(where)];
        CHECK(mine.empty());
        for (std::size_t r = 0; r < x.rows; ++r) mine.insert(mine.end(), x.row(r), x.row(r) + x.cols);
    }
    std::vector<std::vector<float>> sites_;
};

/// Of each window, what a model shows in a session.
template <class Family>
std::vector<shown_rows> rows_shown(const aq::transformer<Family>& model, const aq::example::token_windows& windows) {
    std::vector<shown_rows> all(windows.size(), shown_rows(model.config().layers));
    auto session = session_of(model);
    for (std::size_t w = 0; w < windows.size(); ++w) {
        session.clear();
        session.observe(all[w].observer());
        forward(session, windows[w]);
    }
    return all;
}

/// Which tokens of each window are left after the last layer.
template <class Family>
std::vector<token_list> tokens_left(const aq::transformer<Family>& model, const aq::example::token_windows& windows) {
    std::vector<token_list> left;
    auto session = session_of(model);
    for (const token_list& tokens : windows) {
        session.clear();
        left.push_back(forward(session, tokens).kept);
    }
    return left;
}

}  // namespace aq_test
