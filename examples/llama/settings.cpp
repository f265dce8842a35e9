#include "llama/settings.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "llama/embedded.hpp"
#include "llama/failure.hpp"
#include "models/load.hpp"

namespace aq::example {

namespace {

const std::map<std::string, probability_coding> codings{
    {"softmax", probability_coding::softmax},
    {"log2-paper", probability_coding::log2_paper},
    {"log2-normalized", probability_coding::log2_normalized},
    {"log2-maximum", probability_coding::log2_maximum},
    {"log2-ceiling", probability_coding::log2_ceiling},
    {"log2-half-maximum", probability_coding::log2_half_maximum},
    {"log2-half-ceiling", probability_coding::log2_half_ceiling},
};

constexpr auto group = "Precision";  // of options, in a help text

void add_weights(CLI::App& app, settings& s) {
    precision& p = s.wanted;
    app.add_option("-w,--weights", p.weight_bits, "Bits of weights: 2 to 8, or 16 for float")
        ->check(CLI::Range(2, 8) | CLI::IsMember({16}))
        ->capture_default_str()
        ->group(group);
    app.add_option("-a,--activations", p.activation_bits,
                   "Bits of activations: 2 to 8, or 16 for float; below 8 they are asymmetric")
        ->check(CLI::Range(2, 8) | CLI::IsMember({16}))
        ->capture_default_str()
        ->group(group);
    app.add_flag("--paper-sites", p.paper_sites, "Keep the attention's input at 8 bits, as the paper does")->group(group);
    app.add_option("--group", p.group, "Weights that share a scale; 0: a whole row")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str()
        ->group(group);
    app.add_flag("--symmetric", p.is_symmetric, "Weights without zero points")->group(group);
    app.add_flag("--two-level", p.is_two_level,
                 "Scales of groups as small integers over one float a row; weights of 7 bits and fewer")
        ->group(group);
    app.add_option("--trip", p.trip,
                   "Powers of two for outlier channels of activations; static: scale and zero point calibrated too, token: both "
                   "from each token")
        ->check(CLI::IsMember({"none", "static", "token"}))
        ->capture_default_str()
        ->group(group);
    app.add_option("--trip-k", p.trip_k, "TRIP's largest exponent")->check(CLI::Range(0, 6))->capture_default_str()->group(group);
    app.add_option("--calibration", s.calibration, "Text that TRIP learns its exponents from (default: the embedded model's)")
        ->group(group);
}

void add_attention(CLI::App& app, precision& p) {
    app.add_option("--attention", p.attention, "How probabilities are coded")
        ->check(CLI::IsMember(codings))
        ->capture_default_str()
        ->group(group);
    app.add_option("--kv", p.kv_bits, "Bits of the key-value cache")
        ->check(CLI::IsMember({32, 8, 4}))
        ->capture_default_str()
        ->group(group);
    app.add_option("--kv-group", p.kv_group,
                   "Channels of a head that share a scale in the cache, a multiple of 16; 0: what is usual")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str()
        ->group(group);
    app.add_option("--rotate-keys", p.rotate_keys,
                   "Rotate keys and queries by a Hadamard matrix before keys are coded; auto: in 4 bits")
        ->check(CLI::IsMember({"auto", "yes", "no"}))
        ->capture_default_str()
        ->group(group);
}

void add_pruning(CLI::App& app, precision& p) {
    app.add_option("--prune", p.prune, "Share of a prompt's tokens that is gone after the last pruning layer")
        ->check(between(0.0, 0.99))
        ->capture_default_str()
        ->group(group);
    app.add_option("--prune-layers", p.prune_layers,
                   "Layers that prune, as 2,3 (from 0), each by the progressive ratio; half: the first three of the second half")
        ->capture_default_str()
        ->group(group);
}

/// An option whose value may be missing.
void add_outliers(CLI::App& app, settings& s) {
    app.add_option_function<std::vector<std::string>>(
           "--outliers",
           [&s](const std::vector<std::string>& values) {
               s.outliers = true;
               s.outlier_profile = values.empty() ? "" : values.front();
           },
           "Fold outlier channels into the model: the same function, harder to quantize. Those of a large model, from a file of "
           "its "
           "channels' maxima (.act_scales.safetensors), or made-up ones in the norms")
        ->expected(0, 1)
        ->option_text("[FILE]");
}

/// "2,3" or "half" -> layers, ascending.
std::vector<std::size_t> layers_of(const std::string& text, std::size_t layers) {
    std::vector<std::size_t> result;
    if (text == "half") {
        for (std::size_t l = layers / 2; l < layers && result.size() < 3; ++l) result.push_back(l);
        return result;
    }
    std::istringstream in(text);
    for (std::string item; std::getline(in, item, ',');) {
        char* end = nullptr;
        const unsigned long layer = std::strtoul(item.c_str(), &end, 10);
        if (item.empty() || item[0] == '-' || *end != '\0') throw failure("--prune-layers: '" + item + "' is not a layer");
        result.push_back(layer);
    }
    return result;
}

/// What a quantized model was made for, but for what the command line changes. failure: it asks for other codes.
precision stored_precision(const models::loaded_model& model, const settings& s) {
    for (const char* option : {"--weights", "--activations", "--paper-sites", "--group", "--symmetric", "--two-level", "--trip",
                               "--trip-k", "--outliers"}) {
        if (s.has(option)) throw failure(std::string(option) + ": " + model.name + " is quantized already");
    }
    precision p = model.made_for;
    if (s.has("--attention")) p.attention = s.wanted.attention;
    if (s.has("--kv")) p.kv_bits = s.wanted.kv_bits;
    if (s.has("--kv-group")) p.kv_group = s.wanted.kv_group;
    if (s.has("--rotate-keys")) p.rotate_keys = s.wanted.rotate_keys;
    if (s.has("--prune")) p.prune = s.wanted.prune;
    if (s.has("--prune-layers")) p.prune_layers = s.wanted.prune_layers;
    return p;
}

site_format format_of(const precision& p, site s) {
    site_format f;
    f.is_float = p.activation_bits > 8;
    if (f.is_float) return f;
    f.activations.bits = p.paper_sites && s == site::attention && p.activation_bits < 8 ? 8 : p.activation_bits;
    f.activations.is_asymmetric = f.activations.bits < 8 || p.uses_trip();
    f.activations.is_static = p.trip == "static";
    return f;
}

}  // namespace

CLI::Validator between(double low, double high) {
    const std::string range = "FLOAT in [" + CLI::detail::to_string(low) + " - " + CLI::detail::to_string(high) + "]";
    return CLI::Validator(
        [=](std::string& text) {
            double value = 0.0;
            const bool is_inside = CLI::detail::lexical_cast(text, value) && value >= low && value <= high;
            return is_inside ? std::string() : "'" + text + "' is not a " + range;
        },
        range);
}

void add_options(CLI::App& app, settings& s, offered which) {
    s.command = &app;
    app.add_option(
        "-m,--model", s.model,
        "Folder or .safetensors of a LLaMA, OPT or BLOOM as Hugging Face stores it, a llama2.c .bin, or what `calibrate` wrote "
        "(default: the embedded model)");
    app.add_option("--tokenizer", s.tokenizer,
                   "llama2.c tokenizer (default: looked for beside the model; a model of 256 tokens needs none)");
    add_outliers(app, s);
    app.add_option("--context", s.context,
                   "Positions that there is memory for; 0: the model's length, at most " + std::to_string(default_context))
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    if (which >= offered::weights) add_weights(app, s);
    if (which >= offered::attention) add_attention(app, s.wanted);
    if (which >= offered::pruning) add_pruning(app, s.wanted);
    app.add_option("-t,--threads", s.threads, "Threads; 0: one for each core")->check(CLI::Range(0, 1024))->capture_default_str();
    app.add_option("--isa", s.isa, "Instruction set of the kernels (default: AQ_ISA in the environment, or the best there is)");
}

bool settings::has(const char* option) const {
    const CLI::Option* const found = command == nullptr ? nullptr : command->get_option_no_throw(option);
    return found != nullptr && found->count() > 0;
}

opened_model::opened_model(const settings& s)
    : model_(s.model.empty() ? embedded_model() : models::load(s.model, s.tokenizer)), full_length_(model_.config.max_length) {
    if (s.context > full_length_) {
        throw failure(model_.name + ": " + std::to_string(s.context) + " positions are asked for, but the model has only " +
                      std::to_string(full_length_));
    }
    model_.config.max_length = s.context > 0 ? s.context : std::min(full_length_, default_context);
    require(validate(model_.config), model_.name + ": the configuration");
    wanted_ = model_.quantized ? stored_precision(model_, s) : s.wanted;
    if (s.outliers) outliers_ = fold_outliers(model_, s.outlier_profile);
}

void opened_model::rotate() {
    rotation_choice what;
    what.residual = model_.family != models::family::bloom;  // see can_rotate_residual
    rotated_ = std::make_unique<rotated_weights>(model_.config, model_.source, what);
    model_.source = rotated_->source();
}

const kernel_table& choose(const settings& s) {
    const kernel_table* kernels = nullptr;
    if (!s.isa.empty()) {
        require(find_kernels(s.isa.c_str(), isa::this_cpu(), kernels), "--isa " + s.isa);
    } else {
        const char* const name = std::getenv("AQ_ISA");
        require(choose_kernels(kernels), "AQ_ISA=" + std::string(name == nullptr ? "" : name));
    }
    return *kernels;
}

executor threads_of(const settings& s) {
#if AQ_OPENMP
    return openmp_executor(s.threads == 0 ? std::max(1U, std::thread::hardware_concurrency()) : s.threads);
#else
    if (s.threads > 1) throw failure("--threads " + std::to_string(s.threads) + ": this build has no OpenMP");
    return serial_executor();
#endif
}

model_options options_of(const precision& p, const model_config& config) {
    if (p.activation_bits <= 8 && p.weight_bits > 8)
        throw failure("--activations " + std::to_string(p.activation_bits) + " needs quantized weights: add --weights 4");
    if (p.uses_trip() && p.activation_bits > 8)
        throw failure("--trip " + p.trip + " needs quantized activations: add --activations 4");
    model_options o;
    o.float_weights = p.weight_bits > 8;
    o.weights.bits = p.weight_bits > 8 ? 8 : p.weight_bits;
    o.weights.is_asymmetric = !p.is_symmetric;
    o.weights.group = p.group;
    if (p.is_two_level) {
        if (p.weight_bits > 7)
            throw failure("--two-level is for weights of 7 bits and fewer, not " + std::to_string(p.weight_bits));
        o.weights.scales = group_scales::integers;
    }
    for (std::size_t i = 0; i < site_count; ++i) o.sites[i] = format_of(p, static_cast<site>(i));
    const auto coding = codings.find(p.attention);
    if (coding == codings.end()) throw failure("--attention " + p.attention + " is no coding of probabilities");
    o.coding = coding->second;
    o.kv_bits = p.kv_bits;
    if (p.kv_group % kv_step != 0) throw failure("--kv-group " + std::to_string(p.kv_group) + " is not a multiple of 16");
    o.kv_group = p.kv_group;
    o.rotates_keys = p.rotate_keys == "yes" || (p.rotate_keys == "auto" && p.kv_bits == 4);
    if (p.prune > 0.0) {
        const std::vector<std::size_t> layers = layers_of(p.prune_layers, config.layers);
        require(make_progressive_plan_at(p.prune, layers.data(), layers.size(), o.pruning), "--prune " + std::to_string(p.prune));
        require(validate(o.pruning, config.layers),
                "--prune-layers " + p.prune_layers + " in a model of " + std::to_string(config.layers) + " layers");
    }
    return o;
}

std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::ostringstream text;
    if (!in || !(text << in.rdbuf())) throw failure(path + ": cannot be read, or is empty");
    return std::move(text).str();
}

}  // namespace aq::example
