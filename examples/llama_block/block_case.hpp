/// \file
/// What the tables of llama_block share: sizes, a block of synthetic weights, and who computes.
#pragma once

#include <agilequant/model/llama.hpp>
#include <random>
#include <string>
#include <vector>

namespace aq::example {

struct block_options {
    std::size_t prompt = 512, past = 512, repetitions = 5, threads = 0, group = 128;
    std::size_t dim = 4096, hidden = 11008, heads = 32, kv_heads = 32;
    std::string isa;
    bool all_sites = false;
    std::size_t blocks = 8;  // of the table of pruning
    bool is_pruned = false;  // whether that is wanted
};

/// Values of a given shape, cut from one long list at random places: a 7B block is made in a second.
class synthetic_values {
public:
    synthetic_values() : random_(7), values_(1U << 20U) {
        std::student_t_distribution<float> heavy_tails(7.0F);
        for (float& v : values_) v = 0.03F * heavy_tails(random_);
    }
    void fill(float* out, std::size_t count) {
        while (count > 0) {
            const std::size_t place = random_() % values_.size(), piece = std::min(count, values_.size() - place);
            std::memcpy(out, values_.data() + place, piece * sizeof(float));
            out += piece;
            count -= piece;
        }
    }
    static status read(void* self, weight_id id, std::size_t, matrix_view<float> out) {
        const bool is_gain = id == weight_id::attention_norm || id == weight_id::mlp_norm || id == weight_id::final_norm;
        for (std::size_t r = 0; r < out.rows; ++r) {
            if (is_gain) std::fill(out.row(r), out.row(r) + out.cols, 1.0F);
            else static_cast<synthetic_values*>(self)->fill(out.row(r), out.cols);
        }
        return status::ok;
    }

private:
    std::mt19937 random_;
    std::vector<float> values_;
};

/// Formats of a block: 16 activation bits are float everywhere.
model_options options_of(const block_options& o, int activation_bits);
/// The sizes of the block, or a failure that says which of them cannot be.
model_config shapes_of(const block_options& o);
/// Kernels and threads, as they are asked for.
void choose(const block_options& o, run_context& context);

/// Seconds of a prompt through the block as often as `blocks` says, pruned by several shares in several places, beside what follows from
/// the time of a block that is not.
void print_pruning(const block_options& o);

}  // namespace aq::example
