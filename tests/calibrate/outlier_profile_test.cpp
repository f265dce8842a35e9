// Factors have the shape of the profile, and its outliers stay in their channels.
#include "calibrate/outlier_profile.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "models/files.hpp"
#include "models/mapped_file.hpp"
#include "support/skip.hpp"
#include "support/tiny_model.hpp"

using aq::site;
using aq::example::channel_maxima;
using aq::example::outlier_factors;
using aq::example::outliers_like;
using aq::models::family;
using namespace aq_test;

namespace {

constexpr site all_sites[] = {site::attention, site::attention_output, site::mlp, site::mlp_middle};

std::string bytes_of(const std::vector<float>& values, const std::string& dtype = "F32") {
    std::string bytes;
    for (const float v : values) bytes += element(v, dtype);
    return bytes;
}

/// A file of two layers by the names of a family, values 1, 2, 3 .. from `first` on in every vector, which may be left out or changed.
struct profile_file {
    std::vector<std::string> names;
    std::string prefix, without, other_values = "", dtype = "F32", other_shape = "";

    [[nodiscard]] std::string bytes(std::size_t layers = 2) const {
        safetensors_writer writer;
        float first = 1.0F;
        for (std::size_t layer = 0; layer < layers; ++layer) {
            for (std::size_t i = 0; i < names.size(); ++i, first += 8.0F) {
                const std::string name = prefix + std::to_string(layer) + "." + names[i];
                if (name == without && other_values.empty()) continue;
                const bool is_other = name == without;
                std::vector<float> values(i == 3 ? 8 : 4);
                for (std::size_t c = 0; c < values.size(); ++c) values[c] = first + static_cast<float>(c);
                writer.add(name, dtype, is_other ? other_shape : "[" + std::to_string(values.size()) + "]",
                           is_other ? other_values : bytes_of(values, dtype));
            }
        }
        return writer.file();
    }
};
const profile_file llama{{"self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"}, "model.layers.", ""};
const profile_file opt{{"self_attn.q_proj", "self_attn.out_proj", "fc1", "fc2"}, "model.decoder.layers.", ""};

/// A profile of `layers` layers of the same channels; the value of channel c is by(layer, site, c).
template <class By>
channel_maxima profile_of(std::size_t layers, std::size_t dim, std::size_t hidden, const By& by) {
    channel_maxima result{"made.safetensors", {}};
    for (std::size_t layer = 0; layer < layers; ++layer) {
        auto& sites = result.layers.emplace_back();
        for (std::size_t s = 0; s < aq::site_count; ++s) {
            sites[s].resize(static_cast<site>(s) == site::mlp_middle ? hidden : dim);
            for (std::size_t c = 0; c < sites[s].size(); ++c) sites[s][c] = by(layer, static_cast<site>(s), c);
        }
    }
    return result;
}

std::size_t above(const std::vector<float>& values, float limit) {
    return static_cast<std::size_t>(std::count_if(values.begin(), values.end(), [&](float v) { return v > limit; }));
}

std::vector<float> sorted(std::vector<float> values) {
    std::sort(values.begin(), values.end(), std::greater<>());
    return values;
}

/// Of those that are not 0, the upper one of two in the middle in descending order.
float median(const std::vector<float>& values) {
    const std::vector<float> in_order = sorted(values);
    return in_order[above(values, 0.0F) / 2];
}

}  // namespace

TEST_CASE("outlier profile: files of both families are read, site by site") {
    for (const profile_file& file : {llama, opt}) {
        for (const char* dtype : {"F32", "F16", "BF16"}) {
            profile_file stored = file;
            stored.dtype = dtype;
            const std::string bytes = stored.bytes();
            const channel_maxima profile = aq::example::read_channel_maxima({"/some/where/big.safetensors", bytes});
            CHECK(profile.name == "big.safetensors");
            REQUIRE(profile.layers.size() == 2);
            float first = 1.0F;
            for (std::size_t layer = 0; layer < 2; ++layer) {
                for (const site where : all_sites) {
                    const std::vector<float>& values = profile.at(layer, where);
                    REQUIRE(values.size() == (where == site::mlp_middle ? 8U : 4U));
                    for (std::size_t c = 0; c < values.size(); ++c) CHECK(values[c] == first + static_cast<float>(c));
                    first += 8.0F;
                }
            }
        }
    }
}

