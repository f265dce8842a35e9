#include <memory>

#include "llama/failure.hpp"
#include "llama/sweep.hpp"
#include "llama/terminal.hpp"

namespace aq::example {

namespace {

constexpr std::size_t small_group = 32;

struct cache_form {
    int bits;
    std::size_t group;  ///< channels; max_head_dim: a whole head
    bool is_rotated;

    [[nodiscard]] std::string name() const {
        std::string text = bits == 32 ? "float" : std::to_string(bits) + " bits";
        if (group == small_group) text += ", groups of " + std::to_string(small_group);
        return is_rotated ? text + ", rotated" : text;
    }
    /// Bytes of a token in the caches of all layers.
    [[nodiscard]] std::size_t token_bytes(const model_config& c) const {
        kv_cache cache;
        require(cache.reset(c.kv_heads, c.head_dim(), 0, bits, group), "cache");
        return c.layers * cache.view().token_bytes();
    }
    void apply_to(precision& p) const {
        p.kv_bits = bits;
        p.kv_group = group;
        p.rotate_keys = is_rotated ? "yes" : "no";
    }
};

/// A head of 32 channels and fewer is one group whatever is asked for.
std::vector<cache_form> forms_for(std::size_t head_dim) {
    std::vector<cache_form> forms{{32, max_head_dim, false}, {8, max_head_dim, false}, {8, max_head_dim, true}};
    for (const std::size_t group : {max_head_dim, small_group}) {
        if (group == small_group && head_dim <= small_group) break;
        for (const bool is_rotated : {false, true}) forms.push_back({4, group, is_rotated});
    }
    return forms;
}

void sweep_caches(const sweep_options& o) {
    const sweep all(o);
    const model_config& c = all.config();
    const std::vector<std::string> codings{"softmax", "log2-ceiling", "log2-half-ceiling"};
    std::vector<std::string> head{"cache", "bytes a token", "of half precision"};
    for (const std::string& coding : codings) head.insert(head.end(), {coding, "change"});
    table rows(head);
    std::vector<double> in_float;  // of each coding, from the first row
    for (const cache_form& form : forms_for(c.head_dim())) {
        const std::size_t bytes = form.token_bytes(c), half = c.layers * c.kv_heads * c.head_dim() * 2 * sizeof(std::uint16_t);
        std::vector<std::string> row{form.name(), std::to_string(bytes),
                                     number(100 * static_cast<double>(bytes) / static_cast<double>(half), 1) + " %"};
        for (std::size_t i = 0; i < codings.size(); ++i) {
            precision p = all.wanted();
            form.apply_to(p);
            p.attention = codings[i];
            const double perplexity = all.evaluate(p, form.name() + ", " + codings[i]).perplexity();
            if (form.bits == 32) in_float.push_back(perplexity);
            row.insert(row.end(), {number(perplexity, 4), form.bits == 32 ? "" : change(perplexity, in_float[i])});
        }
        rows.add(row);
    }
    all.print_head(all.wanted().name());
    rows.print();
}

}  // namespace

void add_sweep_caches(CLI::App& app) {
    auto o = std::make_shared<sweep_options>();
    CLI::App& command = *app.add_subcommand(
        "caches", "Key-value caches of 32, 8 and 4 bits: bytes, and perplexity by three codings of the attention");
    add_text_options(command, o->text);
    add_options(command, o->common, offered::weights);
    command.callback([o] { sweep_caches(*o); });
}

}  // namespace aq::example
