#include "models/model_entries.hpp"

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

void read_precision(const json_fields& f, precision& p) {
    p.weight_bits = static_cast<int>(f.count("weight_bits", 16));
    p.activation_bits = static_cast<int>(f.count("activation_bits", 16));
    p.paper_sites = f.flag("paper_sites").value_or(false);
    p.group = static_cast<std::size_t>(f.number("group", -1.0, static_cast<double>(max_size)));
    p.is_symmetric = f.flag("symmetric").value_or(false);
    p.is_two_level = f.flag("two_level").value_or(false);
    p.trip = trip_names[one_of(f, "trip", trip_names, "none")];
    p.attention = f.text("attention", "softmax");
    p.kv_bits = static_cast<int>(f.count("kv_bits", 32));
    p.kv_group = static_cast<std::size_t>(f.number("kv_group", -1.0, static_cast<double>(max_size), 0.0F));
    p.rotate_keys = rotate_names[one_of(f, "rotate_keys", rotate_names, "auto")];
    p.prune = static_cast<double>(f.number("prune", -1e-30, 0.99, 0.0F));
    p.prune_layers = f.text("prune_layers", "half");
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
    const std::size_t bits = f.count("bits", 16);
    format.is_float = bits == 16;
    if (format.is_float) return format;
    a.bits = static_cast<int>(bits);
    a.is_asymmetric = f.flag("asymmetric").value_or(false);
    a.is_static = f.find("scale") != nullptr;
    if (a.is_static) {
        a.fixed.scale = f.number("scale", 0.0, 1e38);
        a.fixed.zero = static_cast<int>(f.number("zero", -1024.0, 1024.0));
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
           {"name", model.name},
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
        for (std::size_t i = 0; i < site_count; ++i) {
            if (name != site_names[i]) continue;
            const std::string object = value.dump();
            profile.format(layer, static_cast<site>(i)) = read_site(json_fields({inside(text.name, name), object}));
            is_there[i] = true;
        }
    });
    for (std::size_t i = 0; i < site_count; ++i)
        if (!is_there[i]) fail(inside(text.name, site_names[i]), "is missing");
}

}  // namespace aq::models