TEST_CASE("outlier profile: what is no profile is refused") {
    const auto refused = [](const std::string& bytes) {
        return refusal([&] { return aq::example::read_channel_maxima({"big.safetensors", bytes}); });
    };
    CHECK(refused(llama.bytes()) == "");
    CHECK(contains(refused(llama.bytes(0)), "is no profile of activations"));
    CHECK(contains(refused(std::string("abc")), "big.safetensors"));
    const auto changed = [&](const char* name, const std::string& values, const char* shape) {
        profile_file file = llama;
        file.without = name;
        file.other_values = values;
        file.other_shape = shape;
        return refused(file.bytes());
    };
    CHECK(contains(changed("model.layers.1.mlp.up_proj", "", ""), "'model.layers.1.mlp.up_proj' is missing"));
    CHECK(contains(changed("model.layers.0.mlp.down_proj", "", ""), "'model.layers.0.mlp.down_proj' is missing"));
    const std::string four = bytes_of({1.0F, 2.0F, 0.0F, 4.0F}), more = bytes_of({1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F});
    CHECK(changed("model.layers.1.mlp.up_proj", four, "[4]") == "");
    CHECK(contains(changed("model.layers.1.mlp.up_proj", four, "[2,2]"), "is not a vector"));
    CHECK(contains(changed("model.layers.0.mlp.up_proj", more, "[6]"), "has 6 channels, not 4"));
    for (const char* name : {"self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"})
        CHECK(contains(changed((std::string("model.layers.1.") + name).c_str(), more, "[6]"), "has 6 channels, not"));
    for (const float bad : {-1.0F, std::nanf(""), HUGE_VALF}) {
        CHECK(contains(changed("model.layers.1.mlp.up_proj", bytes_of({1.0F, 2.0F, bad, 4.0F}), "[4]"), "absolute values"));
    }
    CHECK(contains(changed("model.layers.1.mlp.up_proj", bytes_of({0.0F, 0.0F, 0.0F, 0.0F}), "[4]"), "is all 0"));
    CHECK(contains(refusal([] { return outliers_like({"none", {}}, family::llama, tiny_configs()[0]); }), "has no layer"));
}

TEST_CASE("outlier profile: the values of evenly spaced ranks, so that as large a share of channels is above any ratio") {
    random_source random(71);
    const channel_maxima profile = profile_of(7, 96, 200, [&](std::size_t, site, std::size_t c) {
        const float v = std::abs(random.value()) + 0.01F;
        return c % 31 == 3 ? v * 40.0F : v;
    });
    // Fewer channels than the profile has, and more.
    for (const aq::model_config& c :
         {tiny_config(20, 32, 28, 3, 4, 2, 8), tiny_config(20, 96, 200, 2, 4, 4, 8), tiny_config(20, 144, 500, 1, 4, 4, 8)}) {
        CAPTURE(text(c));
        const outlier_factors factors = outliers_like(profile, family::llama, c);
        REQUIRE(factors.layers.size() == c.layers);
        for (std::size_t layer = 0; layer < c.layers; ++layer) {
            const std::size_t theirs = (2 * layer + 1) * 7 / (2 * c.layers);
            for (const site where : all_sites) {
                CAPTURE(static_cast<int>(where));
                const std::vector<float>&from = profile.at(theirs, where), ranked = sorted(from);
                const std::vector<float> ours = sorted(factors.at(layer, where));
                const std::size_t count = where == site::mlp_middle         ? c.hidden
                                          : where == site::attention_output ? c.kv_dim()
                                                                            : c.dim;
                REQUIRE(ours.size() == count);
                const float ceiling = where == site::mlp_middle ? aq::example::largest_middle_factor : HUGE_VALF;
                std::size_t wrong = 0;
                for (std::size_t i = 0; i < count; ++i) {
                    const float expected = ranked[i * ranked.size() / count] / median(from);
                    wrong += ours[i] == std::min(std::max(expected, aq::example::least_factor), ceiling) ? 0U : 1U;
                }
                CHECK(wrong == 0);
                for (const float limit : {1.0F, 2.0F, 6.0F, 20.0F}) {
                    const std::size_t share = above(from, limit * median(from));
                    CHECK(above(ours, limit) == (share * count + ranked.size() - 1) / ranked.size());
                }
            }
        }
        for (const site where : all_sites) CHECK(factors.at(0, where) == outliers_like(profile, family::opt, c).at(0, where));
    }
}

TEST_CASE("outlier profile: outliers stay in their channels over the layers, and over the norms' two sites") {
    // Five outliers, of which each is largest in some layers; 16 of 128 channels are chosen, among them two outliers.
    const auto value = [](std::size_t layer, site where, std::size_t c) {
        const float ordinary =
            1.0F + static_cast<float>((c * 37 + layer * 11 + static_cast<std::size_t>(where) * 5) % 128) / 128.0F;
        return c % 25 == 7 ? 10.0F + static_cast<float>((c * 7 + layer * 3) % 10) : ordinary;
    };
    const channel_maxima profile = profile_of(12, 128, 256, value);
    const aq::model_config c = tiny_config(20, 32, 64, 6, 4, 4, 8);
    const outlier_factors factors = outliers_like(profile, family::llama, c);
    const auto outliers = [&](std::size_t layer, site where) {
        const std::vector<float>& f = factors.at(layer, where);
        std::set<std::size_t> found;
        for (std::size_t i = 0; i < f.size(); ++i) {
            if (f[i] > 4.0F) found.insert(i);
        }
        return found;
    };
    for (const site where : all_sites) {
        const std::set<std::size_t> first = outliers(0, where);
        CHECK(first.size() == (where == site::mlp_middle ? 3 : 2));  // of 5 in 128, and of 10 in 256, rounded up
        for (std::size_t layer = 0; layer < c.layers; ++layer) CHECK(outliers(layer, where) == first);
    }
    CHECK(outliers(0, site::attention) == outliers(0, site::mlp));
}

