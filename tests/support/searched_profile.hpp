/// \file
/// The search of quant/activation_search.hpp over every site of a LLaMA, on what the model with these weights and float activations computes.
#pragma once

#include <vector>

#include "agilequant/quant/activation_search.hpp"
#include "llama/failure.hpp"
#include "llama/runner.hpp"
#include "support/model_case.hpp"

namespace aq_test {

/// What every site of a model sees of a text, and the weights behind it.
class observed_sites {
public:
    observed_sites(const aq::models::loaded_model& model, aq::example::precision p, const aq::example::token_list& text,
                   std::size_t sample_rows = aq::trip_calibrator::default_sample_rows)
        : model_(model), sites_(model.config.layers * aq::site_count), outputs_(sites_.size()) {
        using aq::example::require;
        for (std::size_t i = 0; i < sites_.size(); ++i) {
            const bool is_middle = static_cast<aq::site>(i % aq::site_count) == aq::site::mlp_middle;
            require(sites_[i].reset(is_middle ? model.config.hidden : model.config.dim, sample_rows), "a calibrator");
            require(outputs_[i].reset(sites_[i].channels()), "a hessian");
            add_weights(i / aq::site_count, static_cast<aq::site>(i % aq::site_count));
        }
        p.activation_bits = 16;
        aq::example::any_model reference;
        aq::example::build(model, p, nullptr, reference);
        aq::example::any_session session;
        require(session.reset(reference, aq::example::choose(serial_settings()), aq::serial_executor()), "calibration");
        session.observe({this, see});
        for (std::size_t first = 0; first < text.size();) {
            aq::example::token_list window = aq::example::start_of(model);
            for (; first < text.size() && window.size() < model.config.max_length; ++first) window.push_back(text[first]);
            session.clear();
            aq::forward_result result;
            require(session.forward(window.data(), window.size(), aq::logits_of::last, result), "calibration");
        }
        require(seen_, "calibration");
    }
    observed_sites(const observed_sites&) = delete;
    observed_sites& operator=(const observed_sites&) = delete;

    [[nodiscard]] std::size_t size() const { return sites_.size(); }
    [[nodiscard]] const aq::trip_calibrator& site(std::size_t i) const { return sites_[i]; }
    [[nodiscard]] const aq::hessian& outputs(std::size_t i) const { return outputs_[i]; }

    /// The search at every site; `found`, where not null, receives what it found.
    [[nodiscard]] aq::activation_profile search(const aq::activation_search_settings& settings,
                                                std::vector<aq::searched_activations>* found = nullptr) const {
        using aq::example::require;
        aq::activation_profile profile;
        require(profile.reset(model_.config), "a profile");
        for (std::size_t i = 0; i < sites_.size(); ++i) {
            aq::activation_search search;
            require(search.reset(sites_[i], outputs_[i], settings), "a search");
            aq::searched_activations result;
            const std::size_t layer = i / aq::site_count;
            const auto where = static_cast<aq::site>(i % aq::site_count);
            require(search.run(profile.exponents(layer, where), result), "a search");
            profile.format(layer, where).is_float = false;
            profile.format(layer, where).activations = result.best.format;
            if (found != nullptr) found->push_back(result);
        }
        return profile;
    }

private:
    static void see(void* self, std::size_t layer, aq::site where, aq::matrix_view<const float> x) {
        auto& o = *static_cast<observed_sites*>(self);
        const aq::status s = o.sites_[layer * aq::site_count + static_cast<std::size_t>(where)].add(x);
        if (o.seen_ == aq::status::ok) o.seen_ = s;
    }

    void add_weights(std::size_t layer, aq::site where) {
        using aq::weight_id;
        const std::vector<weight_id> ids = where == aq::site::attention ? std::vector{weight_id::q, weight_id::k, weight_id::v}
                                           : where == aq::site::attention_output ? std::vector{weight_id::o}
                                           : where == aq::site::mlp              ? std::vector{weight_id::gate, weight_id::up}
                                                                                 : std::vector{weight_id::down};
        for (const weight_id id : ids) {
            const aq::matrix_shape shape = aq::shape_of(model_.config, id);
            std::vector<float> w(shape.rows * shape.cols);
            using aq::example::require;
            require(model_.source.read(model_.source.self, id, layer, {w.data(), shape.rows, shape.cols}), "a weight");
            require(outputs_[layer * aq::site_count + static_cast<std::size_t>(where)].add({w.data(), shape.rows, shape.cols}),
                    "a weight");
        }
    }

    const aq::models::loaded_model& model_;
    std::vector<aq::trip_calibrator> sites_;
    std::vector<aq::hessian> outputs_;
    aq::status seen_ = aq::status::ok;
};

}  // namespace aq_test
