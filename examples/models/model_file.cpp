#include "models/model_file.hpp"

#include "models/model_entries.hpp"

namespace aq::models {

namespace {

/// Takes the weights of a model out of its file, and remembers which entries it took.
class file_reader {
public:
    file_reader(const std::string& name, const pack_file& file) : name_(name), file_(file), is_taken_(file.size()) {}

    [[nodiscard]] named_bytes bytes(const std::string& entry) {
        std::string_view bytes;
        take(entry);
        require(file_.bytes(entry, bytes), entry);
        return {inside(name_, entry), bytes};
    }
    [[nodiscard]] bool has(const std::string& entry) const { return file_.find(entry) != file_.size(); }

    /// The matrices of a layer: those that are packed, in the order of linears_of(), with views of nothing for those that are floats.
    void read_matrices(const loaded_model& model, std::size_t layer, std::vector<packed_weights>& packed, weight_table& floats) {
        for (const linears_of_site& linears : linears_of(model.family)) {
            const std::size_t first = packed.size();
            for (const weight_id id : linears.ids) {
                packed.push_back(read_matrix(model, id, layer, floats));
                if (!share_input(packed[first], packed.back()))
                    refuse(entry_name(id, layer), "is packed for another input than " + entry_name(linears.ids.front(), layer));
            }
        }
    }

    void read_floats(const loaded_model& model, weight_id id, std::size_t layer, weight_table& floats) {
        const std::string entry = entry_name(id, layer);
        matrix_view<const float> values;
        take(entry);
        require(file_.floats(entry, values), entry);
        check_shape(values.shape(), model, id, entry);
        const std::size_t size = values.rows * values.cols * sizeof(float);
        floats.add(id, dtype::f32, {reinterpret_cast<const char*>(values.data), size});
    }

    [[noreturn]] void refuse(const std::string& entry, const std::string& sentence) const {
        fail(inside(name_, entry), sentence);
    }
    void require(status s, const std::string& entry) const {
        if (s != status::ok) refuse(entry, message(s));
    }
    /// What is left out would make the output silently wrong.
    void require_all_taken() const {
        for (std::size_t i = 0; i < file_.size(); ++i)
            if (!is_taken_[i]) refuse(in_quotes(file_.name(i)), "has no place in the model");
    }

private:
    void take(const std::string& entry) {
        if (!has(entry)) refuse(entry, "is missing");
        is_taken_[file_.find(entry)] = true;
    }

    [[nodiscard]] packed_weights read_matrix(const loaded_model& model, weight_id id, std::size_t layer, weight_table& floats) {
        const std::string entry = entry_name(id, layer);
        take(entry);
        packed_weights packed;
        if (file_.kind(file_.find(entry)) == pack_kind::floats) {
            read_floats(model, id, layer, floats);
            return packed;
        }
        require(file_.matrix(entry, packed), entry);
        check_shape({packed.n, packed.layout.k}, model, id, entry);
        floats.add(id, dtype::f32, {});  // the table counts layers
        return packed;
    }

    [[nodiscard]] static bool share_input(const packed_weights& a, const packed_weights& b) {
        return a.codes == nullptr || b.codes == nullptr || a.layout.id == b.layout.id;
    }

    void check_shape(matrix_shape shape, const loaded_model& model, weight_id id, const std::string& entry) const {
        const matrix_shape wanted = shape_of(model.config, id);
        if (shape == wanted) return;
        const auto text = [](matrix_shape m) { return "[" + std::to_string(m.rows) + "," + std::to_string(m.cols) + "]"; };
        refuse(entry, "is " + text(shape) + " but the model has " + text(wanted));
    }

