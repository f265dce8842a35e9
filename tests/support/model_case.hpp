/// \file
/// Perplexities of one model at many precisions, on the same windows of text, with the example's own code.
#pragma once

#include <doctest/doctest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "llama/evaluate.hpp"
#include "llama/failure.hpp"
#include "support/effort.hpp"

namespace aq_test {

/// One thread, so that tests which run side by side do not wait for each other; results do not depend on it.
inline aq::example::settings serial_settings() {
    aq::example::settings s;
    s.threads = 1;
    return s;
}

/// Whether a whole text would take minutes: in four bits scalar kernels are some 50 times slower than AVX2's, and a build with
/// sanitizers or an emulator is slower still. Then tests take a piece of it.
inline bool is_slow() { return slowdown > 1 || std::string(aq::example::choose(serial_settings()).isa) == "scalar"; }

/// What activations of less than 8 bits are: with a zero point, as in the examples, or symmetric about zero.
enum class low_bits { asymmetric, symmetric };

class model_case {
public:
    /// Borrows the model. `calibration`: for TRIP.
    model_case(const aq::models::loaded_model& model, std::vector<aq::example::text_window> windows,
               aq::example::token_list calibration)
        : model_(model), windows_(std::move(windows)), calibration_(std::move(calibration)) {}

    /// The evaluation of a model of this precision; with doctest's option --success its perplexity is printed.
    [[nodiscard]] aq::example::evaluation evaluate(const aq::example::precision& p, low_bits form = low_bits::asymmetric) const {
        using aq::example::require;
        const aq::example::settings s = serial_settings();
        aq::activation_profile profile;
        if (p.uses_trip()) profile = aq::example::calibrate(model_, p, s, calibration_);
        aq::model_options options = aq::example::options_of(p, model_.config);
        REQUIRE((form == low_bits::asymmetric || !p.uses_trip()));  // a profile has formats of its own
        for (aq::site_format& f : options.sites) f.activations.is_asymmetric &= form == low_bits::asymmetric;
        aq::example::any_model model;
        require(model.load(model_, options, p.uses_trip() ? &profile : nullptr), model_.name);
        aq::example::any_session session;
        require(session.reset(model, aq::example::choose(s), aq::example::threads_of(s)), model_.name);
        aq::example::evaluation e = aq::example::evaluate(session, windows_, model_.name);
        if (doctest::getContextOptions()->success) {
            std::printf("%-30s %-38s %-9s KV%-2d %9.4f  (%zu tokens)\n", model_.name.c_str(), p.name().c_str(),
                        form == low_bits::symmetric ? "symmetric" : "", p.kv_bits, e.perplexity(), e.scored());
        }
        return e;
    }
    [[nodiscard]] double perplexity(const aq::example::precision& p, low_bits form = low_bits::asymmetric) const {
        return evaluate(p, form).perplexity();
    }

private:
    const aq::models::loaded_model& model_;
    std::vector<aq::example::text_window> windows_;
    aq::example::token_list calibration_;
};

/// Weights and activations in groups of 32; what differs from there is set by name.
inline aq::example::precision precision_of(int weight_bits, int activation_bits) {
    aq::example::precision p;
    p.weight_bits = weight_bits;
    p.activation_bits = activation_bits;
    p.group = 32;
    return p;
}
inline aq::example::precision with_trip(aq::example::precision p, const char* form) {
    p.trip = form;
    return p;
}
inline aq::example::precision with_attention(aq::example::precision p, const char* coding) {
    p.attention = coding;
    return p;
}
inline aq::example::precision with_cache(aq::example::precision p, int bits) {
    p.kv_bits = bits;
    return p;
}

}  // namespace aq_test
