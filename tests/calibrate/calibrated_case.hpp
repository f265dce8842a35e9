/// \file
/// A tiny model that was calibrated, and the same once more by hand: from what the finished model shows of its sites, with the functions of
/// the library one after the other.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "agilequant/quant/activation_search.hpp"
#include "agilequant/quant/refit.hpp"
#include "calibrate/calibrator.hpp"
#include "calibrate/cholesky.hpp"
#include "calibrate/tiny_case.hpp"

namespace aq_test {

/// All that a packed matrix is, but for the order of its channels.
inline std::string bytes_of(const aq::packed_weights& w) {
    const std::size_t rows = w.panels() * w.tile.nr, groups = rows * w.layout.groups;
    std::string all = std::to_string(w.bits) + " " + std::to_string(w.n) + " " + std::to_string(w.layout.k) + " " +
                      std::to_string(w.layout.group) + " ";
    const auto add = [&](const void* data, std::size_t bytes) {
        if (data != nullptr) all.append(static_cast<const char*>(data), bytes);
    };
    add(w.codes, w.panels() * w.panel_bytes());
    add(w.scales, (w.multipliers == nullptr ? groups : rows) * sizeof(float));
    add(w.zeros, groups);
    add(w.multipliers, groups);
    add(w.offsets, rows * sizeof(float));
    return all;
}

inline std::string text(const aq::site_format& f) {
    const aq::activation_format& a = f.activations;
    return std::to_string(f.is_float) + std::to_string(f.is_rotated) + " " + std::to_string(a.bits) +
           std::to_string(a.is_asymmetric) + std::to_string(a.is_static) + " " + std::to_string(aq::bits_of(a.fixed.scale)) +
           " " + std::to_string(a.fixed.zero) + " " + std::to_string(aq::bits_of(a.clip));
}

struct calibrated_case {
    calibrated_case(aq::models::family kind, const aq::model_config& c, aq::example::recipe wanted,
                    const aq::model_options& attention = {})
        : how(wanted), formats(attention), model(loaded(kind, c, weights)), windows(tiny_windows(c, 6)) {
        formats.float_weights = true;
        restart();
    }
    calibrated_case(const calibrated_case&) = delete;
    calibrated_case& operator=(const calibrated_case&) = delete;

    void restart() {
        REQUIRE(out.begin(model.config, model.source) == aq::status::ok);
        reports.clear();
    }
    [[nodiscard]] aq::status run(const aq::executor& threads = aq::serial_executor(), aq::example::calibration_events told = {}) {
        told.site = [this](const aq::example::site_report& r) { reports.push_back(r); };
        aq::example::calibrator all(model, how, {formats, &chosen_kernels(), threads});
        return all.run(windows, out, told);
    }
    /// Every matrix, format and exponent.
    [[nodiscard]] std::string bytes() const {
        std::string all;
        for (std::size_t layer = 0; layer < model.config.layers; ++layer) {
            for (const auto& [where, ids] : aq::example::linears_of(model.family)) {
                for (const aq::weight_id id : ids) all += bytes_of(out.at(id, layer));
                all += text(out.profile.format(layer, where));
                all.append(reinterpret_cast<const char*>(out.profile.exponents(layer, where)), out.profile.channels(where));
            }
        }
        return all;
    }

    aq::example::recipe how;
    aq::model_options formats;
    tiny_weights weights{tiny_seed};
    aq::models::loaded_model model;
    aq::example::token_windows windows;
    aq::example::quantized_weights out;
    std::vector<aq::example::site_report> reports;
};

/// What a calibrated model shows in a session, and what its weights have to be then.
template <class Family>
class by_hand {
public:
    explicit by_hand(calibrated_case& c) : case_(c) {
        shown_ = rows_shown(finished(c.formats.pruning), c.windows);
        for (std::size_t layer = 0; layer <= c.model.config.layers; ++layer)
            left_.push_back(tokens_left(finished(plan_before(c.formats.pruning, layer)), c.windows));
        aq::transformer<Family> exact;
        REQUIRE(exact.load(c.model.config, {}, c.model.source) == aq::status::ok);
        exact_ = rows_shown(exact, c.windows);
    }

