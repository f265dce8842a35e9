#include "models/model_file.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "models/load.hpp"
#include "models/model_entries.hpp"
#include "models/model_file_case.hpp"

using namespace aq_test;
using namespace aq::models;

namespace {

loaded_model load_file(const std::filesystem::path& path) { return load_model_file(mapped_file(path)); }

bool has_same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

void check_same_sites(const aq::activation_profile& a, const aq::activation_profile& b, std::size_t layers) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
        for (std::size_t i = 0; i < aq::site_count; ++i) {
            const aq::site_format &x = a.format(layer, static_cast<aq::site>(i)), &y = b.format(layer, static_cast<aq::site>(i));
            CAPTURE(layer);
            CAPTURE(i);
            CHECK(x.is_float == y.is_float);
            CHECK(x.is_rotated == y.is_rotated);
            if (x.is_float) continue;
            CHECK(x.activations.bits == y.activations.bits);
            CHECK(x.activations.is_asymmetric == y.activations.is_asymmetric);
            CHECK(x.activations.is_static == y.activations.is_static);
            CHECK(x.activations.fixed.zero == y.activations.fixed.zero);
            if (x.activations.is_static) CHECK(has_same_bits(x.activations.fixed.scale, y.activations.fixed.scale));
            CHECK(has_same_bits(x.activations.clip, y.activations.clip));
        }
    }
}

/// Every weight, packed or float, bit for bit; the packed ones where they lie in the file.
void check_same_weights(model_file_case& wanted, loaded_model& found) {
    const std::string_view file = found.files.front().bytes();
    for (std::size_t i = 0; i < aq::weight_count; ++i) {
        const auto id = static_cast<weight_id>(i);
        if (!has_weight(wanted.model.family, id)) continue;
        for (std::size_t layer = 0; layer < (aq::is_of_layer(id) ? wanted.model.config.layers : 1); ++layer) {
            CAPTURE(entry_name(id, layer));
            aq::packed_weights packed;
            if (is_matrix_of_layer(id)) {
                REQUIRE(found.source.packed(found.source.self, id, layer, packed) == aq::status::ok);
                REQUIRE((packed.codes == nullptr) == (wanted.q.at(id, layer).codes == nullptr));
            }
            if (packed.codes == nullptr) {
                CHECK(is_same(wanted.values(wanted.model.source, id, layer), wanted.values(found.source, id, layer)));
                continue;
            }
            CHECK(image_of(packed) == image_of(wanted.q.at(id, layer)));
            const auto at = reinterpret_cast<const char*>(packed.codes);
            CHECK((at > file.data() && at < file.data() + file.size()));
            const aq::matrix_shape shape = aq::shape_of(wanted.model.config, id);
            std::vector<float> none(shape.rows * shape.cols);
            CHECK(found.source.read(found.source.self, id, layer, {none.data(), shape.rows, shape.cols}) ==
                  aq::status::source_failed);
        }
    }
}

void check_same_model(const loaded_model& a, const loaded_model& b) {
    CHECK(a.name == b.name);
    CHECK(a.family == b.family);
    const aq::model_config &x = a.config, &y = b.config;
    for (const auto field :
         {&aq::model_config::vocabulary, &aq::model_config::dim, &aq::model_config::hidden, &aq::model_config::layers,
          &aq::model_config::heads, &aq::model_config::kv_heads, &aq::model_config::max_length})
        CHECK(x.*field == y.*field);
    CHECK(has_same_bits(x.rope_theta, y.rope_theta));
    CHECK(has_same_bits(x.norm_eps, y.norm_eps));
    CHECK(x.rope == y.rope);
    CHECK(a.bos == b.bos);
    CHECK(a.eos == b.eos);
    CHECK(a.tokenizer_file == b.tokenizer_file);
    CHECK(a.tokenizer->vocabulary() == b.tokenizer->vocabulary());
    CHECK(a.encode("abc abc") == b.encode("abc abc"));
}

bool is_float_here_and_there(weight_id id, std::size_t layer) {
    return layer == 0 ? id == weight_id::q || id == weight_id::up : id == weight_id::down || id == weight_id::v;
}

/// What is in a folder, one name after the other.
std::string names_in(const std::filesystem::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : " ") + name;
    return all;
}

}  // namespace

