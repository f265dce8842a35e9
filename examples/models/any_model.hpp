/// \file
/// A model and a session of whichever family a file holds: what the commands work with. Each call is one choice among the families.
#pragma once

#include <agilequant/model/bloom.hpp>
#include <agilequant/model/llama.hpp>
#include <agilequant/model/opt.hpp>
#include <variant>

#include "models/loaded_model.hpp"

namespace aq::example {

class any_model {
public:
    /// transformer::load of the loaded model's family.
    [[nodiscard]] status load(const models::loaded_model& from, const model_options& options,
                              const activation_profile* profile = nullptr) {
        switch (from.family) {
            case models::family::llama: model_.emplace<llama>(); break;
            case models::family::opt: model_.emplace<opt>(); break;
            case models::family::bloom: model_.emplace<bloom>(); break;
        }
        return std::visit([&](auto& model) { return model.load(from.config, options, from.source, profile); }, model_);
    }
    [[nodiscard]] std::size_t bytes() const {
        return std::visit([](const auto& model) { return model.bytes(); }, model_);
    }

private:
    friend class any_session;
    std::variant<llama, opt, bloom> model_;
};

class any_session {
public:
    /// session::reset; the model stays borrowed.
    [[nodiscard]] status reset(const any_model& from, const kernel_table& kernels, const executor& threads) {
        return std::visit([&](const auto& model) { return start(model, kernels, threads); }, from.model_);
    }
    void clear() {
        std::visit([](auto& s) { s.clear(); }, session_);
    }
    [[nodiscard]] status forward(const std::uint32_t* tokens, std::size_t count, logits_of which, forward_result& result) {
        return std::visit([&](auto& s) { return s.forward(tokens, count, which, result); }, session_);
    }
    void observe(site_observer observer) {
        std::visit([&](auto& s) { s.observe(observer); }, session_);
    }
    [[nodiscard]] std::size_t cache_bytes() const {
        return std::visit([](const auto& s) { return s.cache_bytes(); }, session_);
    }

private:
    template <class Family>
    [[nodiscard]] status start(const transformer<Family>& model, const kernel_table& kernels, const executor& threads) {
        return session_.template emplace<session<Family>>().reset(model, kernels, threads);
    }
    std::variant<llama_session, opt_session, bloom_session> session_;
};

}  // namespace aq::example
