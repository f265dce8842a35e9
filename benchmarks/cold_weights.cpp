#include "cold_weights.hpp"

#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>

#include "data.hpp"
#include "names.hpp"

namespace aq_bench {

cold_weights::cold_weights(const float* w, std::size_t n, std::size_t k, const aq::weight_format& format) {
    require(aq::pack({w, n, k}, format, nullptr, original_), "packing weights");
    views_.push_back(original_.view());
}

void cold_weights::grow(std::size_t count) {
    while (views_.size() < count) {
        aq::packed_weights view = original_.view();
        const auto copy = [this](auto*& data, std::size_t elements) {
            if (data == nullptr) return;
            using element = std::remove_reference_t<decltype(*data)>;
            aq::aligned_buffer<std::uint8_t> bytes;
            require(bytes.reset(elements * sizeof(element)), "copies of weights");
            std::memcpy(bytes.data(), data, bytes.size());
            data = reinterpret_cast<element*>(bytes.data());
            memory_.push_back(std::move(bytes));
        };
        const std::size_t rows = view.panels() * view.tile.nr, groups = rows * view.layout.groups;
        copy(view.codes, view.panels() * view.panel_bytes());
        copy(view.scales, view.multipliers == nullptr ? groups : rows);
        copy(view.multipliers, groups);
        copy(view.zeros, groups);
        copy(view.offsets, rows);
        views_.push_back(view);
    }
}

std::shared_ptr<const cold_weights> weights_of(const product_input& input, const aq::weight_format& format) {
    static std::map<std::string, std::shared_ptr<cold_weights>> kept;
    using matrix_name = std::tuple<const float*, std::size_t, std::size_t>;  // an address may serve one shape after another
    static matrix_name matrix;
    const matrix_name wanted{input.w, input.shape.n, input.shape.k};
    if (matrix != wanted) kept.clear();
    matrix = wanted;
    std::shared_ptr<cold_weights>& found = kept[name_of(format)];
    if (found == nullptr) found = std::make_shared<cold_weights>(input.w, input.shape.n, input.shape.k, format);
    found->grow(input.copies);
    return found;
}

}  // namespace aq_bench
