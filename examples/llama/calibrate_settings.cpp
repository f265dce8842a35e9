#include "llama/calibrate_settings.hpp"

#include <agilequant/core/crc32c.hpp>
#include <agilequant/version.hpp>
#include <algorithm>
#include <sstream>

#include "llama/embedded.hpp"
#include "llama/evaluate.hpp"
#include "llama/failure.hpp"
#include "llama/terminal.hpp"
#include "models/model_entries.hpp"

namespace aq::example {

namespace {

std::uint32_t checksum(const token_windows& windows) {
    std::uint32_t sum = 0;
    for (const auto& w : windows) {
        const std::size_t size = w.size();
        sum = crc32c(crc32c(sum, &size, sizeof size), w.data(), size * sizeof w[0]);
    }
    return sum;
}

}  // namespace

recipe recipe_of(const calibrate_options& o, const models::loaded_model& model) {
    const precision& p = o.common.wanted;
    if (p.weight_bits > 8) throw failure("--weights 16: there is nothing to quantize; it takes 2 to 8");
    if (o.budget != 0.0 && (p.activation_bits != 4 || o.budget < 4.0))
        throw failure("--budget " + number(o.budget, 2) + ": it takes --activations 4, and 4 to 8 bits");
    const model_options formats = options_of(p, model.config);
    recipe r;
    r.weights = formats.weights;
    r.weights.range = range_search::mean_square;
    r.uses_gptq = !o.nearest;
    r.gptq.damping = o.damping;
    r.refits = o.follow > 0.0 || p.activation_bits <= 8;
    r.follow = o.follow;
    for (std::size_t i = 0; i < site_count; ++i) {
        r.sites[i] = formats.sites[i];
        const bool is_middle = static_cast<site>(i) == site::mlp_middle;
        r.sites[i].is_rotated = o.rotate == "all" || (is_middle && (o.rotate == "middle" || o.rotate == "folded"));
    }
    r.tries_rotation = o.rotate == "search";
    if (p.uses_trip()) r.exponents = o.search == "paper" ? exponent_search::paper : exponent_search::output;
    r.top_exponent = p.trip_k;
    return r;
}

std::string mark_of(const calibrate_options& o, const models::loaded_model& model, const token_windows& windows) {
    const std::string profile = o.common.outlier_profile.empty() ? "" : read_file(o.common.outlier_profile);
    std::ostringstream text;
    text.precision(17);
    text << AQ_VERSION_MAJOR << '.' << AQ_VERSION_MINOR << '.' << AQ_VERSION_PATCH << ' ' << o.nearest << ' ' << o.damping << ' '
         << o.follow << ' ' << o.budget << ' ' << o.rotate << ' ' << o.search << ' ' << o.common.outliers << ' '
         << crc32c(0, profile.data(), profile.size()) << ' ' << windows.size() << ' ' << checksum(windows) << ' '
         << model.weights->checksum() << '\n'
         << models::describe(model, o.common.wanted);
    return text.str();
}

token_windows windows_of(const calibrate_options& o, const models::loaded_model& model) {
    const settings& s = o.common;
    if (s.calibration.empty() && !s.model.empty())
        throw failure("a text to calibrate on is needed with --model: add --calibration FILE");
    const std::string text = s.calibration.empty() ? std::string(calibration_text()) : read_file(s.calibration);
    token_windows windows;
    std::size_t taken = 0;
    for (const std::string_view part : texts_of(text, o.separator)) {
        for (text_window& w : windows_of(model, tokens_of(model, part), model.config.max_length, 0)) {
            if (taken >= o.tokens) return windows;
            w.inputs.resize(std::min(w.inputs.size(), o.tokens - taken));
            taken += w.inputs.size();
            windows.push_back(std::move(w.inputs));
        }
    }
    if (windows.empty()) throw failure("calibration: the text is empty");
    return windows;
}

void add_options(CLI::App& app, calibrate_options& o) {
    o.common.wanted.weight_bits = 4;
    o.common.wanted.activation_bits = 8;
    app.add_option("-o,--out", o.out, "The file to write")->required();
    app.add_option("--tokens", o.tokens, "Learn from that many tokens")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--separator", o.separator,
                   "What stands between the texts of the file, each of which begins a window (default: the file is one text)");
    app.add_flag("--nearest", o.nearest, "Round weights to nearest, not by GPTQ");
    app.add_option("--damping", o.damping, "GPTQ's, as a share of the mean diagonal of its Hessian")
        ->check(between(0.0, 10.0))
        ->capture_default_str();
    app.add_option("--follow", o.follow,
                   "Refit weights, before they are rounded, to what enters the quantized model's layer, 0, or the float "
                   "model's, 1, or between")
        ->check(between(0.0, 1.0))
        ->capture_default_str();
    app.add_option(
           "--rotate", o.rotate,
           "Sites whose activations are rotated by a Hadamard matrix when the model runs: the MLP's middle, all, or where the "
           "output's error says so; folded: the residual stream and heads, by changing the weights now, and the middle")
        ->check(CLI::IsMember({"none", "middle", "folded", "all", "search"}))
        ->capture_default_str();
    app.add_option("--search", o.search,
                   "TRIP's exponents and --trip-k at most: by the error of each site's output; or as in the paper")
        ->check(CLI::IsMember({"output", "paper"}))
        ->capture_default_str();
    app.add_option(
           "--budget", o.budget,
           "With --activations 4: give 8 bits to the sites that need them most, up to that many bits a multiply-add; 0: to none")
        ->check(between(0.0, 8.0))
        ->capture_default_str();
    app.add_option(
        "--report", o.report,
        "Write what is known of every site, its share of the final error too, as JSON (tools/calibration_plot.py draws it)");
    example::add_options(app, o.common, offered::pruning);
}

}  // namespace aq::example
