#include <agilequant/core/crc32c.hpp>
#include <agilequant/version.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <sstream>

#include "calibrate/calibrator.hpp"
#include "llama/calibration_parts.hpp"
#include "llama/commands.hpp"
#include "llama/embedded.hpp"
#include "llama/evaluate.hpp"
#include "llama/failure.hpp"
#include "llama/terminal.hpp"
#include "models/model_entries.hpp"

namespace aq::example {

namespace {

struct calibrate_options {
    settings common;
    std::string out;
    std::string separator;
    std::size_t tokens = 16384;
    bool nearest = false;
    double damping = 0.01, follow = 0.5;
    std::string rotate = "none", search = "output";
};

recipe recipe_of(const calibrate_options& o, const models::loaded_model& model) {
    const precision& p = o.common.wanted;
    if (p.weight_bits > 8) throw failure("--weights 16: there is nothing to quantize; it takes 2 to 8");
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

std::uint32_t checksum(const token_windows& windows) {
    std::uint32_t sum = 0;
    for (const auto& w : windows) {
        const std::size_t size = w.size();
        sum = crc32c(crc32c(sum, &size, sizeof size), w.data(), size * sizeof w[0]);
    }
    return sum;
}

/// Everything that a layer's codes depend on, as text.
std::string mark_of(const calibrate_options& o, const models::loaded_model& model, const token_windows& windows) {
    const std::string profile = o.common.outlier_profile.empty() ? "" : read_file(o.common.outlier_profile);
    std::ostringstream text;
    text.precision(17);
    text << AQ_VERSION_MAJOR << '.' << AQ_VERSION_MINOR << '.' << AQ_VERSION_PATCH << ' ' << o.nearest << ' ' << o.damping << ' '
         << o.follow << ' ' << o.rotate << ' ' << o.search << ' ' << o.common.outliers << ' '
         << crc32c(0, profile.data(), profile.size()) << ' ' << windows.size() << ' ' << checksum(windows) << ' '
         << model.weights->checksum() << '\n'
         << models::describe(model, o.common.wanted);
    return text.str();
}

/// The text that is learned from, in runs of the model's length.
token_windows calibration_windows(const calibrate_options& o, const models::loaded_model& model) {
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

std::string codes_of(const site_report& r) {
    const activation_format& a = r.coding.format.activations;
    std::string text = r.coding.format.is_rotated ? "rotated" : "";
    const auto add = [&](const std::string& item) { text += (text.empty() ? "" : ", ") + item; };
    if (r.coding.format.is_float) return text;
    if (r.coding.top_exponent > 0) add("K " + std::to_string(r.coding.top_exponent));
    if (a.is_static) add("static");
    else if (a.clip < 1.0F) add("clip " + number(static_cast<double>(a.clip), 2));
    return text;
}

/// The row of a site.
void add_row(const site_report& r, table& rows) {
    const activation_format& a = r.coding.format.activations;
    double by_nearest = 0.0, by_both = 0.0;
    for (const weight_report& w : r.weights) by_nearest += w.by_nearest, by_both += w.by_both;
    rows.add({std::to_string(r.layer), models::name_of(r.where), r.coding.format.is_float ? "float" : std::to_string(a.bits),
              codes_of(r), number(static_cast<double>(r.range.low), 2) + " to " + number(static_cast<double>(r.range.high), 2),
              number(r.signal_to_noise_db(), 1), by_nearest == 0.0 ? "" : number(by_both / by_nearest, 2)});
}

void calibrate(const calibrate_options& o) {
    const kernel_table& kernels = choose(o.common);
    if (o.out.empty() || std::filesystem::is_directory(o.out)) throw failure("--out '" + o.out + "' is no name for a file");
    opened_model opened(o.common);
    const models::loaded_model& model = *opened;
    if (model.quantized) throw failure(model.name + " is quantized already");
    if (o.rotate == "folded") opened.rotate();
    const recipe how = recipe_of(o, model);
    const token_windows windows = calibration_windows(o, model);
    walk_options run;
    run.formats = options_of(o.common.wanted, model.config);
    run.kernels = &kernels;
    run.threads = threads_of(o.common);

    models::quantized_weights q;
    require(q.begin(model.config, model.source), "calibration");
    calibration_parts parts(o.out, mark_of(o, model, windows));
    if (const std::size_t done = parts.resume(model, q); done > 0)
        std::fprintf(stderr, "%zu of %zu layers are there from a run that was broken off\n", done, model.config.layers);
    table rows({"layer", "site", "bits", "coding", "range", "signal/noise dB", "error over nearest"});
    {
        progress shown("calibrating");
        calibration_events told;
        told.site = [&](const site_report& r) { add_row(r, rows); };
        told.layer = [&](std::size_t layer) { return parts.save(model, q, layer), status::ok; };
        told.progress = [&](double share) { shown.show(static_cast<std::size_t>(1e4 * share), 10000); };
        require(calibrator(model, how, run).run(windows, q, told), "calibration");
    }
    opened.restore_length();
    models::write_model_file(o.out, model, q, o.common.wanted);
    parts.remove(model.config.layers);
    std::printf("%s, %s, on %zu windows\n\n", model.name.c_str(), o.common.wanted.name().c_str(), windows.size());
    rows.print();
    std::printf("\n%s: %s\n", o.out.c_str(), bytes_text(std::filesystem::file_size(o.out)).c_str());
}

}  // namespace

void add_calibrate(CLI::App& app) {
    auto o = std::make_shared<calibrate_options>();
    o->common.wanted.weight_bits = 4;
    o->common.wanted.activation_bits = 8;
    CLI::App& command = *app.add_subcommand(
        "calibrate",
        "Quantize a model on a text, by GPTQ, layer by layer, into one file; a run that is broken off goes on where it was");
    command.add_option("-o,--out", o->out, "The file to write")->required();
    command.add_option("--tokens", o->tokens, "Learn from that many tokens")->check(CLI::PositiveNumber)->capture_default_str();
    command.add_option(
        "--separator", o->separator,
        "What stands between the texts of the file, each of which begins a window (default: the file is one text)");
    command.add_flag("--nearest", o->nearest, "Round weights to nearest, not by GPTQ");
    command.add_option("--damping", o->damping, "GPTQ's, as a share of the mean diagonal of its Hessian")
        ->check(between(0.0, 10.0))
        ->capture_default_str();
    command
        .add_option("--follow", o->follow,
                    "Refit weights, before they are rounded, to what enters the quantized model's layer, 0, or the float "
                    "model's, 1, or between")
        ->check(between(0.0, 1.0))
        ->capture_default_str();
    command
        .add_option("--rotate", o->rotate,
                    "Sites whose activations are rotated by a Hadamard matrix: the MLP's middle; that, and the others by "
                    "folding; all; or where the output's error says so")
        ->check(CLI::IsMember({"none", "middle", "folded", "all", "search"}))
        ->capture_default_str();
    command
        .add_option("--search", o->search,
                    "TRIP's exponents and --trip-k at most: by the error of each site's output; or as in the paper")
        ->check(CLI::IsMember({"output", "paper"}))
        ->capture_default_str();
    add_options(command, o->common, offered::pruning);
    command.callback([o] { calibrate(*o); });
}

}  // namespace aq::example
