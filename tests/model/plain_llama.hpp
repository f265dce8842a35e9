/// \file
/// LLaMA in plain loops: RMSNorm, rotary positions by place in the cache, a gated MLP.
#pragma once

#include "model/plain_decoder.hpp"

namespace aq_test {

template <class T>
class plain_llama : public plain_decoder<T> {
public:
    using plain_decoder<T>::plain_decoder;
    using typename plain_decoder<T>::row;

private:
    row embed(std::uint32_t token, std::size_t) const override { return this->row_of(aq::weight_id::embedding, token); }

    row norm(aq::weight_id id, std::size_t layer, const row& x) const override {
        T sum = 0;
        for (const T v : x) sum += v * v;
        const T factor = 1 / std::sqrt(sum / static_cast<T>(x.size()) + static_cast<T>(this->c_.norm_eps));
        row y = x;
        for (std::size_t i = 0; i < x.size(); ++i) y[i] *= factor * this->weight(id, layer)[i];
        return y;
    }

    void place(row& heads, std::size_t position) const override {
        const std::size_t dim = this->c_.head_dim();
        for (std::size_t h = 0; h < heads.size(); h += dim)
            for (std::size_t pair = 0; pair < dim / 2; ++pair) {
                const double angle =
                    static_cast<double>(position) * std::pow(static_cast<double>(this->c_.rope_theta),
                                                             -2.0 * static_cast<double>(pair) / static_cast<double>(dim));
                const bool halves = this->c_.rope == aq::rope_pairing::halves;
                T &a = heads[h + (halves ? pair : 2 * pair)], &b = heads[h + (halves ? pair + dim / 2 : 2 * pair + 1)];
                const T cosine = static_cast<T>(std::cos(angle)), sine = static_cast<T>(std::sin(angle)),
                        turned = a * cosine - b * sine;
                b = a * sine + b * cosine;
                a = turned;
            }
    }

    T bias_of_score(std::size_t, std::size_t) const override { return 0; }
    bool has_biases() const override { return false; }

    row mlp(std::size_t layer, const row& n) const override {
        row gate = this->product(aq::weight_id::gate, layer, n);
        const row up = this->product(aq::weight_id::up, layer, n);
        for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
        return this->product(aq::weight_id::down, layer, gate);
    }
};

}  // namespace aq_test
