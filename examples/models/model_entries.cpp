#include "models/model_entries.hpp"

#include <agilequant/pack/file_format.hpp>
#include <algorithm>

#include "models/json.hpp"

namespace aq::models {

namespace {

constexpr const char* weight_names[weight_count] = {"embedding",
                                                    "final_norm",
                                                    "head",
                                                    "attention_norm",
                                                    "q",
                                                    "k",
                                                    "v",
                                                    "o",
                                                    "mlp_norm",
                                                    "gate",
                                                    "up",
                                                    "down",
                                                    "positions",
                                                    "embedding_norm",
                                                    "embedding_norm_bias",
                                                    "final_norm_bias",
                                                    "attention_norm_bias",
                                                    "q_bias",
                                                    "k_bias",
                                                    "v_bias",
                                                    "o_bias",
                                                    "mlp_norm_bias",
                                                    "up_bias",
                                                    "down_bias"};
constexpr const char* site_names[site_count] = {"attention", "attention_output", "mlp", "mlp_middle"};

/// The index of a text in a list, or a load_error that names the field.
template <std::size_t n>
std::size_t one_of(const json_fields& fields, const char* name, const char* const (&choices)[n], const char* fallback) {
    const std::string text = fields.text(name, fallback);
    for (std::size_t i = 0; i < n; ++i)
        if (text == choices[i]) return i;
    fail(inside(fields.file(), name), "is " + in_quotes(text) + ", which is not known");
}

constexpr const char* family_names[] = {"llama", "opt", "bloom"};
constexpr const char* rope_names[] = {"halves", "interleaved"};
constexpr const char* trip_names[] = {"none", "static", "token"};
constexpr const char* rotate_names[] = {"auto", "yes", "no"};
constexpr const char* attention_names[] = {"softmax",      "log2-paper",        "log2-normalized",  "log2-maximum",
                                           "log2-ceiling", "log2-half-maximum", "log2-half-ceiling"};

constexpr std::int64_t any_group = std::int64_t{1} << 62;  // what a group may be is for packing and the cache to say

/// An integer from `low` to `high`, which has to be there.
std::int64_t integer(const json_fields& f, const char* name, std::int64_t low, std::int64_t high) {
    const json* value = f.find(name);
    if (value == nullptr) fail(inside(f.file(), name), "is missing");
    const bool fits =
        value->is_number_integer() && (!value->is_number_unsigned() || unsigned_below(*value, std::uint64_t{1} << 63));
    const std::int64_t number = fits ? value->get<std::int64_t>() : low - 1;
    if (number < low || number > high)
        fail(inside(f.file(), name), "must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
    return number;
}

/// 2 to 8 bits, or 16 for float.
int bits_or_float(const json_fields& f, const char* name) {
    const auto bits = static_cast<int>(integer(f, name, 2, 16));
    if (bits > 8 && bits != 16) fail(inside(f.file(), name), "must be 2 to 8, or 16 for float");
    return bits;
}

void read_config(const json_fields& f, model_config& c) {
    c.vocabulary = f.count("vocabulary", max_size);
    c.dim = f.count("dim", max_size);
    c.hidden = f.count("hidden", max_size);
    c.layers = f.count("layers", max_layers);
    c.heads = f.count("heads", max_size);
    c.kv_heads = f.count("kv_heads", max_size);
    c.max_length = f.count("max_length", max_kv_length);
    c.rope_theta = f.number("rope_theta", 0.0, 1e30);
    c.norm_eps = f.number("norm_eps", -1e-30, 1.0);
    c.rope = one_of(f, "rope", rope_names, "halves") == 0 ? rope_pairing::halves : rope_pairing::interleaved;
    check_heads(c, f.file(), {"dim", "heads", "kv_heads"});
}

void read_marks(const json_fields& f, loaded_model& model) {
    const auto token = [&](const json& value, const char* name) {
        const auto read = unsigned_below(value, model.config.vocabulary);
        if (!read) fail(inside(f.file(), name), "is no token");
        return static_cast<int>(*read);
    };
    if (const json* bos = f.find("bos")) model.bos = token(*bos, "bos");
    const json* eos = f.find("eos");
    if (eos == nullptr) return;
    if (!eos->is_array()) fail(inside(f.file(), "eos"), "is no list");
    for (const json& value : *eos) model.eos.push_back(token(value, "eos"));
}

/// Of tokens: not json_fields::number, whose float may keep another number of them.
double read_share(const json_fields& f) {
    const json* value = f.find("prune");
    const double share = value == nullptr ? 0.0 : value->is_number() ? value->get<double>() : -1.0;
    if (!(share >= 0.0 && share <= 0.99)) fail(inside(f.file(), "prune"), "must be a number from 0 to 0.99");
    return share;
}

/// "half", or numbers and commas: whether there are such layers is for the plan to say.
std::string read_layer_list(const json_fields& f) {
    const std::string text = f.text("prune_layers", "half");
    const bool is_list = text.size() <= 256 && text.find_first_not_of("0123456789,") == text.npos;
    if (!is_list && text != "half") fail(inside(f.file(), "prune_layers"), "is no list of layers");
    return text;
}

void read_precision(const json_fields& f, precision& p) {
    p.weight_bits = bits_or_float(f, "weight_bits");
    p.activation_bits = bits_or_float(f, "activation_bits");
    p.paper_sites = f.flag("paper_sites").value_or(false);
    p.group = static_cast<std::size_t>(integer(f, "group", 0, any_group));
    p.is_symmetric = f.flag("symmetric").value_or(false);
    p.is_two_level = f.flag("two_level").value_or(false);
    p.trip = trip_names[one_of(f, "trip", trip_names, "none")];
    p.trip_k = static_cast<int>(integer(f, "trip_k", 0, max_exponent));
    p.attention = attention_names[one_of(f, "attention", attention_names, "softmax")];
    p.kv_bits = static_cast<int>(integer(f, "kv_bits", 4, 32));
    if (p.kv_bits != 4 && p.kv_bits != 8 && p.kv_bits != 32) fail(inside(f.file(), "kv_bits"), "must be 4, 8 or 32");
    p.kv_group = static_cast<std::size_t>(integer(f, "kv_group", 0, any_group));
    if (p.kv_group % kv_step != 0) fail(inside(f.file(), "kv_group"), "must be a multiple of " + std::to_string(kv_step));
    p.rotate_keys = rotate_names[one_of(f, "rotate_keys", rotate_names, "auto")];
    p.prune = read_share(f);
    p.prune_layers = read_layer_list(f);
    if (p.activation_bits <= 8 && p.weight_bits > 8)
        fail(inside(f.file(), "activation_bits"), "is " + std::to_string(p.activation_bits) + " but the weights are float");
    if (p.uses_trip() && p.activation_bits > 8) fail(inside(f.file(), "trip"), "is '" + p.trip + "' but activations are float");
    if (p.is_two_level && p.weight_bits > 7) fail(inside(f.file(), "two_level"), "is for weights of 7 bits and fewer");
}

json describe(const site_format& format) {
    const activation_format& a = format.activations;
    json j{{"bits", format.is_float ? 16 : a.bits}, {"rotated", format.is_rotated}};
    if (format.is_float) return j;
    j["asymmetric"] = a.is_asymmetric;
    if (a.is_static) {
        j["scale"] = a.fixed.scale;
        j["zero"] = a.fixed.zero;
    } else {
        j["clip"] = a.clip;
    }
    return j;
}

site_format read_site(const json_fields& f) {
    site_format format;
    format.is_rotated = f.flag("rotated").value_or(false);
    activation_format& a = format.activations;
    a.bits = bits_or_float(f, "bits");
    format.is_float = a.bits == 16;
    if (format.is_float) {
        a = {};
        return format;
    }
    a.is_asymmetric = f.flag("asymmetric").value_or(false);
    a.is_static = f.find("scale") != nullptr;
    if (a.is_static) {
        a.fixed.scale = f.number("scale", 0.0, 1e38);
        a.fixed.zero = static_cast<int>(integer(f, "zero", -256, 255));
    } else {
        a.clip = f.number("clip", 0.0, 1.0, 1.0F);
    }
    if (!is_valid(a)) fail(f.file(), "is no format that activations can have");
    return format;
}

}  // namespace

std::string entry_name(weight_id id, std::size_t layer) {
    const std::string name = weight_names[static_cast<std::size_t>(id)];
    return is_of_layer(id) ? "layers." + std::to_string(layer) + "." + name : name;
}

std::string sites_entry(std::size_t layer) { return "layers." + std::to_string(layer) + ".sites"; }

const char* name_of(site s) noexcept { return site_names[static_cast<std::size_t>(s)]; }

std::string describe(const loaded_model& model, const precision& p) {
    const model_config& c = model.config;
    json j{{"version", model_file_version},
           {"name", is_pack_name(model.name) ? model.name : "model"},
           {"family", name_of(model.family)},
           {"vocabulary", c.vocabulary},
           {"dim", c.dim},
           {"hidden", c.hidden},
           {"layers", c.layers},
           {"heads", c.heads},
           {"kv_heads", c.kv_heads},
           {"max_length", c.max_length},
           {"rope_theta", c.rope_theta},
           {"norm_eps", c.norm_eps},
           {"rope", rope_names[c.rope == rope_pairing::halves ? 0 : 1]},
           {"eos", model.eos},
           {"weight_bits", p.weight_bits},
           {"activation_bits", p.activation_bits},
           {"paper_sites", p.paper_sites},
           {"group", p.group},
           {"symmetric", p.is_symmetric},
           {"two_level", p.is_two_level},
           {"trip", p.trip},
           {"trip_k", p.trip_k},
           {"attention", p.attention},
           {"kv_bits", p.kv_bits},
           {"kv_group", p.kv_group},
           {"rotate_keys", p.rotate_keys},
           {"prune", p.prune},
           {"prune_layers", p.prune_layers}};
    if (model.bos) j["bos"] = *model.bos;
    return j.dump(1);
}

void read_description(const named_bytes& text, loaded_model& model) {
    const json_fields f(text);
    if (const std::size_t version = f.count("version", 1000000); version != model_file_version)
        fail(inside(f.file(), "version"), "is " + std::to_string(version) + " but only 1 is read");
    model.name = f.text("name", "model");
    if (!is_pack_name(model.name)) fail(inside(f.file(), "name"), "is too long, or not fit for a terminal");
    model.family = static_cast<family>(one_of(f, "family", family_names, ""));
    read_config(f, model.config);
    read_marks(f, model);
    read_precision(f, model.made_for);
}

std::string describe_sites(const activation_profile& profile, std::size_t layer) {
    json j = json::object();
    for (std::size_t i = 0; i < site_count; ++i) j[site_names[i]] = describe(profile.format(layer, static_cast<site>(i)));
    return j.dump(1);
}

void read_sites(const named_bytes& text, std::size_t layer, activation_profile& profile) {
    bool is_there[site_count] = {};
    for_each_member(text, {}, [&](const std::string& name, const json& value) {
        const auto* const found = std::find(std::begin(site_names), std::end(site_names), name);
        if (found == std::end(site_names)) fail(inside(text.name, in_quotes(name)), "is no site");
        const auto i = static_cast<std::size_t>(found - site_names);
        const std::string object = value.dump();
        profile.format(layer, static_cast<site>(i)) = read_site(json_fields({inside(text.name, name), object}));
        is_there[i] = true;
    });
    for (std::size_t i = 0; i < site_count; ++i)
        if (!is_there[i]) fail(inside(text.name, site_names[i]), "is missing");
}

}  // namespace aq::models
