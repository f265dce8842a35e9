#include <agilequant/pack/file_writer.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>

#include "models/model_entries.hpp"
#include "models/model_file.hpp"

namespace aq::models {

namespace {

/// A file that takes its name when it is complete.
class new_file {
public:
    explicit new_file(std::filesystem::path path) : path_(std::move(path)), unfinished_(path_) {
        unfinished_ += ".unfinished";
        file_ = std::fopen(unfinished_.c_str(), "wb");
        if (file_ == nullptr) complain(errno);
    }
    ~new_file() {
        if (file_ != nullptr) std::fclose(file_);
        if (!is_finished_) std::remove(unfinished_.c_str());
    }
    new_file(const new_file&) = delete;
    new_file& operator=(const new_file&) = delete;

    [[nodiscard]] byte_sink sink() noexcept {
        return {this, [](void* self, const void* data, std::size_t size) {
                    new_file& f = *static_cast<new_file*>(self);
                    if (std::fwrite(data, 1, size, f.file_) == size) return status::ok;
                    f.error_ = errno;
                    return status::source_failed;
                }};
    }
    /// The error that the sink met; 0: none.
    [[nodiscard]] int error() const noexcept { return error_; }

    void finish() {
        if (std::fclose(std::exchange(file_, nullptr)) != 0) complain(errno);
        std::error_code error;
        std::filesystem::rename(unfinished_, path_, error);
        if (error) complain(error.value());
        is_finished_ = true;
    }
    [[noreturn]] void complain(int error) const {
        fail(path_.string(), "cannot be written (" + std::generic_category().message(error) + ")");
    }

private:
    std::filesystem::path path_, unfinished_;
    std::FILE* file_ = nullptr;
    int error_ = 0;
    bool is_finished_ = false;
};

/// Delivers the floats of a model while its file is written, one weight at a time.
struct float_reader {
    const loaded_model& model;
    std::vector<float> values;
    std::vector<std::pair<weight_id, std::size_t>> wanted;
    std::size_t next = 0;

    static status get(void* self, std::string_view, matrix_view<const float>& out) {
        auto& r = *static_cast<float_reader*>(self);
        const auto [id, layer] = r.wanted[r.next++];  // entries are asked for in the order in which they were added
        AQ_TRY(r.read(id, layer));
        const matrix_shape shape = shape_of(r.model.config, id);
        out = {r.values.data(), shape.rows, shape.cols};
        return status::ok;
    }
    [[nodiscard]] status read(weight_id which, std::size_t layer) {
        const matrix_shape shape = shape_of(model.config, which);
        values.resize(shape.rows * shape.cols);
        return model.source.read(model.source.self, which, layer, {values.data(), shape.rows, shape.cols});
    }
};

class model_writer {
public:
    model_writer(const std::filesystem::path& path, const loaded_model& model, quantized_weights& q)
        : file_(path), name_(path.string()), model_(model), q_(q), floats_{model, {}, {}, 0} {}

    /// The text must stay until finish().
    void add_text(const std::string& entry, const std::string& text) { require(writer_.add(entry, text), entry); }

    /// Matrices and formats of a layer.
    void add_layer(std::size_t layer) {
        for (const linears_of_site& linears : linears_of(model_.family)) {
            for (const weight_id id : linears.ids) {
                const packed_weights& w = q_.at(id, layer);
                if (w.codes == nullptr) add_floats(id, layer);
                else require(writer_.add(entry_name(id, layer), w), entry_name(id, layer));
            }
        }
        texts_.push_back(std::make_unique<std::string>(describe_sites(q_.profile, layer)));
        add_text(sites_entry(layer), *texts_.back());
    }

    /// Every weight of the family that is no matrix of a layer.
    void add_others() {
        for (std::size_t i = 0; i < weight_count; ++i) {
            const auto id = static_cast<weight_id>(i);
            if (!has_weight(model_.family, id) || is_matrix_of_layer(id) || (id == weight_id::head && is_tied())) continue;
            for (std::size_t layer = 0; layer < (is_of_layer(id) ? model_.config.layers : 1); ++layer) add_floats(id, layer);
        }
    }

    void finish() {
        const status s = writer_.write(file_.sink());
        if (file_.error() != 0) file_.complain(file_.error());
        require(s, "writing");
        file_.finish();
    }

private:
    void add_floats(weight_id id, std::size_t layer) {
        require(writer_.add(entry_name(id, layer), shape_of(model_.config, id), float_source{&floats_, float_reader::get}),
                entry_name(id, layer));
        floats_.wanted.emplace_back(id, layer);
    }
    /// Whether the head has the embedding's values: what turns the final norm into the head unties them.
    [[nodiscard]] bool is_tied() {
        require(floats_.read(weight_id::head, 0), "head");
        const std::vector<float> head = std::move(floats_.values);
        require(floats_.read(weight_id::embedding, 0), "embedding");
        const std::vector<float>& embedding = floats_.values;  // [vocabulary,dim], as the head: compared by bits, NaN and -0 too
        return std::memcmp(head.data(), embedding.data(), head.size() * sizeof(float)) == 0;
    }
    void require(status s, const std::string& entry) const {
        if (s != status::ok) fail(inside(name_, entry), message(s));
    }

    new_file file_;
    std::string name_;
    const loaded_model& model_;
    quantized_weights& q_;
    pack_writer writer_;
    float_reader floats_;
    std::vector<std::unique_ptr<std::string>> texts_;
};

}  // namespace

void write_model_file(const std::filesystem::path& path, const loaded_model& model, quantized_weights& q,
                      const precision& made_for) {
    model_writer writer(path, model, q);
    const std::string description = describe(model, made_for);
    writer.add_text(model_entry, description);
    if (!model.tokenizer_file.empty()) writer.add_text(tokenizer_entry, model.tokenizer_file);
    writer.add_others();
    for (std::size_t layer = 0; layer < model.config.layers; ++layer) writer.add_layer(layer);
    writer.finish();
}

void write_layer_file(const std::filesystem::path& path, const loaded_model& model, quantized_weights& q, std::size_t layer,
                      const std::string& mark) {
    model_writer writer(path, model, q);
    writer.add_text(mark_entry, mark);
    writer.add_layer(layer);
    writer.finish();
}

}  // namespace aq::models