TEST_CASE("model file: comes back bit by bit and computes the same") {
    const temporary_folder folder;
    for (const family f : families) {
        for (const bool tied : {false, true}) {
            for (const is_float_matrix stays_float : {is_float_matrix{nullptr}, is_float_matrix{is_float_here_and_there}}) {
                CAPTURE(std::string(name_of(f)));
                CAPTURE(tied);
                CAPTURE(stays_float == nullptr);
                model_file_case c(f, tied, stays_float);
                const auto path = folder.path() / "tiny.aqm";
                write_model_file(path, c.model, c.q, c.made_for);
                CHECK(names_in(folder.path()) == "tiny.aqm");
                loaded_model found = load_file(path);
                check_same_model(c.model, found);
                CHECK(found.weights->tied() == tied);
                check_same_weights(c, found);
                REQUIRE(found.quantized != nullptr);
                CHECK(found.quantized->layers_done == 2);
                check_same_sites(c.q.profile, found.quantized->profile, 2);

                loaded_model direct;
                direct.family = f, direct.config = c.model.config, direct.source = c.q.source();
                const std::vector<float> logits = logits_of_model(direct, c.made_for, c.q.profile);
                loaded_model moved = std::move(found);  // the source stays good
                CHECK(is_same(logits_of_model(moved, moved.made_for, moved.quantized->profile), logits));
            }
        }
    }
}

TEST_CASE("model file: every field of a precision, marks and a tokenizer of llama2.c's kind") {
    const temporary_folder folder;
    model_file_case c(family::llama, false, nullptr, 261);
    c.model.tokenizer_file = llama2c_vocabulary({" a", "bc"});
    c.model.tokenizer = make_llama2c_tokenizer({"tokenizer.bin", c.model.tokenizer_file}, 261);
    c.model.bos = 1, c.model.eos = {1, 260};
    precision p;
    p.weight_bits = 3, p.activation_bits = 6, p.paper_sites = p.is_symmetric = p.is_two_level = true, p.group = 48;
    p.trip = "static", p.trip_k = 0, p.attention = "log2-half-ceiling", p.kv_bits = 4, p.kv_group = 16, p.rotate_keys = "no";
    p.prune = 0.2, p.prune_layers = "0,1";
    const auto path = folder.path() / "tiny.aqm";
    write_model_file(path, c.model, c.q, p);
    const loaded_model found = load(path);
    check_same_model(c.model, found);
    const precision& r = found.made_for;
    CHECK(r.weight_bits == 3);
    CHECK(r.activation_bits == 6);
    CHECK(r.paper_sites);
    CHECK(r.group == 48);
    CHECK(r.is_symmetric);
    CHECK(r.is_two_level);
    CHECK(r.trip == "static");
    CHECK(r.trip_k == 0);
    CHECK(r.attention == "log2-half-ceiling");
    CHECK(r.kv_bits == 4);
    CHECK(r.kv_group == 16);
    CHECK(r.rotate_keys == "no");
    CHECK(r.prune == 0.2);  // 0.2F might keep another token
    CHECK(r.prune_layers == "0,1");
    const std::string message = refusal([&] { return load(path, folder.write("tokenizer.bin", c.model.tokenizer_file)); });
    CHECK(contains(message, "tiny.aqm: has its tokenizer in it"));

    c.model.bos.reset(), c.model.eos = {}, c.model.name = "\x1B[31m";
    write_model_file(path, c.model, c.q, precision());
    const loaded_model plain = load(path);
    CHECK(!plain.bos);
    CHECK(plain.eos.empty());
    CHECK(plain.name == "model");
    CHECK(plain.made_for.weight_bits == 16);
    CHECK(plain.made_for.prune == 0.0);
}

TEST_CASE("model file: equal models are equal files, and lengths are the model's") {
    const temporary_folder folder;
    model_file_case a(family::opt), b(family::opt);
    write_model_file(folder.path() / "a", a.model, a.q, a.made_for);
    write_model_file(folder.path() / "b", b.model, b.q, b.made_for);
    CHECK(read_bytes(folder.path() / "a") == read_bytes(folder.path() / "b"));
    loaded_model found = load_file(folder.path() / "a");
    found.config.max_length = 20;  // as for a shorter context: the first of the learned positions
    CHECK(logits_of_model(found, found.made_for, found.quantized->profile).size() == 20 * 256);
}