    const std::string& name_;
    const pack_file& file_;
    std::vector<bool> is_taken_;
};

pack_file open(const named_bytes& file) {
    pack_file opened;
    if (const status s = opened.open(file.bytes.data(), file.bytes.size()); s != status::ok) fail(file.name, message(s));
    for (std::size_t i = 0; i < opened.size(); ++i) {
        if (const status s = opened.verify(i); s != status::ok) fail(inside(file.name, in_quotes(opened.name(i))), message(s));
    }
    return opened;
}

/// What stays float: every other weight. Without a head, it is the embedding.
void read_others(file_reader& reader, loaded_model& model) {
    for (std::size_t i = 0; i < weight_count; ++i) {
        const auto id = static_cast<weight_id>(i);
        const bool is_tied = id == weight_id::head && !reader.has(entry_name(id, 0));
        if (is_tied) model.weights->tie_head();
        if (!has_weight(model.family, id) || is_matrix_of_layer(id) || is_tied) continue;
        const std::size_t layers = is_of_layer(id) ? model.config.layers : 1;
        for (std::size_t layer = 0; layer < layers; ++layer) reader.read_floats(model, id, layer, *model.weights);
    }
}

void read_tokenizer(file_reader& reader, loaded_model& model) {
    if (reader.has(tokenizer_entry)) {
        const named_bytes tokenizer = reader.bytes(tokenizer_entry);
        model.tokenizer = make_llama2c_tokenizer(tokenizer, model.config.vocabulary);
        model.tokenizer_file = tokenizer.bytes;
        return;
    }
    model.tokenizer = make_byte_tokenizer();
    if (model.config.vocabulary != model.tokenizer->vocabulary())
        reader.refuse(tokenizer_entry, "is missing, and only a vocabulary of 256, a token per byte, needs none");
}

/// The matrices of one layer into their places; returns what is behind them.
const packed_weights* borrow_layer(const loaded_model& model, std::size_t layer, const packed_weights* packed,
                                   quantized_weights& out) {
    for (const linears_of_site& linears : linears_of(model.family))
        for (const weight_id id : linears.ids) out.borrow(id, layer, *packed++);
    return packed;
}

}  // namespace

bool is_model_file(std::string_view bytes) noexcept {
    return bytes.size() >= sizeof pack_file_magic && std::memcmp(bytes.data(), pack_file_magic, sizeof pack_file_magic) == 0;
}

loaded_model load_model_file(mapped_file&& mapping) {
    const named_bytes named = mapping.named();
    const pack_file file = open(named);
    file_reader reader(named.name, file);
    loaded_model model;
    read_description(reader.bytes(model_entry), model);
    const std::size_t layers = model.config.layers;
    model.weights = std::make_unique<weight_table>(model.config);
    // All that the file has is found before anything is made as large as its numbers say.
    std::vector<packed_weights> packed;
    for (std::size_t layer = 0; layer < layers; ++layer) reader.read_matrices(model, layer, packed, *model.weights);
    read_others(reader, model);
    read_tokenizer(reader, model);
    model.quantized = std::make_unique<quantized_weights>();
    quantized_weights& q = *model.quantized;
    reader.require(q.begin(model.config, model.weights->source()), model_entry);
    const packed_weights* next = packed.data();
    for (std::size_t layer = 0; layer < layers; ++layer) {
        next = borrow_layer(model, layer, next, q);
        read_sites(reader.bytes(sites_entry(layer)), layer, q.profile);
    }
    reader.require_all_taken();
    q.layers_done = layers;
    model.source = q.source();
    model.files.push_back(std::move(mapping));
    return model;
}

bool read_layer_file(const mapped_file& mapping, const loaded_model& model, quantized_weights& q, std::size_t layer,
                     const std::string& mark) {
    try {
        const named_bytes named = mapping.named();
        const pack_file file = open(named);
        file_reader reader(named.name, file);
        if (reader.bytes(mark_entry).bytes != mark) return false;
        weight_table unused(model.config);
        std::vector<packed_weights> packed;
        reader.read_matrices(model, layer, packed, unused);
        read_sites(reader.bytes(sites_entry(layer)), layer, q.profile);
        borrow_layer(model, layer, packed.data(), q);
        return true;
    } catch (const load_error&) {
        return false;
    }
}

}  // namespace aq::models
