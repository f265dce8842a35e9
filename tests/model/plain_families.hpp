/// \file
/// OPT and BLOOM in plain loops, from the papers' definitions and Hugging Face's numbers.
#pragma once

#include "agilequant/model/bloom.hpp"
#include "agilequant/model/opt.hpp"
#include "model/plain_decoder.hpp"

namespace aq_test {

/// LayerNorm and biases, and an MLP with one activation between its linears.
template <class T>
class plain_with_biases : public plain_decoder<T> {
public:
    using plain_decoder<T>::plain_decoder;
    using typename plain_decoder<T>::row;

protected:
    virtual T activation(T x) const = 0;

    row norm(aq::weight_id id, std::size_t layer, const row& x) const override {
        const T count = static_cast<T>(x.size()), mean = std::accumulate(x.begin(), x.end(), T{0}) / count;
        T variance = 0;
        for (const T v : x) variance += (v - mean) * (v - mean) / count;
        row y = x;
        for (std::size_t i = 0; i < x.size(); ++i)
            y[i] = (x[i] - mean) / std::sqrt(variance + static_cast<T>(this->c_.norm_eps)) * this->weight(id, layer)[i] +
                   this->weight(aq::bias_of(id), layer)[i];
        return y;
    }
    void place(row&, std::size_t) const override {}
    bool has_biases() const override { return true; }
    row mlp(std::size_t layer, const row& n) const override {
        row middle = this->product(aq::weight_id::up, layer, n);
        for (T& v : middle) v = activation(v);
        return this->product(aq::weight_id::down, layer, middle);
    }
};

/// Zhang et al. 2022: a vector for each position is added to the embedding; ReLU.
template <class T>
class plain_opt : public plain_with_biases<T> {
public:
    using plain_with_biases<T>::plain_with_biases;
    using typename plain_decoder<T>::row;

private:
    row embed(std::uint32_t token, std::size_t position) const override {
        row x = this->row_of(aq::weight_id::embedding, token);
        this->add(this->row_of(aq::weight_id::positions, position), x);
        return x;
    }
    T bias_of_score(std::size_t, std::size_t) const override { return 0; }
    T activation(T x) const override { return std::max(x, T{0}); }
};

/// BigScience 2022: the embedding is normed, scores fall with the distance, GELU by tanh.
template <class T>
class plain_bloom : public plain_with_biases<T> {
public:
    using plain_with_biases<T>::plain_with_biases;
    using typename plain_decoder<T>::row;

private:
    row embed(std::uint32_t token, std::size_t) const override {
        return this->norm(aq::weight_id::embedding_norm, 0, this->row_of(aq::weight_id::embedding, token));
    }
    /// Hugging Face's build_alibi_tensor: powers of 2^(-8/n) with n the power of two below, then odd powers of its root.
    T bias_of_score(std::size_t head, std::size_t distance) const override {
        const double n = std::pow(2.0, std::floor(std::log2(static_cast<double>(this->c_.heads)))), h = static_cast<double>(head);
        const double base = std::pow(2.0, -std::pow(2.0, -(std::log2(n) - 3))),
                     extra = std::pow(2.0, -std::pow(2.0, -(std::log2(2 * n) - 3)));
        const double slope = h < n ? std::pow(base, h + 1) : std::pow(extra, 2 * (h - n) + 1);
        return static_cast<T>(-slope * static_cast<double>(distance));
    }
    T activation(T x) const override {
        return x / 2 * (1 + std::tanh(static_cast<T>(0.79788456080286536) * x * (1 + static_cast<T>(0.044715) * x * x)));
    }
};

}  // namespace aq_test