    [[nodiscard]] aq::value_range range(std::size_t layer, aq::site where) const {
        aq::value_range range;
        for (const shown_rows& window : shown_)
            for (const float v : window.at(layer, static_cast<std::size_t>(where))) range = including(range, v);
        return range;
    }

    /// How the site is to be coded, by a search without rotation or with one, and what is left of the outputs' error then.
    [[nodiscard]] std::string searched(std::size_t layer, const aq::example::linears_of_site& linears, bool is_rotated,
                                       double& error) const {
        aq::trip_calibrator seen;
        aq::hessian outputs;
        REQUIRE(seen.reset(channels(linears.where)) == aq::status::ok);
        REQUIRE(outputs.reset(channels(linears.where)) == aq::status::ok);
        for (std::size_t w = 0; w < shown_.size(); ++w) {
            std::vector<float> x = rows(w, layer, linears.where);
            if (is_rotated) REQUIRE(aq::hadamard(view(x, linears.where)) == aq::status::ok);
            REQUIRE(seen.add(view(x, linears.where)) == aq::status::ok);
        }
        for (const aq::weight_id id : linears.ids) {
            std::vector<float> w = weight(id, layer, is_rotated);
            REQUIRE(outputs.add(view(w, linears.where)) == aq::status::ok);
        }
        const aq::activation_format& f = case_.how.sites[static_cast<std::size_t>(linears.where)].activations;
        aq::activation_search_settings settings;
        settings.bits = f.bits;
        settings.is_asymmetric = f.is_asymmetric;
        settings.is_static = f.is_static;
        settings.top_exponent = case_.how.top_exponent;
        aq::activation_search search;
        REQUIRE(search.reset(seen, outputs, settings) == aq::status::ok);
        std::vector<std::uint8_t> exponents(seen.channels());
        aq::searched_activations found;
        REQUIRE(search.run(exponents.data(), found) == aq::status::ok);
        error = found.best.error;
        return text(aq::site_format{false, found.best.format, is_rotated}) + std::string(exponents.begin(), exponents.end());
    }

    /// The packed matrix for what the report says of its site.
    [[nodiscard]] std::string packed(const aq::example::site_report& r, aq::weight_id id) const {
        const aq::example::recipe& how = case_.how;
        const std::size_t k = channels(r.where);
        aq::k_layout layout;
        REQUIRE(layout.make(k, how.weights.group, r.coding.exponents.data()) == aq::status::ok);
        std::vector<std::uint32_t> columns(k);
        aq::depth_order(layout.view(), columns.data());
        std::vector<float> values = weight(id, r.layer, r.coding.format.is_rotated);
        aq::coded_matrix coded;
        if (how.uses_gptq) {
            aq::hessian sums;
            aq::coding_loss loss;
            aq::gptq_plan plan;
            look_at_codes(r, sums, loss);
            REQUIRE(plan.make(sums, how.gptq, aq::example::eigen_cholesky(), columns.data()) == aq::status::ok);
            if (how.refits) REQUIRE(refit_weights(loss, plan, view(values, r.where)) == aq::status::ok);
            REQUIRE(quantize_gptq(view(values, r.where), how.weights, plan, coded) == aq::status::ok);
        } else {
            REQUIRE(quantize_weights(view(values, r.where), how.weights, columns.data(), coded) == aq::status::ok);
        }
        aq::packed_storage<> packed;
        REQUIRE(packed.assign(coded, std::move(layout)) == aq::status::ok);
        return bytes_of(packed.view());
    }

