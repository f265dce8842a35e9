/// \file
/// Which layers prune and how much: the paper's progressive ratio, explicit lists, and what becomes of the tokens.
/// Layers count from 0, as everywhere in the library. A plan is plain data: no allocation, freely copied.
#pragma once

#include <cmath>
#include <cstddef>

#include "agilequant/core/status.hpp"
#include "agilequant/prune/select.hpp"

namespace aq {

/// gamma = 1 - (1 - beta)^(1/layers), Agile-Quant's progressive ratio: pruned by gamma in each of `layers` layers, the share
/// beta is gone after the last one. bad_argument: beta is no prune ratio, or there is no layer.
[[nodiscard]] inline status progressive_ratio(double beta, std::size_t layers, double& gamma) noexcept {
    if (!is_prune_ratio(beta) || layers == 0) return status::bad_argument;
    gamma = layers == 1 ? beta : 1.0 - std::pow(1.0 - beta, 1.0 / static_cast<double>(layers));
    return status::ok;
}

/// Up to 64 pruning layers, ascending, each with its ratio. An empty plan prunes nothing.
struct prune_plan {
    static constexpr std::size_t capacity = 64;
    struct entry {
        std::size_t layer = 0;
        double ratio = 0.0;
    };
    entry entries[capacity] = {};
    std::size_t count = 0;

    /// The share that `layer` drops; 0 where it does not prune.
    [[nodiscard]] constexpr double ratio(std::size_t layer) const noexcept {
        for (std::size_t i = 0; i < count; ++i) {
            if (entries[i].layer == layer) return entries[i].ratio;
        }
        return 0.0;
    }

    /// How many of `rows` tokens that enter `layer` leave it.
    [[nodiscard]] constexpr std::size_t rows_after(std::size_t layer, std::size_t rows) const noexcept {
        return kept_rows(rows, ratio(layer));
    }

    /// bad_argument: the list is full, the layer is not behind the last one, or the ratio is none.
    [[nodiscard]] constexpr status add(std::size_t layer, double ratio_there) noexcept {
        if (count >= capacity || !is_prune_ratio(ratio_there)) return status::bad_argument;
        if (count != 0 && layer <= entries[count - 1].layer) return status::bad_argument;
        entries[count].layer = layer;
        entries[count].ratio = ratio_there;
        ++count;
        return status::ok;
    }
};

/// layers [count], ascending, with ratios [count] -> plan. bad_argument as prune_plan::add; null_pointer.
[[nodiscard]] inline status make_plan(const std::size_t* layers, const double* ratios, std::size_t count,
                                      prune_plan& plan) noexcept {
    if (count != 0 && (layers == nullptr || ratios == nullptr)) return status::null_pointer;
    prune_plan made;
    for (std::size_t i = 0; i < count; ++i) AQ_TRY(made.add(layers[i], ratios[i]));
    plan = made;
    return status::ok;
}

/// The progressive plan over `count` neighbouring layers: the share beta is gone after layer first + count - 1.
/// bad_argument: beta is no prune ratio, count is 0 or beyond the plan's capacity, or the layers overflow.
[[nodiscard]] inline status make_progressive_plan(double beta, std::size_t first, std::size_t count, prune_plan& plan) noexcept {
    double gamma = 0.0;
    AQ_TRY(progressive_ratio(beta, count, gamma));
    prune_plan made;
    for (std::size_t i = 0; i < count; ++i) AQ_TRY(made.add(first + i, gamma));
    plan = made;
    return status::ok;
}

/// The progressive plan over a list of layers [count], ascending. bad_argument as above; null_pointer.
[[nodiscard]] inline status make_progressive_plan_at(double beta, const std::size_t* layers, std::size_t count,
                                                     prune_plan& plan) noexcept {
    double gamma = 0.0;
    AQ_TRY(progressive_ratio(beta, count, gamma));
    if (layers == nullptr) return status::null_pointer;
    prune_plan made;
    for (std::size_t i = 0; i < count; ++i) AQ_TRY(made.add(layers[i], gamma));
    plan = made;
    return status::ok;
}

/// bad_argument where a plan, however it was filled, does not fit a model of `layers` layers.
[[nodiscard]] constexpr status validate(const prune_plan& plan, std::size_t layers) noexcept {
    if (plan.count > prune_plan::capacity) return status::bad_argument;
    for (std::size_t i = 0; i < plan.count; ++i) {
        const prune_plan::entry& e = plan.entries[i];
        if (e.layer >= layers || !is_prune_ratio(e.ratio)) return status::bad_argument;
        if (i != 0 && e.layer <= plan.entries[i - 1].layer) return status::bad_argument;
    }
    return status::ok;
}

/// s = 1 - sum over layers of the tokens left after each / (layers * rows): the share of token-layers that a prompt saves.
/// 0 for no layers or rows.
[[nodiscard]] constexpr double token_sparsity(const prune_plan& plan, std::size_t layers, std::size_t rows) noexcept {
    if (layers == 0 || rows == 0) return 0.0;
    double total = 0.0;
    std::size_t left = rows;
    for (std::size_t layer = 0; layer < layers; ++layer) {
        left = plan.rows_after(layer, left);
        total += static_cast<double>(left);
    }
    return 1.0 - total / (static_cast<double>(layers) * static_cast<double>(rows));
}

}  // namespace aq