TEST_CASE("model file: a layer is taken from a file of the same mark") {
    const temporary_folder folder;
    for (const family f : families) {
        model_file_case c(f), other(f, false, is_float_here_and_there);
        const auto path = folder.path() / "layer";
        write_layer_file(path, c.model, c.q, 1, "by hand 7");
        const mapped_file file(path);
        for (const char* mark : {"by hand 8", "", "by hand 77"}) CHECK(!read_layer_file(file, c.model, other.q, 1, mark));
        CHECK(!read_layer_file(file, c.model, other.q, 0, "by hand 7"));
        CHECK(other.q.at(weight_id::v, 1).codes == nullptr);
        REQUIRE(read_layer_file(file, c.model, other.q, 1, "by hand 7"));
        for (const auto& linears : linears_of(f))
            for (const weight_id id : linears.ids) CHECK(image_of(other.q.at(id, 1)) == image_of(c.q.at(id, 1)));
        check_same_sites(other.q.profile, c.q.profile, 2);
        CHECK(other.q.at(weight_id::up, 0).codes == nullptr);

        const std::string whole = read_bytes(path);
        for (std::size_t i = 0; i < whole.size(); i += i < 2048 ? 7 : 301) {
            std::string damaged = whole;
            damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
            CAPTURE(i);
            CHECK(!read_layer_file(mapped_file(folder.write("damaged", damaged)), c.model, other.q, 1, "by hand 7"));
            if (i % 5 != 0) continue;
            CHECK(!read_layer_file(mapped_file(folder.write("cut", whole.substr(0, i + 1))), c.model, other.q, 1, "by hand 7"));
        }
    }
    model_file_case c(family::llama), partial(family::llama, false, is_float_here_and_there);
    write_layer_file(folder.path() / "partial", partial.model, partial.q, 0, "m");
    const mapped_file file(folder.path() / "partial");
    REQUIRE(read_layer_file(file, c.model, c.q, 0, "m"));
    CHECK(c.q.at(weight_id::q, 0).codes == nullptr);
    CHECK(image_of(c.q.at(weight_id::k, 0)) == image_of(partial.q.at(weight_id::k, 0)));
}

TEST_CASE("model file: what cannot be written leaves nothing behind, and the old file as it was") {
    const temporary_folder folder;
    model_file_case c(family::bloom);
    const auto path = folder.write("old", "an old file"), inside_of_file = path / "new";
    const auto none = folder.path() / "none" / "new";
    const auto write = [&](const std::filesystem::path& to) {
        return refusal([&] { return write_model_file(to, c.model, c.q, c.made_for), 0; });
    };
    const auto is_untouched = [&] { return names_in(folder.path()) == "old" && read_bytes(path) == "an old file"; };
    CHECK(contains(write(none), "none/new: cannot be written (No such file"));
    CHECK(contains(write(inside_of_file), "old/new: cannot be written (Not a directory"));
    CHECK(is_untouched());

    const std::size_t reads = c.weights.reads();
    for (const unsigned n : {0U, 1U, 2U, 9U, 20U}) {  // while heads are compared, and while the file is written
        c.weights.fail_from(c.weights.reads() + n);
        CAPTURE(n);
        CHECK(contains(write(path), "old: "));
        CHECK(is_untouched());
    }
    c.weights.fail_from(static_cast<std::size_t>(-1));
    CHECK(c.weights.reads() > reads);

    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    for (const unsigned size : {0U, 4096U, 40000U}) {  // as on a disk that is full
        const rlimit limit{size, before.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
        const std::string message = write(path);
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
        CHECK(contains(message, "old: cannot be written (File too large)"));
        CHECK(is_untouched());
    }
    std::signal(SIGXFSZ, handler);

    std::filesystem::create_directory(folder.path() / "folder");
    folder.write("folder/in it", "x");
    CHECK(contains(write(folder.path() / "folder"), "folder: cannot be written ("));
    CHECK(names_in(folder.path()) == "folder old");
    CHECK(write(path) == "");
    CHECK(load_file(path).name == c.model.name);
}