    /// Sum of the squares of what the rows of a site have of their own beside those of the float model, for the same tokens.
    [[nodiscard]] double distance_to_exact(std::size_t layer, aq::site where) const {
        double sum = 0.0;
        for (std::size_t w = 0; w < shown_.size(); ++w) {
            const std::vector<float> x = rows(w, layer, where), wanted = exact_rows(w, layer, where);
            for (std::size_t i = 0; i < x.size(); ++i) sum += static_cast<double>((x[i] - wanted[i]) * (x[i] - wanted[i]));
        }
        return sum;
    }

private:
    [[nodiscard]] aq::transformer<Family> finished(const aq::prune_plan& plan) const {
        aq::model_options o = case_.formats;
        o.pruning = plan;
        aq::transformer<Family> model;
        REQUIRE(model.load(case_.model.config, o, case_.out.source(), &case_.out.profile) == aq::status::ok);
        return model;
    }
    [[nodiscard]] std::size_t channels(aq::site where) const { return case_.out.profile.channels(where); }
    [[nodiscard]] aq::matrix_view<float> view(std::vector<float>& values, aq::site where) const {
        return {values.data(), values.size() / channels(where), channels(where)};
    }
    [[nodiscard]] const std::vector<float>& rows(std::size_t window, std::size_t layer, aq::site where) const {
        return shown_[window].at(layer, static_cast<std::size_t>(where));
    }
    /// What the float model has for the tokens that rows() are of.
    [[nodiscard]] std::vector<float> exact_rows(std::size_t window, std::size_t layer, aq::site where) const {
        const std::vector<float>& all = exact_[window].at(layer, static_cast<std::size_t>(where));
        const bool is_behind_pruning = where == aq::site::mlp || where == aq::site::mlp_middle;
        std::vector<float> x;
        for (const std::uint32_t t : left_[layer + (is_behind_pruning ? 1 : 0)][window]) {
            const auto first = all.begin() + static_cast<std::ptrdiff_t>(t * channels(where));
            x.insert(x.end(), first, first + static_cast<std::ptrdiff_t>(channels(where)));
        }
        return x;
    }
    [[nodiscard]] std::vector<float> weight(aq::weight_id id, std::size_t layer, bool is_rotated) const {
        const aq::matrix_shape shape = aq::shape_of(case_.model.config, id);
        std::vector<float> values(shape.rows * shape.cols);
        const aq::matrix_view<float> w(values.data(), shape.rows, shape.cols);
        REQUIRE(case_.model.source.read(case_.model.source.self, id, layer, w) == aq::status::ok);
        if (is_rotated) REQUIRE(aq::hadamard(w) == aq::status::ok);
        return values;
    }

    void look_at_codes(const aq::example::site_report& r, aq::hessian& sums, aq::coding_loss& loss) const {
        const aq::site_format& f = r.coding.format;
        const auto share = static_cast<float>(case_.how.follow);
        REQUIRE(sums.reset(channels(r.where)) == aq::status::ok);
        REQUIRE(loss.reset(channels(r.where)) == aq::status::ok);
        for (std::size_t w = 0; w < shown_.size(); ++w) {
            std::vector<float> x = rows(w, r.layer, r.where), codes = x;
            const std::vector<float> wanted = exact_rows(w, r.layer, r.where);
            REQUIRE(wanted.size() == x.size());
            for (std::size_t i = 0; i < x.size(); ++i) x[i] += aq::rounded(share * (wanted[i] - x[i]));
            const aq::matrix_view<float> targets = view(x, r.where), coded = view(codes, r.where);
            if (f.is_rotated) REQUIRE(aq::hadamard(targets) == aq::status::ok);
            if (f.is_rotated) REQUIRE(aq::hadamard(coded) == aq::status::ok);
            for (std::size_t t = 0; t < coded.rows && !f.is_float; ++t)
                decode_as_coded(coded.row(t), coded.cols, r.coding.exponents.data(), f.activations, coded.row(t));
            REQUIRE(sums.add(coded) == aq::status::ok);
            REQUIRE(loss.add(targets, coded) == aq::status::ok);
        }
    }

    calibrated_case& case_;
    std::vector<shown_rows> shown_, exact_;
    std::vector<std::vector<token_list>> left_;  // by layer, in front of it
};

}  // namespace aq_test