TEST_CASE("outlier profile: a channel that is large at one of the norms' sites only keeps its place there") {
    const channel_maxima profile = profile_of(8, 128, 128, [](std::size_t layer, site where, std::size_t c) {
        return where == site::mlp && c == 77 ? 30.0F : 1.0F + static_cast<float>((c * 37 + layer * 11) % 128) / 128.0F;
    });
    const outlier_factors factors = outliers_like(profile, family::llama, tiny_config(20, 8, 8, 8, 2, 2, 8));
    const auto place = [&](std::size_t layer) {
        const std::vector<float>& f = factors.at(layer, site::mlp);
        return std::max_element(f.begin(), f.end()) - f.begin();
    };
    for (std::size_t layer = 0; layer < 8; ++layer) {
        CHECK(place(layer) == place(0));
        CHECK(above(factors.at(layer, site::attention), 3.0F) == 0);
    }
}

TEST_CASE("outlier profile: dead channels do not count in the median, none shrinks far, and massive tokens are left out") {
    const channel_maxima profile = profile_of(1, 64, 64, [](std::size_t, site, std::size_t c) {
        return c < 40 ? 0.0F : c == 50 ? 1000.0F : 2.0F;  // more dead than alive
    });
    const aq::model_config c = tiny_config(20, 64, 64, 1, 4, 4, 8);
    const outlier_factors factors = outliers_like(profile, family::llama, c);
    for (const site where : all_sites) {
        std::vector<float> expected(64, 1.0F);
        std::fill(expected.begin(), expected.begin() + 40, aq::example::least_factor);
        expected[50] = where == site::mlp_middle ? aq::example::largest_middle_factor : 500.0F;
        CHECK(factors.at(0, where) == expected);
    }
    const outlier_factors bloom = outliers_like(profile, family::bloom, c);
    CHECK(bloom.at(0, site::mlp_middle).empty());
    for (const site where : {site::attention, site::attention_output, site::mlp})
        CHECK(bloom.at(0, where) == factors.at(0, where));
}

TEST_CASE("outlier profile: made-up factors are of the norms, one 24 and one in 32 large, in every layer the same") {
    const aq::model_config c = tiny_config(256, 256, 1024, 4, 4, 4, 512);
    const outlier_factors factors = aq::example::made_up_outliers(c);
    REQUIRE(factors.layers.size() == 4);
    const std::vector<float>& f = factors.at(0, site::attention);
    REQUIRE(f.size() == 256);
    CHECK(std::count(f.begin(), f.end(), 24.0F) == 1);
    CHECK(above(f, 12.0F) == 1);
    CHECK(above(f, 3.9F) == 9);
    CHECK(above(f, 1.4F) == 9);
    CHECK(above(f, 0.7F) == 256);
    CHECK(std::find(f.begin(), f.end(), 24.0F) - f.begin() == 63);  // of mt19937, whose numbers are the same everywhere
    for (std::size_t layer = 0; layer < 4; ++layer) {
        CHECK(factors.at(layer, site::attention) == f);
        CHECK(factors.at(layer, site::mlp) == f);
        CHECK(factors.at(layer, site::attention_output).empty());
        CHECK(factors.at(layer, site::mlp_middle).empty());
    }
}

TEST_CASE("outlier profile: those of large models keep their largest ratio and their share of outliers") {
    const std::filesystem::path folder = std::filesystem::path(AQ_SHARED_DATA) / "actstats";
    for (const char* name : {"opt-1.3b", "opt-2.7b", "tinyllama-1.1b"}) {
        const std::filesystem::path path = folder / (std::string(name) + ".act_scales.safetensors");
        if (!have(path)) continue;
        CAPTURE(std::string(name));
        const aq::models::mapped_file file(path);
        const channel_maxima profile = aq::example::read_channel_maxima(file.named());
        CHECK(profile.layers.size() == (contains(name, "2.7") ? 32 : contains(name, "opt") ? 24 : 22));
        const aq::model_config c = tiny_config(256, 256, 1024, 4, 4, 2, 512);
        const outlier_factors factors = outliers_like(profile, family::llama, c);
        for (std::size_t layer = 0; layer < 4; ++layer) {
            const std::vector<float>& from = profile.at((2 * layer + 1) * profile.layers.size() / 8, site::attention);
            const std::vector<float>& f = factors.at(layer, site::attention);
            const float m = median(from);
            CHECK(*std::max_element(f.begin(), f.end()) == *std::max_element(from.begin(), from.end()) / m);
            CHECK(above(f, 6.0F) == (above(from, 6.0F * m) * 256 + from.size() - 1) / from.size());
            CHECK(above(f, 6.0F) >= 1);
        }
    }
}
