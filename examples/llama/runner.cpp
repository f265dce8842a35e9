#include "llama/runner.hpp"

#include <agilequant/quant/trip_calibrator.hpp>

#include "llama/embedded.hpp"
#include "llama/failure.hpp"
#include "llama/terminal.hpp"

namespace aq::example {

namespace {

constexpr std::size_t calibration_tokens = 4096;

/// One calibrator for each site of each layer, fed by a session's observer.
class calibration {
public:
    explicit calibration(const model_config& config) : config_(config), sites_(config.layers * site_count) {
        for (std::size_t i = 0; i < sites_.size(); ++i) {
            require(sites_[i].reset(static_cast<site>(i % site_count) == site::mlp_middle ? config.hidden : config.dim),
                    "calibration");
        }
    }
    [[nodiscard]] site_observer observer() { return {this, see}; }

    [[nodiscard]] activation_profile fit(const precision& p, const model_options& options) const {
        require(first_failure_, "calibration");
        activation_profile profile;
        require(profile.reset(config_, options.sites), "calibration");
        for (std::size_t layer = 0; layer < config_.layers; ++layer) {
            for (std::size_t i = 0; i < site_count; ++i) {
                trip_format format;
                format.bits = options.sites[i].activations.bits;
                format.is_asymmetric = options.sites[i].activations.is_asymmetric;
                format.top_exponent = p.trip_k;
                const site s = static_cast<site>(i);
                require(sites_[layer * site_count + i].fit(format, profile.exponents(layer, s),
                                                           profile.format(layer, s).activations.fixed),
                        "calibration");
            }
        }
        return profile;
    }

private:
    static void see(void* self, std::size_t layer, site where, matrix_view<const float> x) {
        auto& c = *static_cast<calibration*>(self);
        const status s = c.sites_[layer * site_count + static_cast<std::size_t>(where)].add(x);
        if (c.first_failure_ == status::ok) c.first_failure_ = s;  // not thrown: a forward pass is noexcept
    }
    model_config config_;
    std::vector<trip_calibrator> sites_;
    status first_failure_ = status::ok;
};

}  // namespace

token_list tokens_of(const models::loaded_model& model, std::string_view text) {
    token_list result;
    for (const int token : model.tokenizer->encode(text)) {
        if (token < 0 || static_cast<std::size_t>(token) >= model.config.vocabulary)
            throw failure("tokenizer: token " + std::to_string(token) + " is beyond the model's vocabulary of " +
                          std::to_string(model.config.vocabulary));
        result.push_back(static_cast<std::uint32_t>(token));
    }
    return result;
}

token_list start_of(const models::loaded_model& model) {
    return model.bos ? token_list{static_cast<std::uint32_t>(*model.bos)} : token_list{};
}

activation_profile calibrate(const models::loaded_model& model, const precision& p, const settings& s, const token_list& text) {
    precision observed = p;
    observed.activation_bits = 16;
    observed.trip = "none";
    any_model reference;
    build(model, observed, nullptr, reference);
    any_session session;
    require(session.reset(reference, choose(s), threads_of(s)), "calibration");
    calibration sites(model.config);
    session.observe(sites.observer());
    progress shown("calibrating");
    const std::size_t all = std::min(text.size(), calibration_tokens), length = model.config.max_length;
    if (all == 0) throw failure("calibration: the text is empty");
    if (length <= start_of(model).size())
        throw failure("calibration: " + std::to_string(length) + " positions leave no room for a text");
    for (std::size_t first = 0; first < all;) {
        token_list window = start_of(model);
        for (; first < all && window.size() < length; ++first) window.push_back(text[first]);
        session.clear();
        forward_result result;
        require(session.forward(window.data(), window.size(), logits_of::last, result), "calibration");
        shown.show(first, all);
    }
    return sites.fit(p, options_of(p, model.config));
}

void build(const models::loaded_model& model, const precision& p, const activation_profile* profile, any_model& out) {
    if (model.quantized) profile = &model.quantized->profile;
    else if (!p.uses_trip()) profile = nullptr;
    require(out.load(model, options_of(p, model.config), profile), model.name);
}

void build(const models::loaded_model& model, const precision& p, const settings& s, any_model& out) {
    if (!p.uses_trip() || model.quantized) return build(model, p, nullptr, out);
    if (s.calibration.empty() && !s.model.empty())
        throw failure("--trip " + p.trip + " needs a text to calibrate on: add --calibration FILE");
    const token_list text =
        s.calibration.empty() ? tokens_of(model, calibration_text()) : tokens_of(model, read_file(s.calibration));
    const activation_profile profile = calibrate(model, p, s, text);
    build(model, p, &profile, out);
}

}  // namespace aq::example
